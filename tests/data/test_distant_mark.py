"""The task in which the class of a pixel stands a known distance away."""

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from nifbuild.data import open_data


def drawn(spec: Any, **fields: Any) -> tuple[np.ndarray, np.ndarray]:
    """Images and masks [image, height, width], as a model's training finds them."""
    data = spec(source="distant_mark", validation=0, test=0, **fields)
    images = open_data(data).load(1, data.size).splits["train"]
    batch = images.__getitems__(range(len(images)))
    return batch["images"][:, 0].numpy(), batch["labels"].numpy()


@pytest.mark.parametrize("distance", [1, 5])
def test_the_class_is_what_stands_that_far_to_the_left(spec: Any, distance: int) -> None:
    images, masks = drawn(spec, distance=distance, size=[6, 9], images=40)
    assert np.unique(images).tolist() == [0, 255]
    for image, mask in zip(images, masks, strict=True):
        for row in range(6):
            for column in range(9):
                if column < distance:
                    assert mask[row, column] == 255
                else:
                    assert mask[row, column] == (image[row, column - distance] == 255)


def test_nearer_pixels_tell_nothing(spec: Any) -> None:
    """Each pixel is white as often whatever it has around it, within 4 standard deviations."""
    images, masks = drawn(spec, distance=4, size=[16, 32], images=200)
    valid = masks[:, :, 8:-4].astype(bool)
    for shift in (-4, -3, -2, -1, 0, 1, 2, 3):
        near = images[:, :, 8 + shift : 32 - 4 + shift] == 255
        agree = (near == valid).mean()
        assert abs(agree - 0.5) < 4 * 0.5 / valid.size**0.5 or shift == -4
    assert (images[:, :, 4:24] == 255).astype(bool).tolist() == valid.tolist()


def test_it_is_drawn_again_alike(spec: Any) -> None:
    first, second, other = (
        open_data(spec(source="distant_mark", distance=3, images=20, seed=seed))
        for seed in (0, 0, 1)
    )
    assert first.fingerprint == second.fingerprint != other.fingerprint
    assert first.class_names == ("black", "white") and first.sizes["train"] == 14


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"distance": 32}, "no pixel of 32 in a row has another 32 to its left"),
        ({"distance": 2, "num_classes": 3}, "the data has 2 classes, not 3"),
        ({"distance": 2, "augment": {"mixup": 0.2}}, "`mixup` does not fit"),
        ({"distance": 2, "augment": {"cutmix": 1}}, "`cutmix` does not fit"),
        ({"distance": 2, "augment": {"randaugment": {}}}, "`randaugment` does not fit"),
        ({"distance": 2, "augment": {"resized_crop": [0.5, 1]}}, "`resized_crop` does not fit"),
        ({"distance": 2, "augment": {"erasing": 0.2}}, "`erasing` does not fit"),
    ],
)
def test_what_cannot_be(spec: Any, fields: dict[str, Any], what: str) -> None:
    with pytest.raises(ValidationError, match=what):
        spec(source="distant_mark", **fields)


def test_batches_hold_bytes(spec: Any) -> None:
    data = open_data(spec(source="distant_mark", distance=3, images=20)).load(3, (32, 32))
    batch = data.splits["train"][0]
    assert batch["images"].shape == (3, 32, 32) and batch["labels"].shape == (32, 32)
    assert batch["labels"].dtype == torch.uint8
    assert data.mean.shape == (3,)
