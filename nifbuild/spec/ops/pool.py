"""Pooling."""

import math
from typing import TYPE_CHECKING, ClassVar, Literal

from nifbuild.geometry import window_outputs
from nifbuild.spec.base import NonNegativePair, PositivePair
from nifbuild.spec.ops.base import Channels, Family, Layer, Shape, ShapeError, need_image

if TYPE_CHECKING:
    from torch import nn


POOL = Family("pool", "#fbeeb0")


class Pool(Layer):
    """What pools have in common: each works on every channel for itself."""

    counts_as_zero: ClassVar = True
    family: ClassVar = POOL

    def reads(self, channels: Channels, x: Shape) -> Channels:
        """The same."""
        return channels


class WindowPool(Pool):
    """The fields of pools over a sliding window."""

    kernel_size: PositivePair
    """Height and width of the window, in pixels."""

    stride: PositivePair | None = None
    """Step between outputs, in pixels. Null: the window's size."""

    padding: NonNegativePair = (0, 0)
    """Pixels added on each side; at most half the window."""

    ceil_mode: bool = False
    """Whether a last window that is only partly inside counts."""

    def filter_size(self, x: Shape) -> tuple[int, int]:
        """That of the window."""
        return self.kernel_size

    def output_shape(self, x: Shape) -> Shape:
        """Channels unchanged, size by the sliding window."""
        size = need_image(x, self.op)
        if any(2 * p > k for p, k in zip(self.padding, self.kernel_size, strict=True)):
            raise ShapeError("padding is more than half the window", field="padding")
        stride = self.stride or self.kernel_size
        axes = zip(size, self.kernel_size, stride, self.padding, strict=True)
        height, width = (self._outputs(*axis) for axis in axes)
        if min(height, width) < 1:
            window = "x".join(str(k) for k in self.kernel_size)
            what = f"the {window} window is larger than its input of {x}"
            fix = "use a smaller kernel_size, fewer strides before it, or a larger input.size"
            raise ShapeError(what, fix, "kernel_size")
        return Shape(x.channels, (height, width))

    def _outputs(self, size: int, kernel: int, stride: int, padding: int) -> int:
        if not self.ceil_mode:
            return window_outputs(size, kernel, stride, padding)
        count = -(-(size + 2 * padding - kernel) // stride) + 1
        # torch drops a last window that would start in the padding beyond the image.
        return count - 1 if (count - 1) * stride >= size + padding else count


class MaxPool(WindowPool):
    """The largest value of each window."""

    op: Literal["max_pool"]

    def build(self, x: Shape) -> "nn.Module":
        """A `torch.nn.MaxPool2d`."""
        from torch import nn

        return nn.MaxPool2d(self.kernel_size, self.stride, self.padding, ceil_mode=self.ceil_mode)


class AvgPool(WindowPool):
    """The mean of each window."""

    op: Literal["avg_pool"]

    count_include_pad: bool = True
    """Whether padding counts in the mean."""

    def build(self, x: Shape) -> "nn.Module":
        """A `torch.nn.AvgPool2d`."""
        from torch import nn

        return nn.AvgPool2d(
            self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad
        )


class GlobalAvgPool(Pool):
    """The mean over the image; 1x1 images remain."""

    op: Literal["global_avg_pool"]

    def output_shape(self, x: Shape) -> Shape:
        """Channels unchanged, size 1x1."""
        need_image(x, self.op)
        return Shape(x.channels, (1, 1))

    def build(self, x: Shape) -> "nn.Module":
        """A `torch.nn.AdaptiveAvgPool2d`."""
        from torch import nn

        return nn.AdaptiveAvgPool2d(1)


class GlobalMaxPool(Pool):
    """The largest value of the image; 1x1 images remain."""

    op: Literal["global_max_pool"]

    def output_shape(self, x: Shape) -> Shape:
        """Channels unchanged, size 1x1."""
        need_image(x, self.op)
        return Shape(x.channels, (1, 1))

    def build(self, x: Shape) -> "nn.Module":
        """A `torch.nn.AdaptiveMaxPool2d`."""
        from torch import nn

        return nn.AdaptiveMaxPool2d(1)


class AdaptivePool(Pool):
    """The fields of pools that cut the image into as many windows as the output has pixels.

    Of n pixels, output i of m covers those from i n / m, rounded down, to (i + 1) n / m, rounded
    up. So windows overlap where m does not divide n, and repeat pixels where m is more than n.
    """

    output_size: PositivePair
    """Height and width of the output, in pixels, whatever the size of the input."""

    def filter_size(self, x: Shape) -> tuple[int, int]:
        """That of the largest window."""
        size = need_image(x, self.op)
        first, second = map(_largest_window, size, self.output_size)
        return (first, second)

    def output_shape(self, x: Shape) -> Shape:
        """Channels unchanged, size as written."""
        need_image(x, self.op)
        return Shape(x.channels, self.output_size)


def _largest_window(size: int, outputs: int) -> int:
    """Most pixels that one output covers: where its window starts latest after a whole pixel."""
    return 1 + -((math.gcd(size, outputs) - size) // outputs)


class AdaptiveAvgPool(AdaptivePool):
    """The mean of each window, to an output of a given size (as in VGG and AlexNet)."""

    op: Literal["adaptive_avg_pool"]

    def build(self, x: Shape) -> "nn.Module":
        """A `torch.nn.AdaptiveAvgPool2d`."""
        from torch import nn

        return nn.AdaptiveAvgPool2d(self.output_size)


class AdaptiveMaxPool(AdaptivePool):
    """The largest value of each window, to an output of a given size."""

    op: Literal["adaptive_max_pool"]

    def build(self, x: Shape) -> "nn.Module":
        """A `torch.nn.AdaptiveMaxPool2d`."""
        from torch import nn

        return nn.AdaptiveMaxPool2d(self.output_size)
