"""Masks of class numbers, decoded with their images and held as one more channel of them.

So whatever moves the pixels of an image moves those of its mask.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from nifbuild.data.crops import Choose
from nifbuild.data.decode import Cell, Decoder, cell_name
from nifbuild.spec.pixel_data import IGNORED


@dataclass(frozen=True)
class WithMask:
    """Turns an image and its mask into pixels of which the last channel is the mask.

    Attributes:
        image: Decodes images.
        mask: Decodes masks, to the same place.
    """

    image: Decoder
    mask: "MaskDecoder"

    @classmethod
    def of(cls, image: Decoder, num_classes: int, ignore_index: int) -> Self:
        """For images as this decoder makes them."""
        mask = MaskDecoder(
            1,
            image.height,
            image.width,
            image.resize,
            "nearest",
            image.crop_share,
            num_classes=num_classes,
            ignore_index=ignore_index,
        )
        return cls(image, mask)

    @property
    def height(self) -> int:
        """Of the result, in pixels."""
        return self.image.height

    @property
    def width(self) -> int:
        """Of the result, in pixels."""
        return self.image.width

    @property
    def colours(self) -> int:
        """Channels of the image."""
        return self.image.channels

    @property
    def channels(self) -> int:
        """Those, and that of the mask."""
        return self.colours + 1

    def of_one_pixel(self) -> Self:
        """What tries whether images and masks can be read; it looks at all values of a mask."""
        one: dict[str, Any] = {"height": 1, "width": 1, "resize": "stretch"}
        return replace(self, image=self.image.of_one_pixel(), mask=replace(self.mask, **one))

    def __call__(
        self, cell: Cell, choose: Choose | None = None
    ) -> UInt8[np.ndarray, "channels height width"]:
        """The pixels of an image and of its mask.

        Args:
            cell: A mapping with the cells `image` and `mask`.
            choose: As for images.

        Raises:
            ValueError: One cannot be read, or they do not belong together; says why.
        """
        assert isinstance(cell, Mapping)
        pixels, size = self.image.with_size(cell["image"], choose)
        try:
            mask, own = self.mask.with_size(cell["mask"], choose)
            if own != size:
                shown = [f"{width}x{height}" for width, height in (size, own)]
                raise ValueError(f"it is {shown[1]} pixels wide and high, and the image {shown[0]}")
        except ValueError as error:
            name = cell_name(cell["mask"])
            raise ValueError(f"its mask{f' {name!r}' if name else ''}: {error}") from error
        return np.concatenate([pixels, mask])


@dataclass(frozen=True)
class MaskDecoder(Decoder):
    """Turns encoded masks into class numbers; nothing is blended.

    Attributes:
        num_classes: Numbers from 0 to one less are classes.
        ignore_index: What becomes `IGNORED`.
    """

    num_classes: int = 2
    ignore_index: int = IGNORED

    def converted(self, image: Image.Image) -> Image.Image:
        """The values as they are; of a palette, the numbers of its colours.

        Raises:
            ValueError: They are no class numbers.
        """
        if image.format == "JPEG":
            raise ValueError("JPEG changes class numbers: write masks as PNG")
        if image.mode not in ("1", "L", "P"):
            what = f"its pixels are no class numbers of 8 bits (Pillow's mode {image.mode})"
            raise ValueError(f"{what}: write a gray PNG, or one with a palette")
        values = np.asarray(image).astype(np.uint8)
        ignored = values == self.ignore_index
        wrong = values[(values >= self.num_classes) & ~ignored]
        if wrong.size:
            what = f"it has the value {wrong[0]}, and the {self.num_classes} classes are 0 to "
            raise ValueError(f"{what}{self.num_classes - 1}; {self.ignore_index} is ignored")
        return Image.fromarray(np.where(ignored, np.uint8(IGNORED), values))
