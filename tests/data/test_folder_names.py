"""Names of folders and classes: splits in other spellings, Unicode, and what is left out."""

import json
import os
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest

from nifbuild.data import open_data
from nifbuild.data.relabel import relabelled
from nifbuild.errors import Problem, RunError, SpecError

NONE = {"validation": 0, "test": 0}
COMPOSED, DECOMPOSED = "caf\N{LATIN SMALL LETTER E WITH ACUTE}", "cafe\N{COMBINING ACUTE ACCENT}"


def problem_of(spec: Any, root: Path, **fields: Any) -> Problem:
    with pytest.raises((SpecError, RunError)) as caught:
        open_data(spec(source="imagefolder", path=root, **fields))
    (problem,) = caught.value.problems
    return problem


def of_splits(folder: Any, *splits: str, within: str = "") -> Path:
    root: Path = folder({f"{split}/{within}{label}": 2 for split in splits for label in "ab"})
    return root


@pytest.mark.parametrize(
    ("names", "sizes"),
    [
        (("Train", "Test"), {"train": 4, "test": 4}),
        (("TRAIN", "VAL", "TEST"), {"train": 4, "validation": 4, "test": 4}),
        (("Training", "Testing"), {"train": 4, "test": 4}),
        (("Train", "Dev"), {"train": 4, "test": 4}),  # as `train` and `dev`
    ],
)
def test_split_folders_in_capitals(names: Any, sizes: Any, spec: Any, folder: Any) -> None:
    catalog = open_data(spec(source="imagefolder", path=of_splits(folder, *names), validation=0))
    assert catalog.class_names == ("a", "b")
    assert catalog.sizes == sizes
    assert catalog.notes == ()


@pytest.mark.parametrize(
    ("names", "fix"),
    [
        (("train_set", "test_set"), "`splits: {test: test_set, train: train_set}`"),
        (("seg_train", "seg_test"), "`splits: {test: seg_test, train: seg_train}`"),
        (("trainset", "valset"), "`splits: {train: trainset, validation: valset}`"),
        (("train2017", "val2017"), "`splits: {train: train2017, validation: val2017}`"),
        (("Train-Images", "Test Images"), "'Test Images' to 'test', 'Train-Images' to 'train'"),
        (("test", "val"), "add a folder `train`"),
        (("train", "seg_test"), "`splits: {test: seg_test}`"),
    ],
)
def test_folders_that_are_called_nearly_as_splits(
    names: Any, fix: str, spec: Any, folder: Any
) -> None:
    root = of_splits(folder, *names)
    problem = problem_of(spec, root)
    assert fix in problem.fix
    assert problem.code == "unused-split"
    if "{train: " in fix or ", train: " in fix:
        given = dict(part.split(": ") for part in fix[len("`splits: {") : -2].split(", "))
        catalog = open_data(spec(source="imagefolder", path=root, splits=given, **NONE))
        assert catalog.class_names == ("a", "b")
        assert catalog.sizes["train"] == 4


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({"Train": 4, "Test": 4}, "are called as splits are, not classes"),
        ({"a/train": 2, "a/test": 2, "b/train": 2, "b/test": 2}, "has folders of splits in it"),
        ({"train/a": 2, "train/b": 2, "Train/a": 2}, "differ in case only"),
    ],
)
def test_splits_in_the_wrong_place(tree: Any, words: str, spec: Any, folder: Any) -> None:
    assert words in problem_of(spec, folder(tree)).what


@pytest.mark.parametrize(
    "tree",
    [
        {"bus": 4, "freight_train": 4, "train": 4},
        {"bus/a": 4, "freight train/a": 4, "test tube": 4},
        {"dev board/x": 4, "laptop/x": 4},
    ],
)
def test_classes_that_are_called_as_splits_are(tree: Any, spec: Any, folder: Any) -> None:
    catalog = open_data(spec(source="imagefolder", path=folder(tree), **NONE))
    assert catalog.class_names == tuple(sorted({name.split("/")[0] for name in tree}))


def test_what_is_not_used_is_counted_and_said(spec: Any, folder: Any) -> None:
    root = folder({"train/a": 2, "train/b": 2, "val/a": 1, "valid/a": 1, "notes/x": 1})
    for place in ("train", "val"):
        (root / place / "loose.png").touch()
    (root / "train" / "b" / "y.heic").touch()
    (root / "README.md").touch()
    catalog = open_data(spec(source="imagefolder", path=root, validation=0))
    (note,) = catalog.notes
    for part in (
        f"1 file whose suffix is no image's (1 .heic), such as '{root}/train/b/y.heic'",
        f"2 files beside the class folders, such as '{root}/train/loose.png'",
        f"1 file beside the split folders, such as '{root}/README.md'",
        f"1 folder beside the split folders, such as '{root}/notes'",
        "1 split that nothing uses, such as 'valid'",
    ):
        assert part in note
    assert note.startswith("left out: ")
    assert "\n" not in note
    assert catalog.load(1, (4, 4)).notes == catalog.notes


def test_one_class_name_in_two_unicode_forms(spec: Any, folder: Any) -> None:
    root = folder({f"train/{DECOMPOSED}": 3, "train/b": 3, f"test/{COMPOSED}": 2, "test/b": 1})
    catalog = open_data(spec(source="imagefolder", path=root, validation=0))
    assert catalog.class_names == ("b", COMPOSED)
    assert np.bincount(catalog.sources["test"].labels).tolist() == [1, 2]
    learned = relabelled(catalog, [DECOMPOSED, "b"])  # as a run of another tool has them
    assert np.bincount(learned.sources["test"].labels).tolist() == [2, 1]
    (root / "train" / COMPOSED).mkdir()
    problem = problem_of(spec, root)
    assert problem.what.startswith(f"there are two class folders '{COMPOSED}' in '{root}/train'")


def test_texts_as_labels_in_two_unicode_forms(parquet: Any, raw_table: Any) -> None:
    rows = raw_table([COMPOSED, "b", DECOMPOSED, "b"])
    catalog = open_data(parquet({"train": rows}, **NONE))
    assert catalog.class_names == ("b", COMPOSED)
    assert catalog.sources["train"].labels.tolist() == [1, 0, 1, 0]


@pytest.mark.parametrize("names", [("Cat", "cat"), ("cat", "cat "), ("1", "\N{SUPERSCRIPT ONE}")])
def test_classes_that_look_alike_are_said(names: Any, spec: Any, folder: Any) -> None:
    root = folder({names[0]: 2, names[1]: 2, "dog": 2})
    catalog = open_data(spec(source="imagefolder", path=root, **NONE))
    first, second = sorted(names)
    assert catalog.notes == (
        f"classes that differ in case, spaces or Unicode form only: '{first}' and '{second}'",
    )


def test_names_that_are_not_utf_8(spec: Any, folder: Any, png: Any) -> None:
    root = folder({"a": 3, "b": 3})
    place = os.fsencode(root) + b"/a/caf\xe9.png"
    with open(place, "wb") as file:  # noqa: PTH123 (a Path cannot be made of bytes)
        file.write(png(77))
    catalog = open_data(spec(source="imagefolder", path=root, unreadable="skip", **NONE))
    data = catalog.load(1, (4, 4))
    images = data.splits["train"].__getitems__(range(7))["images"]
    assert images[:, 0, 0, 0].tolist() == [0, 1, 2, 77, 0, 1, 2]
    assert data.splits["train"].name(3) == f"'{os.fsdecode(place)}'"
    with open(place, "wb") as file:  # noqa: PTH123
        file.write(b"damaged")
    ((_, name, _),) = catalog.load(1, (4, 4)).unreadable
    assert json.loads(json.dumps(name)) == f"'{os.fsdecode(place)}'"
    os.mkdir(os.fsencode(root) + b"/caf\xe9")  # noqa: PTH102
    problem = problem_of(spec, root)
    assert problem.what.endswith(" is not UTF-8")
    assert problem.fix == "rename it"


def test_names_of_classes_stay_as_they_are(spec: Any, folder: Any) -> None:
    names = ("[red]x", "a\x1b[31m", "b\nc", "{d}", "$e$", "%s")
    catalog = open_data(spec(source="imagefolder", path=folder(dict.fromkeys(names, 2)), **NONE))
    assert catalog.class_names == tuple(sorted(names))
    assert catalog.load(1, (4, 4)).class_names == tuple(sorted(names))


def test_a_home_folder_is_expanded(
    spec: Any, folder: Any, table: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder({"a": 2, "b": 2})
    table([0, 1]).to_parquet(tmp_path / "rows.parquet")
    (tmp_path / "repo").mkdir()
    table([0, 1]).to_parquet(tmp_path / "repo" / "train.parquet")
    monkeypatch.setenv("HOME", str(tmp_path))
    for fields in (
        {"source": "imagefolder", "path": "~/images"},
        {"source": "parquet", "files": {"train": "~/rows.parquet"}},
        {"source": "parquet", "files": {"train": ["~/*.parquet"]}},
        {"source": "hub", "id": "~/repo", "revision": "main"},
    ):
        assert len(open_data(spec(**fields, **NONE)).class_names) == 2


def test_splits_of_a_table_that_nothing_uses(spec: Any, table: Any, tmp_path: Path) -> None:
    (tmp_path / "repo").mkdir()
    for split in ("train", "test", "extra"):
        table([0, 1]).to_parquet(tmp_path / "repo" / f"{split}.parquet")
    splits = "\n".join(
        f"  - {{split: {split}, path: {split}.parquet}}" for split in ("train", "test", "extra")
    )
    readme = f"---\nconfigs:\n- config_name: default\n  data_files:\n{splits}\n---\n"
    (tmp_path / "repo" / "README.md").write_text(readme)
    catalog = open_data(spec(source="hub", id=tmp_path / "repo", revision="main", validation=0))
    assert catalog.sizes == {"train": 2, "test": 2}
    assert catalog.notes == ("left out: 1 split that nothing uses, such as 'extra'",)


def test_split_names_in_capitals_in_a_table(spec: Any, table: Any, tmp_path: Path) -> None:
    files = {}
    for name in ("Train", "TEST"):
        files[name] = tmp_path / f"{name}.parquet"
        table([0, 1]).to_parquet(files[name])
    assert open_data(spec(source="parquet", files=files, validation=0)).sizes == {
        "train": 2,
        "test": 2,
    }
    with pytest.raises(ValueError, match="nothing uses the split 'tset'"):
        spec(source="parquet", files={"train": "x", "tset": "y"})


def test_labels_that_are_no_classes(parquet: Any, png: Any) -> None:
    images = [png(1)] * 20
    for fields in ({"label": "label"}, {}):
        rows = datasets.Dataset.from_dict(
            {"image": images, "label": [float(i % 2) for i in range(20)]}
        )
        with pytest.raises(SpecError) as caught:
            open_data(parquet({"train": rows}, **fields))
        (problem,) = caught.value.problems
        assert "'label' holds float64" in problem.what
        assert problem.fix.startswith("write the labels as integers: 0 instead of 0.0\n")
    rows = datasets.Dataset.from_dict({"image": images, "label": list(range(20))})
    with pytest.raises(SpecError) as caught:
        open_data(parquet({"train": rows}))
    (problem,) = caught.value.problems
    assert problem.what == "20 classes for 20 images: each label is there once"
    assert problem.path == "data.label"
