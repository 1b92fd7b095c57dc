"""Where the outputs of a convolution lie, and how many filters it has: integers alone, no torch.

The language infers shapes and costs by these facts, and the modules compute by them.

A filter as large as the image reaches beyond it from every output. Each axis is laid into one
period of a circular convolution, long enough that nothing wraps around which should not.
"""

from typing import Literal, NamedTuple

Mixing = Literal["depthwise", "separable", "full", "low_rank"]
Boundary = Literal["circular", "zeros", "reflect", "replicate"]
Downsample = Literal["slice", "low_pass"]


def window_outputs(size: int, kernel: int, stride: int, padding: int, dilation: int = 1) -> int:
    """Outputs along one axis of a sliding window, rounded down as in torch; may be below one."""
    return (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


def half_window(kernel: int, dilation: int = 1) -> int:
    """Pixels before a window's centre; as padding, they keep the size at stride 1, if it is odd."""
    return dilation * (kernel - 1) // 2


def first_centre(kernel: int, padding: int, dilation: int = 1) -> int:
    """The pixel that a window's first output is centred on; below zero before the image."""
    return half_window(kernel, dilation) - padding


def half_plane(height: int, width: int) -> tuple[int, int]:
    """Rows and columns of frequencies that the spectrum of a real image is given by."""
    return height, width // 2 + 1


def num_filters(mixing: Mixing, in_channels: int, out_channels: int, groups: int, rank: int) -> int:
    """How many filters as large as the image there are; `rank` counts for low_rank alone."""
    return {
        "separable": in_channels,
        "depthwise": out_channels,
        "full": out_channels * (in_channels // groups),
        "low_rank": rank,
    }[mixing]


class Axis(NamedTuple):
    """One axis of a convolution whose filter has as many taps as the image has pixels.

    The taps have the offsets -(size // 2) ... (size - 1) // 2.

    Attributes:
        size: Pixels of the image.
        num_outputs: Outputs of the convolution.
        stride: Pixels from one output to the next.
        period: Length of the circular convolution.
        length: How much of the period the image takes up with its continuation; the rest is zero.
        left: Pixels of continuation before the image.
        shift: Where in the period the first output lies.
        boundary: What the continuation is.
    """

    size: int
    num_outputs: int
    stride: int
    period: int
    length: int
    left: int
    shift: int
    boundary: Boundary

    @property
    def continued(self) -> bool:
        """Whether pixels beyond the border are written out."""
        return self.length != self.size or self.left != 0

    @property
    def folds(self) -> int:
        """The stride that is taken in the spectrum: it has to divide the period."""
        return 1 if self.period % self.stride else self.stride

    @property
    def steps(self) -> int:
        """The stride that is taken in the image, by leaving out what was computed between."""
        return self.stride // self.folds

    @property
    def folded(self) -> int:
        """The period after folding."""
        return self.period // self.folds

    @property
    def extent(self) -> int:
        """Pixels from the first output to the last, after folding."""
        return (self.num_outputs - 1) * self.steps + 1


Frame = tuple[Axis, Axis]
"""The vertical axis and the horizontal one."""


def plan_axis(size: int, num_outputs: int, stride: int, offset: int, boundary: Boundary) -> Axis:
    """The shortest period that computes the outputs exactly.

    Args:
        size: Pixels of the image.
        num_outputs: Outputs of the convolution.
        stride: Pixels from one output to the next.
        offset: The pixel that the first output is centred on; below zero before the image.
        boundary: How the image goes on.
    """
    last = offset + (num_outputs - 1) * stride
    back, ahead = size // 2, (size - 1) // 2
    if boundary == "circular" and last - offset < size:
        return Axis(size, num_outputs, stride, size, size, 0, offset, boundary)
    if boundary == "zeros":
        # No tap may carry the image into the wanted outputs from the next period or the last one.
        needed = max(size, size + ahead - offset, last + back + 1, last - offset + 1)
        period = fast_length(needed, stride)
        return Axis(size, num_outputs, stride, period, size, 0, offset, boundary)
    length = last - offset + 1 + back + ahead
    period = fast_length(length, stride)
    return Axis(size, num_outputs, stride, period, length, ahead - offset, ahead, boundary)


def fast_length(length: int, multiple_of: int = 1) -> int:
    """The least length not below `length` whose transform is fast: no prime factor above 7.

    Args:
        length: At least 1.
        multiple_of: A number that has to divide the result. Its own factors do not count.
    """
    quotient = -(-length // multiple_of)
    while not _is_smooth(quotient):
        quotient += 1
    return quotient * multiple_of


def _is_smooth(n: int) -> bool:
    for prime in (2, 3, 5, 7):
        while n % prime == 0:
            n //= prime
    return n == 1
