"""Which part of an image is seen, and how large: rules alone, no pixels.

Both are torchvision's, as its reference training uses them, so that figures can be compared:
`RandomResizedCrop` for training, `Resize` and `CenterCrop` for evaluation.
"""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

Size = tuple[int, int]
"""Width and height in pixels, as in Pillow."""

Box = tuple[int, int, int, int]
"""Left, top, right and bottom edge of a part of an image."""

Choose = Callable[[Size], Box]
"""The part of an image of this size to cut out; the same each time it is asked."""

_TRIES = 10
_LONGEST = 100
"""So many times the wanted size an image may become: of a longer one the middle is all that is
seen, and scaling the whole of it would take any amount of memory."""


def random_box(
    size: Size,
    scale: tuple[float, float],
    ratio: tuple[float, float],
    uniform: Callable[[], float],
) -> Box:
    """A random part of an image.

    Source: the documentation of torchvision's `RandomResizedCrop`, and its `get_params`.

    Args:
        size: Of the image.
        scale: Smallest and largest share of its area.
        ratio: Smallest and largest width over height.
        uniform: Draws from [0, 1): for each try the area, the aspect and, once the part fits, its
            top and its left edge.
    """
    width, height = size

    def between(low: float, high: float) -> float:
        return low + (high - low) * uniform()

    for _ in range(_TRIES):
        area = width * height * between(*scale)
        aspect = math.exp(between(math.log(ratio[0]), math.log(ratio[1])))
        across, down = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < across <= width and 0 < down <= height:
            top, left = (int(uniform() * (room + 1)) for room in (height - down, width - across))
            return left, top, left + across, top + down
    across, down = width, height
    if width / height < ratio[0]:
        down = max(1, round(width / ratio[0]))
    elif width / height > ratio[1]:
        across = max(1, round(height * ratio[1]))
    left, top = (width - across) // 2, (height - down) // 2
    return left, top, left + across, top + down


@dataclass(frozen=True)
class RandomCrops:
    """The parts of training images, another one in each epoch.

    They follow from the numbers below alone: not from the worker or the process that decodes, nor
    from what was decoded before.

    Attributes:
        scale: Smallest and largest share of the image's area.
        ratio: Smallest and largest width over height.
        seed: Of training.
    """

    scale: tuple[float, float]
    ratio: tuple[float, float]
    seed: int

    def box(self, epoch: int, index: int, size: Size) -> Box:
        """The part of the image at a place of its set, in an epoch that is counted from 0."""
        # Of all generators, Python promises that this one gives the same numbers in each version.
        uniform = random.Random(f"crop/{self.seed}/{epoch}/{index}").random
        return random_box(size, self.scale, self.ratio, uniform)


def scaled_size(size: Size, wanted: Size, share: float, *, stretch: bool) -> Size:
    """What an image is scaled to before its centre is cut out.

    Args:
        size: Of the image.
        wanted: Of what is cut out.
        share: The wanted size as a share of the one that the image has to cover.
        stretch: Whether width and height are scaled apart, rather than by one factor.
    """
    width, height = (round(length / share) for length in wanted)
    if stretch:
        return width, height
    if size[0] * height <= size[1] * width:  # the width is what just covers
        return width, max(height, int(width * size[1] / size[0]))
    return max(width, int(height * size[0] / size[1])), height


def seen_part(size: Size, scaled: Size, wanted: Size) -> tuple[Box, Size]:
    """The part of an image that has to be scaled, and to what: nearly always the whole."""
    box, kept = [0, 0, *size], list(scaled)
    for axis in range(2):
        most = _LONGEST * wanted[axis]
        if scaled[axis] > most:
            length = math.ceil(size[axis] * most / scaled[axis])
            kept[axis] = max(wanted[axis], round(length * scaled[axis] / size[axis]))
            box[axis] = (size[axis] - length) // 2
            box[axis + 2] = box[axis] + length
    return (box[0], box[1], box[2], box[3]), (kept[0], kept[1])


def central_box(size: Size, wanted: Size) -> Box:
    """The middle of an image, where halves are rounded to even."""
    left, top = (round((have - want) / 2) for have, want in zip(size, wanted, strict=True))
    return left, top, left + wanted[0], top + wanted[1]
