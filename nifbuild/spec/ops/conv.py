"""Convolutions: one op, `conv`, whose `kind` says how the filter is parameterised.

The fields of `ConvFields` mean the same for every kind, and every kind gives the output shape that
the ordinary convolution of the same fields has.
"""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from nifbuild.spec.base import NonNegativePair, PositiveInt, PositivePair
from nifbuild.spec.ops.base import Layer, Shape, ShapeError, need_image, window_output

if TYPE_CHECKING:
    from torch import nn


class ConvFields(Layer):
    """What a convolution is, whatever the kind of its filter."""

    op: Literal["conv"]

    kind: str
    """How the filter is parameterised."""

    out_channels: PositiveInt | None = None
    """Output channels. Null: as many as the input has."""

    kernel_size: PositivePair = (3, 3)
    """Height and width of the filter, in pixels. An implicit filter is as large as the image; there
    this says which ordinary convolution it takes the place of, and so its output size."""

    stride: PositivePair = (1, 1)
    """Step between outputs, in pixels."""

    padding: NonNegativePair | Literal["auto"] = "auto"
    """Pixels added on each side. auto: half the dilated filter, rounded down, which keeps the size
    at stride 1 for odd filters."""

    dilation: PositivePair = (1, 1)
    """Step between filter taps, in pixels."""

    groups: PositiveInt | Literal["depthwise"] = 1
    """Groups of channels that do not mix. depthwise: one for each input channel."""

    bias: bool = True
    """Whether a learned number is added to each output channel."""

    def num_outputs(self, x: Shape) -> int:
        """Output channels for an input of shape `x`."""
        return self.out_channels or x.channels

    def num_groups(self, x: Shape) -> int:
        """Groups for an input of shape `x`."""
        return x.channels if self.groups == "depthwise" else self.groups

    def pads(self) -> tuple[int, int]:
        """Pixels added on each side, along height and width."""
        if self.padding != "auto":
            return self.padding
        taps = zip(self.dilation, self.kernel_size, strict=True)
        first, second = (d * (k - 1) // 2 for d, k in taps)
        return (first, second)

    def output_shape(self, x: Shape) -> Shape:
        """Channels as written, size by the sliding window of an ordinary convolution."""
        size = need_image(x, "conv")
        for name, channels in (("input", x.channels), ("output", self.num_outputs(x))):
            if channels % self.num_groups(x):
                what = f"{self.num_groups(x)} groups do not divide {channels} {name} channels"
                raise ShapeError(what, "choose groups that divide both", "groups")
        axes = zip(size, self.kernel_size, self.stride, self.pads(), self.dilation, strict=True)
        height, width = (window_output(*axis) for axis in axes)
        if min(height, width) < 1:
            kernel = "x".join(str(k) for k in self.kernel_size)
            what = f"the {kernel} kernel is larger than its input of {x}, padding included"
            fix = "use a smaller kernel_size, fewer strides before it, or a larger input.size"
            raise ShapeError(what, fix, "kernel_size")
        return Shape(self.num_outputs(x), (height, width))


class StandardConv(ConvFields):
    """An ordinary convolution: one learned weight for each tap."""

    kind: Literal["standard"] = "standard"
    """One learned weight for each tap."""

    padding_mode: Literal["zeros", "circular", "reflect", "replicate"] = "zeros"
    """What lies beyond the border."""

    def output_shape(self, x: Shape) -> Shape:
        """As any convolution's, where the image is large enough to be continued so far."""
        out = super().output_shape(x)
        limit = {"circular": 0, "reflect": 1}.get(self.padding_mode)
        if limit is not None and any(
            pad > size - limit for pad, size in zip(self.pads(), x.size, strict=True)
        ):
            what = f"padding of {max(self.pads())} cannot be taken from an image of {x} by "
            fix = "use zeros, a smaller kernel_size, or a larger input.size"
            raise ShapeError(what + f"padding_mode: {self.padding_mode}", fix, "padding_mode")
        return out

    def build(self, x: Shape) -> "nn.Module":
        """A `torch.nn.Conv2d`."""
        from torch import nn

        return nn.Conv2d(
            x.channels,
            self.num_outputs(x),
            self.kernel_size,
            self.stride,
            self.pads(),
            self.dilation,
            self.num_groups(x),
            self.bias,
            self.padding_mode,
        )


class ImplicitFrequencyConv(ConvFields):
    """A filter as large as the image, from a small network over its frequencies.

    Source: Grabinski, Keuper, Keuper, "As large as it gets", arXiv 2307.10001.
    """

    kind: Literal["implicit_frequency"]
    """A filter as large as the image, given by a small network over its frequencies."""

    mixing: Literal["auto", "depthwise", "separable"] = "auto"
    """depthwise: one filter for each output channel, channels do not mix. separable: one for each
    input channel, then a 1x1 convolution. auto: depthwise where the ordinary convolution is (as
    many groups as channels), else separable."""

    hidden: Annotated[tuple[PositiveInt, ...], Field(min_length=1, max_length=8)] = (8, 4)
    """Widths of the hidden layers of the two networks that give the real and imaginary parts."""

    activation: Literal["silu", "gelu", "sine"] = "silu"
    """Activation in these networks."""

    coordinates: Literal["cycles_per_image", "cycles_per_pixel"] = "cycles_per_image"
    """Unit of the frequencies that the networks see. In cycles per image a filter grows with the
    image, in cycles per pixel it keeps its width in pixels."""

    padding_mode: Literal["circular"] = "circular"
    """What lies beyond the border: the image again."""

    memory: Literal["recompute", "save"] = "recompute"
    """What training keeps for the backward pass. recompute: the input. save: also its spectrum,
    which takes twice the memory and a little less time."""

    def effective_mixing(self, x: Shape) -> Literal["depthwise", "separable"]:
        """The mixing for an input of shape `x`."""
        if self.mixing != "auto":
            return self.mixing
        return "depthwise" if self.num_groups(x) == x.channels > 1 else "separable"

    def output_shape(self, x: Shape) -> Shape:
        """As the ordinary convolution's."""
        out = super().output_shape(x)
        expected = tuple(-(-n // s) for n, s in zip(x.size, self.stride, strict=True))
        if out.size != expected:
            own, wanted = ("x".join(str(n) for n in size) for size in (expected, out.size))
            what = (
                f"an implicit filter of this stride turns {x} into {own} outputs, and the ordinary "
                f"convolution would give {wanted}"
            )
            raise ShapeError(what, "use an odd kernel_size with padding: auto", "padding")
        if self.dilation != (1, 1):
            what = "a filter as large as the image has no dilation"
            raise ShapeError(what, "leave dilation at 1", "dilation")
        if self.effective_mixing(x) == "depthwise":
            if out.channels % x.channels:
                what = f"out_channels ({out.channels}) is no multiple of the input's {x.channels}"
                raise ShapeError(f"depthwise: {what}", "use mixing: separable", "mixing")
            if self.num_groups(x) not in (1, x.channels):
                what = f"depthwise filters mix no channels, and groups is {self.groups}"
                raise ShapeError(what, "leave groups out, or use mixing: separable", "groups")
        return out

    def build(self, x: Shape) -> "nn.Module":
        """A `nifbuild.nn.ImplicitFrequencyConv2d`."""
        from nifbuild.nn import ImplicitFrequencyConv2d

        return ImplicitFrequencyConv2d(
            x.channels,
            self.num_outputs(x),
            stride=self.stride,
            groups=self.num_groups(x),
            bias=self.bias,
            mixing=self.effective_mixing(x),
            hidden=self.hidden,
            activation=self.activation,
            boundary=self.padding_mode,
            coordinates=self.coordinates,
            memory=self.memory,
        )
