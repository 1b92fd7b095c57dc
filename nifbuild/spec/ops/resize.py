"""Ops that make images larger."""

from typing import TYPE_CHECKING, ClassVar, Literal

from nifbuild.spec.base import NonNegativePair, PositiveInt, PositivePair
from nifbuild.spec.ops.base import Cost, Family, Layer, Shape, ShapeError, need_image

if TYPE_CHECKING:
    from torch import nn


RESIZE = Family("resize", "#b4e2dd")


class Upsample(Layer):
    """Enlarges the image by whole factors."""

    op: Literal["upsample"]
    counts_as_zero: ClassVar = True
    family: ClassVar = RESIZE

    scale: PositivePair = (2, 2)
    """Factors of height and width."""

    mode: Literal["nearest", "bilinear"] = "nearest"
    """nearest: repeats pixels. bilinear: interpolates between their centres."""

    def output_shape(self, x: Shape) -> Shape:
        """Channels unchanged, size times `scale`."""
        height, width = need_image(x, self.op)
        return Shape(x.channels, (height * self.scale[0], width * self.scale[1]))

    def build(self, x: Shape) -> "nn.Module":
        """A `torch.nn.Upsample`."""
        from torch import nn

        scale = (float(self.scale[0]), float(self.scale[1]))
        return nn.Upsample(scale_factor=scale, mode=self.mode)


class ConvTranspose(Layer):
    """A transposed convolution: enlarges the image with learned weights."""

    op: Literal["conv_transpose"]
    family: ClassVar = RESIZE

    out_channels: PositiveInt | None = None
    """Output channels. Null: as many as the input has."""

    kernel_size: PositivePair = (2, 2)
    """Height and width of the filter, in pixels."""

    stride: PositivePair = (2, 2)
    """Step between the places of the inputs in the output, in pixels."""

    padding: NonNegativePair = (0, 0)
    """Pixels cut off on each side."""

    bias: bool = True
    """Whether a learned number is added to each output channel."""

    def filter_size(self, x: Shape) -> tuple[int, int]:
        """As written."""
        return self.kernel_size

    def output_shape(self, x: Shape) -> Shape:
        """The size of the input that an ordinary convolution of these fields takes to `x`."""
        axes = zip(need_image(x, self.op), self.kernel_size, self.stride, self.padding, strict=True)
        height, width = ((n - 1) * s - 2 * p + k for n, k, s, p in axes)
        if min(height, width) < 1:
            what = f"the padding cuts off all that an input of {x} gives"
            raise ShapeError(what, "use less padding or a larger kernel_size", "padding")
        return Shape(self.out_channels or x.channels, (height, width))

    def cost(self, x: Shape) -> Cost:
        """One for each weight and input pixel."""
        taps = self.kernel_size[0] * self.kernel_size[1]
        return Cost({"direct": x.num_elements * (self.out_channels or x.channels) * taps})

    def build(self, x: Shape) -> "nn.Module":
        """A `torch.nn.ConvTranspose2d`."""
        from torch import nn

        return nn.ConvTranspose2d(
            x.channels,
            self.out_channels or x.channels,
            self.kernel_size,
            self.stride,
            self.padding,
            bias=self.bias,
        )
