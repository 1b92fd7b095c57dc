from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nifbuild.data.splits import choose_splits, limited, set_aside
from nifbuild.errors import SpecError


@pytest.mark.parametrize(
    ("available", "named", "expected"),
    [
        (["train"], {}, {"train": "train"}),
        (["all"], {}, {"train": "all"}),
        (["train", "test"], {}, {"train": "train", "test": "test"}),
        (["training", "testing"], {}, {"train": "training", "test": "testing"}),
        (["test", "val", "train"], {}, {"train": "train", "validation": "val", "test": "test"}),
        # ImageNet's convention: `val` is what accuracy is reported on.
        (["train", "val"], {}, {"train": "train", "test": "val"}),
        (["train", "dev"], {"validation": "dev"}, {"train": "train", "validation": "dev"}),
        (
            ["train", "validation", "test"],
            {"test": "validation"},
            {"train": "train", "test": "validation"},
        ),
        (["a", "b", "train"], {"train": "a", "test": "b"}, {"train": "a", "test": "b"}),
        (["train", "unsupervised"], {}, {"train": "train"}),
    ],
)
def test_roles(
    spec: Any, available: list[str], named: dict[str, str], expected: dict[str, str]
) -> None:
    data = spec(source="hub", id="x", revision="main", splits=named)
    assert choose_splits(data, available) == expected


@pytest.mark.parametrize(
    ("available", "named", "path", "what", "fix"),
    [
        (["a", "b"], {}, "data.splits.train", "no split for training among 'a', 'b'", "name it"),
        # The images that are tested on are not those that are trained on.
        (["test"], {}, "data.splits.train", "no split for training among 'test'", "name it"),
        (["val"], {}, "data.splits.train", "no split for training among 'val'", "name it"),
        (["all"], {"test": "all"}, "data.splits.train", "no split for training", "name it"),
        (
            ["train", "testA"],
            {"test": "testa"},
            "data.splits.test",
            "the source has no split 'testa'",
            "did you mean 'testA'?\nits splits are 'train', 'testA'",
        ),
    ],
)
def test_missing_split(
    spec: Any, available: list[str], named: dict[str, str], path: str, what: str, fix: str
) -> None:
    with pytest.raises(SpecError) as caught:
        choose_splits(spec(source="hub", id="x", revision="main", splits=named), available)
    (problem,) = caught.value.problems
    assert (problem.path, problem.code) == (path, "missing-split")
    assert problem.what.startswith(what)
    assert problem.fix.startswith(fix)


labels = st.lists(st.integers(0, 5), min_size=8, max_size=200).map(np.array)


@given(labels, st.floats(0.05, 0.9), st.integers(0, 5))
def test_set_aside_is_a_stratified_partition(labels: np.ndarray, share: float, seed: int) -> None:
    try:
        stay, aside = set_aside("test", labels, share, seed)
    except SpecError:
        assert share * len(labels) < 6.5
        return
    assert sorted([*stay, *aside]) == list(range(len(labels)))
    for label in np.unique(labels):
        count, taken = (labels == label).sum(), (labels[aside] == label).sum()
        assert taken < count  # training keeps at least one
        assert abs(taken - share * count) <= 1
    again = set_aside("test", labels, share, seed)
    assert np.array_equal(again[1], aside)


def test_the_share_of_all_is_met_where_each_class_alone_would_round_down() -> None:
    labels = np.repeat(np.arange(10), 14)  # 1.4 of each class
    _, aside = set_aside("validation", labels, 0.1, 0)
    assert len(aside) == 14


def test_rounding_favours_the_classes_that_lose_most() -> None:
    labels = np.repeat([0, 1, 2], [11, 17, 10])  # 1.1, 1.7 and 1 are 1, 2 and 1 of 3.8
    _, aside = set_aside("test", labels, 0.1, 0)
    assert np.bincount(labels[aside]).tolist() == [1, 2, 1]


def test_seed_and_role_each_change_the_choice() -> None:
    labels = np.repeat([0, 1], 500)
    first, other_seed = (set_aside("test", labels, 0.2, seed)[1] for seed in (0, 1))
    other_role = set_aside("validation", labels, 0.2, 0)[1]
    for other in (other_seed, other_role):
        assert len(other) == len(first)
        assert 10 < len(np.intersect1d(first, other)) < 80  # by chance 40 of 200


def test_the_choice_is_the_same_for_good() -> None:
    assert set_aside("test", np.repeat([0, 1], 8), 0.25, 7)[1].tolist() == [1, 7, 14, 15]
    assert limited(16, 4, 7).tolist() == [5, 8, 13, 14]


def test_a_share_that_is_no_image() -> None:
    with pytest.raises(SpecError) as caught:
        set_aside("validation", np.array([0, 0, 1]), 0.1, 0)
    (problem,) = caught.value.problems
    assert problem.what == "a share of 0.1 of 3 images is no image"
    assert problem.path == "data.validation"
    assert "set it to 0" in problem.fix


def test_a_smaller_limit_is_a_subset() -> None:
    small, large = limited(1000, 50, 3), limited(1000, 200, 3)
    assert (len(small), len(large)) == (50, 200)
    assert set(small) < set(large)
    assert np.array_equal(limited(10, 50, 3), np.arange(10))
    assert not np.array_equal(limited(1000, 50, 4), small)
