"""From images to vectors to classes."""

from typing import TYPE_CHECKING, ClassVar, Literal

from nifbuild.spec.base import PositiveInt
from nifbuild.spec.ops.base import Cost, Family, Layer, Shape, ShapeError, need_image
from nifbuild.spec.ops.init import Init, InitSection, Scheme

if TYPE_CHECKING:
    from torch import nn


LINEAR = Family("linear", "#c3e2bd")


class Flatten(Layer):
    """An image as one vector."""

    op: Literal["flatten"]
    counts_as_zero: ClassVar = True
    family: ClassVar = LINEAR
    is_small: ClassVar = True

    def output_shape(self, x: Shape) -> Shape:
        """All values in one axis."""
        return Shape(x.num_elements)

    def build(self, x: Shape) -> "nn.Module":
        """A `torch.nn.Flatten`."""
        from torch import nn

        return nn.Flatten()


class Linear(Layer):
    """A fully connected layer."""

    op: Literal["linear"]
    family: ClassVar = LINEAR

    per_pixel: bool = False
    """Whether it takes images, and maps the channels of each pixel: a 1x1 convolution whose weight
    has two axes, as ConvNeXt's have."""

    out_features: PositiveInt
    """Length of the output vector."""

    bias: bool = True
    """Whether a learned number is added to each output."""

    init: Init | None = None
    """How the weights are drawn. Null: as the section `init` says of linear."""

    def output_shape(self, x: Shape) -> Shape:
        """A vector of `out_features`, or an image with as many channels."""
        if self.per_pixel:
            return Shape(self.out_features, need_image(x, "linear with per_pixel"))
        if x.is_image:
            fix = "put global_avg_pool and flatten before it, or set `per_pixel: true`"
            raise ShapeError(f"linear takes vectors, and its input is an image of {x}", fix)
        return Shape(self.out_features)

    def cost(self, x: Shape) -> Cost:
        """One for each weight and, of images, each pixel."""
        return Cost({"direct": x.num_elements * self.out_features})

    def build(self, x: Shape) -> "nn.Module":
        """A `torch.nn.Linear`, or a `nifbuild.nn.linear.PixelLinear`."""
        from torch import nn

        from nifbuild.nn.linear import PixelLinear

        linear = PixelLinear if self.per_pixel else nn.Linear
        return linear(x.channels, self.out_features, self.bias)

    def scheme(self, section: InitSection) -> Scheme | None:
        """The op's own, or that of linear layers."""
        return self.init or section.linear
