"""Draws the images of the source `distant_pair`; see its spec for what they are for."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int64, UInt8

from nifbuild.data.splits import random_stream
from nifbuild.spec.data import DistantPairData

if TYPE_CHECKING:
    import datasets

CLASS_NAMES = ("far", "near")
_BACKGROUND, _MARK = 0.25, 1.0


def distant_pair(spec: DistantPairData) -> "datasets.Dataset":
    """All images of the source, undivided, with the columns `image` and `label`."""
    import datasets

    pixels, labels = draw_pairs(spec)
    images = [{"bytes": as_pgm(image), "path": None} for image in pixels]
    features = datasets.Features(
        image=datasets.Image(decode=False), label=datasets.ClassLabel(names=list(CLASS_NAMES))
    )
    columns = {"image": images, "label": labels.tolist()}
    return datasets.Dataset.from_dict(columns, features=features)


def as_pgm(pixels: UInt8[np.ndarray, "height width"]) -> bytes:
    """A gray image as a header before the raw pixels: the same bytes whatever library is there."""
    height, width = pixels.shape
    return f"P5 {width} {height} 255\n".encode() + pixels.tobytes()


def draw_pairs(
    spec: DistantPairData,
) -> tuple[UInt8[np.ndarray, "images height width"], Int64[np.ndarray, " images"]]:
    """The images, 0 to 255, and the number of each one's class in `CLASS_NAMES`."""
    stream = random_stream(spec.seed, "images")
    labels = np.arange(spec.images) % 2
    nearest_far = -(-3 * spec.distance // 2)
    far = stream.randint(nearest_far, 2 * spec.distance + 1, spec.images)
    apart = np.where(labels == 1, spec.distance, far)
    axis = stream.randint(0, 2, spec.images)
    # From the mark that is further up or further to the left to the other one, (rows, columns).
    step = np.stack([apart * (axis == 0), apart * (axis == 1)], axis=1)
    margin = spec.distance - 1
    free = np.array(spec.size) - 2 * margin - step
    first = margin + np.floor(stream.random_sample((spec.images, 2)) * free).astype(np.int64)
    values = np.full((spec.images, *spec.size), _BACKGROUND)
    index = np.arange(spec.images)
    for mark in (first, first + step):
        values[index, mark[:, 0], mark[:, 1]] = _MARK
    values += spec.noise * stream.standard_normal(values.shape)
    return np.rint(values.clip(0, 1) * 255).astype(np.uint8), labels.astype(np.int64)
