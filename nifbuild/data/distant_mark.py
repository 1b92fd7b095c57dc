"""Draws the images and masks of the source `distant_mark`; see its spec for what they are for."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8

from nifbuild.data.distant_pair import as_pgm
from nifbuild.data.splits import random_stream
from nifbuild.spec.pixel_data import IGNORED, DistantMarkData

if TYPE_CHECKING:
    import datasets


def distant_mark(spec: DistantMarkData) -> "datasets.Dataset":
    """All images of the source, undivided, with the columns `image` and `mask`."""
    import datasets

    pixels, masks = draw_marks(spec)
    columns = {
        name: [{"bytes": as_pgm(image), "path": None} for image in images]
        for name, images in (("image", pixels), ("mask", masks))
    }
    features = datasets.Features({name: datasets.Image(decode=False) for name in columns})
    return datasets.Dataset.from_dict(columns, features=features)


def draw_marks(
    spec: DistantMarkData,
) -> tuple[UInt8[np.ndarray, "images height width"], UInt8[np.ndarray, "images height width"]]:
    """The images, 0 or 255, and of each pixel the number of its class."""
    stream = random_stream(spec.seed, "images")
    white = stream.randint(0, 2, (spec.images, *spec.size)).astype(np.uint8)
    masks = np.full_like(white, IGNORED)
    masks[:, :, spec.distance :] = white[:, :, : -spec.distance]
    return white * 255, masks
