"""Convolutions: one op, `conv`, whose `kind` says how the filter is parameterised.

The fields of `ConvFields` mean the same for every kind, and every kind gives the output shape that
the ordinary convolution of the same fields has. The kinds with filters as large as the image are in
`global_conv`.
"""

from typing import TYPE_CHECKING, ClassVar, Literal

from nifbuild.geometry import first_centre, half_window, window_outputs
from nifbuild.spec.base import NonNegativePair, PositiveInt, PositivePair
from nifbuild.spec.ops.base import Cost, Family, Layer, Shape, ShapeError, need_image
from nifbuild.spec.ops.init import Init, InitSection, Scheme

if TYPE_CHECKING:
    from torch import nn


class ConvFields(Layer):
    """A convolution; `kind` says how its filter is parameterised."""

    op: Literal["conv"]
    family: ClassVar = Family("conv", "#b9d4ee")

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
    """Step between filter taps, in pixels. An implicit filter has a tap at each pixel; there this
    belongs to the ordinary convolution that it takes the place of, as kernel_size does."""

    groups: PositiveInt | Literal["depthwise"] = 1
    """Groups of channels that do not mix. depthwise: one for each input channel."""

    bias: bool = True
    """Whether a learned number is added to each output channel."""

    init: Init | None = None
    """How the weights are drawn; with filters as large as the image, those of the 1x1 convolutions
    beside them. Null: as the section `init` says of conv."""

    def num_outputs(self, x: Shape) -> int:
        """Output channels for an input of shape `x`."""
        return self.out_channels or x.channels

    def num_groups(self, x: Shape) -> int:
        """Groups for an input of shape `x`."""
        return x.channels if self.groups == "depthwise" else self.groups

    @property
    def word(self) -> str:
        """The kind of the filter."""
        return self.kind

    def filter_size(self, x: Shape) -> tuple[int, int]:
        """Height and width of the filter for an input of shape `x`."""
        return self.kernel_size

    def pads(self) -> tuple[int, int]:
        """Pixels added on each side, along height and width."""
        if self.padding != "auto":
            return self.padding
        first, second = map(half_window, self.kernel_size, self.dilation)
        return (first, second)

    def first_centres(self) -> tuple[int, int]:
        """The pixel that the first output is centred on, along height and width."""
        first, second = map(first_centre, self.kernel_size, self.pads(), self.dilation)
        return (first, second)

    def scheme(self, section: InitSection) -> Scheme | None:
        """The op's own, or that of convolutions."""
        return self.init or section.conv

    def output_shape(self, x: Shape) -> Shape:
        """Channels as written, size by the sliding window of an ordinary convolution."""
        size = need_image(x, "conv")
        for name, channels in (("input", x.channels), ("output", self.num_outputs(x))):
            if channels % self.num_groups(x):
                what = f"{self.num_groups(x)} groups do not divide {channels} {name} channels"
                raise ShapeError(what, "choose groups that divide both", "groups")
        axes = zip(size, self.kernel_size, self.stride, self.pads(), self.dilation, strict=True)
        height, width = (window_outputs(*axis) for axis in axes)
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

    @property
    def word(self) -> str:
        """That of the op."""
        return self.op

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

    def cost(self, x: Shape) -> Cost:
        """One for each tap, input channel of the group and output value, padding included."""
        taps = self.kernel_size[0] * self.kernel_size[1]
        outputs = self.output_shape(x).num_elements
        return Cost({"direct": outputs * taps * (x.channels // self.num_groups(x))})

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
