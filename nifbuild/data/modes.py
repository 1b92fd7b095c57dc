"""Images of all that Pillow reads as gray or colour of 8 bits."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

_TIFF_BITS, _TIFF_PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0


def of_mode(image: Image.Image, mode: str) -> Image.Image:
    """The same image in another of Pillow's modes.

    Args:
        image: Loaded, so that its pixels are there.
        mode: `L` or `RGB`.

    Raises:
        ValueError: Its values have no defined look.
    """
    # Pillow scales the gray levels of a PGM file of more than 8 bits to 16.
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        image = _of_eight_bits(image)
    elif image.mode in ("I", "F"):
        raise ValueError(f"its values (Pillow's mode {image.mode}) have no defined white")
    elif image.has_transparency_data:
        if image.mode == "La":
            image = image.convert("LA")  # Pillow has no direct way
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image).convert("RGB")
    elif image.mode == "LAB":
        image = image.convert("RGB")  # Pillow has no direct way to gray
    return image if image.mode == mode else image.convert(mode)


def _of_eight_bits(image: Image.Image) -> Image.Image:
    """An image of gray levels of up to 16 bits, scaled to 8."""
    tags: Mapping[int, Any] = getattr(image, "tag_v2", {})
    white = 2 ** tags.get(_TIFF_BITS, (16,))[0] - 1
    wide = np.asarray(image).astype(np.uint32)
    levels = ((wide * 255 + white // 2) // white).astype(np.uint8)
    if tags.get(_TIFF_PHOTOMETRIC) == _WHITE_IS_ZERO:  # Pillow sees to it up to 8 bits only
        levels = 255 - levels
    transparent = image.info.get("transparency")
    if transparent is not None:
        levels[wide == transparent] = 255
    return Image.fromarray(levels)
