"""The kinds of `conv` whose filters are as large as the image."""

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from nifbuild.geometry import Boundary, Downsample, Mixing, plan_axis
from nifbuild.spec.base import PositiveInt
from nifbuild.spec.ops.base import Cost, Family, Shape, ShapeError, need_image
from nifbuild.spec.ops.conv import ConvFields
from nifbuild.spec.ops.spectral_cost import (
    SpectralLayer,
    frequencies,
    network_macs,
    transform_macs,
)

if TYPE_CHECKING:
    from torch import nn

Hidden = Annotated[tuple[PositiveInt, ...], Field(min_length=1, max_length=8)]
_WITHOUT_1X1 = ("depthwise", "full")


class GlobalConv(ConvFields):
    """What all of them have: how channels are combined, and what lies beyond the border."""

    mixing: Literal["auto"] | Mixing = "auto"
    """depthwise: one filter for each output channel, channels do not mix. separable: one for each
    input channel, then a 1x1 convolution. full: one for each pair of channels, as in an ordinary
    convolution. low_rank: a 1x1 convolution, one filter for each of its channels, and a 1x1
    convolution. auto: depthwise where the ordinary convolution is (as many groups as channels),
    else separable."""

    rank: PositiveInt | None = None
    """low_rank mixing: the channels between the two 1x1 convolutions. Null: as many as the smaller
    one of input and output has."""

    padding_mode: Boundary = "circular"
    """What lies beyond the border. circular: the image again, as published."""

    downsample: Downsample = "slice"
    """What a stride does to frequencies that the output is too small for. slice: they alias, as in
    an ordinary convolution. low_pass: the filter has none of them."""

    memory: Literal["recompute", "save"] = "recompute"
    """What training keeps for the backward pass. recompute: the input. save: also its spectrum,
    which takes twice the memory and a little less time."""

    backend: Literal["auto", "fft", "fused"] = "auto"
    """How a CUDA device computes it. fft: Fourier transforms. fused: one kernel, which reads and
    writes each pixel once; for one filter per channel, circular or zero borders, and periods of at
    most 64 pixels. auto: whichever is measured to be faster and agrees. A CPU takes fft for fused,
    and with auto multiplies many images of at most 64 pixels by circulant matrices."""

    def effective_mixing(self, x: Shape) -> Mixing:
        """The mixing for an input of shape `x`."""
        if self.mixing != "auto":
            return self.mixing
        return "depthwise" if self.num_groups(x) == x.channels > 1 else "separable"

    def filter_size(self, x: Shape) -> tuple[int, int]:
        """That of the image."""
        return need_image(x, "conv")

    def output_shape(self, x: Shape) -> Shape:
        """As the ordinary convolution's."""
        out = super().output_shape(x)
        mixing, groups = self.effective_mixing(x), self.num_groups(x)
        if self.init is not None and self.init.name != "default" and mixing in _WITHOUT_1X1:
            what = f"init has no meaning with {mixing} mixing: there are no 1x1 convolutions"
            raise ShapeError(what, "leave it out; filters start spread over sizes", "init")
        if mixing == "depthwise":
            if out.channels % x.channels:
                what = f"out_channels ({out.channels}) is no multiple of the input's {x.channels}"
                raise ShapeError(f"depthwise: {what}", "use mixing: separable", "mixing")
            if groups not in (1, x.channels):
                what = f"depthwise filters mix no channels, and groups is {self.groups}"
                raise ShapeError(what, "leave groups out, or use mixing: separable", "groups")
        if self.rank is not None:
            if mixing != "low_rank":
                raise ShapeError(
                    f"rank has no meaning with {mixing} mixing",
                    "leave it out, or use mixing: low_rank",
                    "rank",
                )
            if self.rank % groups:
                what = f"{groups} groups do not divide a rank of {self.rank}"
                raise ShapeError(what, "choose a rank that groups divide", "rank")
        return out

    def cost(self, x: Shape) -> Cost:
        """Transforms, product and 1x1 convolutions for each image; the filters once.

        See `spectral_cost` for the formulas.
        """
        layer = self._layer(x)
        filters = self._filter_macs(layer) + layer.laying()
        return Cost(layer.per_image(), {"filter": filters})

    def dense_params(self, x: Shape) -> int:
        """With one weight for each tap of the filters, which have as many as the image pixels."""
        layer = self._layer(x)
        bias = layer.out_channels if self.bias else 0
        return layer.num_filters * x.size[0] * x.size[1] + layer.mixing_params + bias

    def _filter_macs(self, layer: SpectralLayer) -> int:
        """Multiply-adds that make the filters' spectra at the size of the image."""
        raise NotImplementedError

    def _layer(self, x: Shape) -> SpectralLayer:
        out = self.output_shape(x)
        axes = zip(x.size, out.size, self.stride, self.first_centres(), strict=True)
        rows, columns = (plan_axis(*axis, self.padding_mode) for axis in axes)
        return SpectralLayer(
            in_channels=x.channels,
            out_channels=out.channels,
            groups=self.num_groups(x),
            mixing=self.effective_mixing(x),
            rank=self.rank or min(x.channels, out.channels),
            size=(x.size[0], x.size[1]),
            outputs=(out.size[0], out.size[1]),
            periods=(rows.period, columns.period),
            folded=(rows.folded, columns.folded),
            lays_kernel=any(axis.period != axis.size or axis.shift for axis in (rows, columns)),
        )

    def _arguments(self, x: Shape) -> dict[str, Any]:
        """What all their modules take."""
        return {
            "in_channels": x.channels,
            "out_channels": self.num_outputs(x),
            "kernel_size": self.kernel_size,
            "stride": self.stride,
            "padding": self.pads(),
            "dilation": self.dilation,
            "groups": self.num_groups(x),
            "bias": self.bias,
            "mixing": self.effective_mixing(x),
            "rank": self.rank,
            "downsample": self.downsample,
            "boundary": self.padding_mode,
            "memory": self.memory,
            "backend": self.backend,
        }


class ImplicitFrequencyConv(GlobalConv):
    """A filter as large as the image, from a small network over its frequencies.

    Source: Grabinski, Keuper, Keuper, "As large as it gets", arXiv 2307.10001.
    """

    family: ClassVar = Family("implicit_frequency", "#f58a1f", stands_out=True)

    kind: Literal["implicit_frequency"]
    """A filter as large as the image, given by a small network over its frequencies."""

    hidden: Hidden = (16, 8)
    """Widths of the hidden layers of the networks that give the real and imaginary parts."""

    activation: Literal["silu", "gelu", "sine"] = "silu"
    """Activation in these networks."""

    networks: Literal["separate", "shared"] = "separate"
    """separate: one network for the real part and one for the imaginary. shared: one for both, but
    for its last layer."""

    coordinates: Literal["periodic", "cycles_per_image", "cycles_per_pixel"] = "periodic"
    """How the networks see a frequency. periodic: cosine and sine of 2 pi times the cycles per
    pixel, so that nothing jumps at the highest frequency. In these and in cycles per pixel a filter
    keeps its width in pixels at another image size; in cycles per image, as published, it grows
    with the image."""

    harmonics: Annotated[int, Field(ge=1, le=8)] = 1
    """Of periodic coordinates: 3 also takes cosine and sine of twice and four times the frequency,
    for filters that reach far."""

    def output_shape(self, x: Shape) -> Shape:
        """As the ordinary convolution's."""
        if self.harmonics > 1 and self.coordinates != "periodic":
            what = f"harmonics has no meaning with {self.coordinates}"
            raise ShapeError(what, "leave it out, or use coordinates: periodic", "harmonics")
        return super().output_shape(x)

    def _filter_macs(self, layer: SpectralLayer) -> int:
        """The networks at each frequency and its mirror; the last layer once for both."""
        points = frequencies(layer.size)
        parts = 2 if self.networks == "separate" else 1
        last = 2 * self.hidden[-1] * layer.num_filters * points
        inputs = 4 * self.harmonics if self.coordinates == "periodic" else 2
        return parts * network_macs((inputs, *self.hidden), 2 * points) + last

    def build(self, x: Shape) -> "nn.Module":
        """A `nifbuild.nn.ImplicitFrequencyConv2d`."""
        from nifbuild.nn import ImplicitFrequencyConv2d

        return ImplicitFrequencyConv2d(
            **self._arguments(x),
            hidden=self.hidden,
            activation=self.activation,
            networks=self.networks,
            coordinates=self.coordinates,
            harmonics=self.harmonics,
            init_size=(x.size[0], x.size[1]),
        )


class FreeFrequencyConv(GlobalConv):
    """A filter as large as the image, with a learned complex number for each frequency.

    Source: Rao et al., "Global Filter Networks", arXiv 2107.00645.
    """

    family: ClassVar = Family("free_frequency", "#ee8fb8", stands_out=True)

    kind: Literal["free_frequency"]
    """A learned complex number for each frequency: what an implicit filter is without its network.
    The weights are for the image size of the spec."""

    coordinates: Literal["cycles_per_image", "cycles_per_pixel"] = "cycles_per_image"
    """What stays at another image size: in cycles per image the spectrum, so that a filter grows
    with the image; in cycles per pixel the kernel."""

    def _filter_macs(self, layer: SpectralLayer) -> int:
        """None: the weights are the spectra."""
        return 0

    def build(self, x: Shape) -> "nn.Module":
        """A `nifbuild.nn.FreeFrequencyConv2d`."""
        from nifbuild.nn import FreeFrequencyConv2d

        size = (x.size[0], x.size[1])
        return FreeFrequencyConv2d(**self._arguments(x), size=size, coordinates=self.coordinates)


class ImplicitSpatialConv(GlobalConv):
    """A filter as large as the image, from a small network over positions.

    Source: the idea is that of Romero et al., "FlexConv", arXiv 2110.08059.
    """

    family: ClassVar = Family("implicit_spatial", "#b095e6", stands_out=True)

    kind: Literal["implicit_spatial"]
    """A filter as large as the image, given by a small network over positions: what an implicit
    filter is without its frequencies."""

    hidden: Hidden = (8, 4)
    """Widths of the network's hidden layers."""

    activation: Literal["silu", "gelu", "sine"] = "silu"
    """Activation in the network."""

    positions: Literal["image", "pixels"] = "image"
    """Unit of the positions that the network sees: shares of the image's size, so that a filter
    grows with the image, or pixels."""

    def _filter_macs(self, layer: SpectralLayer) -> int:
        """The network at each pixel, and the transforms of its values."""
        pixels = layer.size[0] * layer.size[1]
        network = network_macs((2, *self.hidden, layer.num_filters), pixels)
        return network + layer.num_filters * transform_macs(layer.size)

    def build(self, x: Shape) -> "nn.Module":
        """A `nifbuild.nn.ImplicitSpatialConv2d`."""
        from nifbuild.nn import ImplicitSpatialConv2d

        return ImplicitSpatialConv2d(
            **self._arguments(x),
            hidden=self.hidden,
            activation=self.activation,
            positions=self.positions,
            init_size=(x.size[0], x.size[1]),
        )
