"""The task whose answer needs a window that sees two marks at once."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from nifbuild.data import open_data


def pictures(spec: Any, **fields: Any) -> tuple[np.ndarray, np.ndarray]:
    """Images [image, height, width] and their classes, as a model's training finds them."""
    data = spec(source="distant_pair", validation=0, test=0, **fields)
    images = open_data(data).load(1, data.size).splits["train"]
    batch = images.__getitems__(range(len(images)))
    return batch["images"][:, 0].numpy(), batch["labels"].numpy()


def windows(image: np.ndarray, size: int, padding: str) -> Counter[bytes]:
    """All windows of size x size pixels that an image has, and how often."""
    wide = np.pad(image, size - 1, "wrap" if padding == "circular" else "constant")
    if padding == "circular":
        wide = wide[size - 1 :, size - 1 :]  # each window once: by its first pixel
    views = np.lib.stride_tricks.sliding_window_view(wide, (size, size))
    return Counter(view.tobytes() for row in views for view in row)


@pytest.mark.parametrize(("distance", "far"), [(2, {3, 4}), (5, {8, 9, 10})])
def test_the_class_is_how_far_apart_the_marks_are(spec: Any, distance: int, far: set[int]) -> None:
    images, labels = pictures(spec, distance=distance, size=[26, 31], images=200, noise=0)
    assert np.bincount(labels).tolist() == [100, 100]
    assert np.unique(images).tolist() == [64, 255]
    apart: dict[int, set[int]] = {0: set(), 1: set()}
    directions: dict[int, list[bool]] = {0: [], 1: []}
    for image, label in zip(images, labels, strict=True):
        first, second = np.argwhere(image == 255)
        assert min(second - first) == 0
        apart[label].add(max(second - first))
        directions[label].append(second[0] == first[0])
        for mark in (first, second):
            assert min(*mark, 25 - mark[0], 30 - mark[1]) >= distance - 1
    assert apart == {0: far, 1: {distance}}
    assert all(30 < sum(rows) < 70 for rows in directions.values())
    assert len({image.tobytes() for image in images}) > 150


@pytest.mark.parametrize("padding", ["circular", "zeros"])
@pytest.mark.parametrize("distance", [3, 6])
def test_windows_no_larger_than_the_distance_are_those_of_any_image(
    spec: Any, distance: int, padding: str
) -> None:
    """So whatever a network computes of them and pools, it cannot tell the images apart."""
    images, labels = pictures(spec, distance=distance, size=[23, 25], images=12, noise=0)
    first, *others = (windows(image, distance, padding) for image in images)
    assert all(other == first for other in others)
    seen = [windows(image, distance + 1, padding) for image in images]
    far, near = ([seen[i] for i in np.flatnonzero(labels == c)] for c in (0, 1))
    assert all(one != other for one in far for other in near)


def test_noise_has_the_given_deviation_and_hides_the_rest_of_the_image(spec: Any) -> None:
    images, _ = pictures(spec, distance=5, images=50, noise=0.1)
    background = images[images < 160] / 255
    assert background.std() == pytest.approx(0.1, rel=0.02)
    assert background.mean() == pytest.approx(0.25, abs=0.005)
    assert len({image.tobytes() for image in images}) == 50


def test_images_are_fixed_by_the_seed(spec: Any) -> None:
    fields: dict[str, Any] = {"source": "distant_pair", "distance": 4, "images": 10}
    same, again, other = (open_data(spec(**fields, seed=seed)).fingerprint for seed in (0, 0, 1))
    assert same == again != other
    # NumPy promises this stream for good, and so do we.
    images, _ = pictures(spec, distance=4, images=3, noise=0)
    places = [np.argwhere(image == 255)[0].tolist() for image in images]
    assert places == [[5, 3], [12, 16], [10, 11]]


def test_classes_are_known_before_it_is_opened(spec: Any) -> None:
    data = spec(source="distant_pair", distance=4, images=20)
    assert data.known_num_classes == 2
    catalog = open_data(data)
    assert catalog.class_names == ("far", "near")
    assert catalog.sizes == {"train": 14, "validation": 2, "test": 4}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "Field required"),
        ({"distance": 1}, "greater than or equal to 2"),
        ({"distance": 4, "noise": 1.5}, "less than or equal to 1"),
        ({"distance": 4, "images": 1}, "greater than or equal to 2"),
        ({"distance": 4, "size": None}, "a list of two"),
        ({"distance": 4, "num_classes": 3}, "the data has 2 classes, not 3"),
        ({"distance": 9}, "need 35 x 35 pixels, not 32 x 32"),
        ({"distance": 4, "size": [64, 10]}, "need 15 x 15 pixels, not 64 x 10"),
        ({"distance": 4, "path": "x"}, "Extra inputs"),
    ],
)
def test_a_wrong_value_is_named(spec: Any, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        spec(source="distant_pair", **fields)


def test_what_fits_is_said(spec: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        spec(source="distant_pair", distance=9)
    (error,) = caught.value.errors()
    assert error["ctx"]["fix"] == "write `size: [35, 35]`, or `distance: 8` or less"
    spec(source="distant_pair", distance=8)
