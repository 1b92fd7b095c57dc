"""Normalisation."""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from nifbuild.spec.base import PositiveInt, Probability
from nifbuild.spec.ops.activation import ShapeKeeping
from nifbuild.spec.ops.base import Channels, Layer, Shape, ShapeError, need_image, whole
from nifbuild.spec.ops.init import InitSection, NormInit, Scheme

if TYPE_CHECKING:
    from torch import nn

Epsilon = Annotated[float, Field(gt=0, lt=1)]


class Norm(Layer):
    """What norms have in common."""

    counts_as_zero: ClassVar = True
    is_small: ClassVar = True

    affine: bool = True
    """Whether each channel has a learned scale and shift."""

    init: NormInit | None = None
    """What scale and shift start at. Null: as the section `init` says of this op."""

    def output_shape(self, x: Shape) -> Shape:
        """Unchanged."""
        if self.init is not None and not self.affine:
            raise ShapeError("init has no meaning without scale and shift", "leave it out", "init")
        return x

    def scheme(self, section: InitSection) -> Scheme | None:
        """The op's own, or that of such norms."""
        scheme: Scheme | None = getattr(section, self.op)
        return self.init or scheme


class BatchNorm(Norm):
    """Normalises each channel over the batch (Ioffe and Szegedy, arXiv 1502.03167)."""

    op: Literal["batch_norm"]

    eps: Epsilon = 1e-5
    """Added to the variance."""

    momentum: Probability = 0.1
    """Share of the new batch in the running statistics."""

    def reads(self, channels: Channels, x: Shape) -> Channels:
        """The same."""
        return channels

    def fewest_images(self, x: Shape) -> int:
        """Two where an image has one value for each channel: of a single one there is no spread."""
        return 2 if x.num_elements == x.channels else 1

    def build(self, x: Shape) -> "nn.Module":
        """A `torch.nn.BatchNorm2d` for images, `BatchNorm1d` for vectors."""
        from torch import nn

        norm = nn.BatchNorm2d if x.is_image else nn.BatchNorm1d
        return norm(x.channels, self.eps, self.momentum, self.affine)


class LayerNorm(Norm):
    """Normalises each position over its channels (Ba et al., arXiv 1607.06450; as in ConvNeXt)."""

    op: Literal["layer_norm"]

    eps: Epsilon = 1e-6
    """Added to the variance."""

    def build(self, x: Shape) -> "nn.Module":
        """A `nifbuild.nn.norm.LayerNorm2d` for images, `torch.nn.LayerNorm` for vectors."""
        from torch import nn

        from nifbuild.nn.norm import LayerNorm2d

        norm = LayerNorm2d if x.is_image else nn.LayerNorm
        return norm(x.channels, eps=self.eps, elementwise_affine=self.affine)


class GroupNorm(Norm):
    """Normalises groups of channels of each sample (Wu and He, arXiv 1803.08494)."""

    op: Literal["group_norm"]
    counts_as_zero: ClassVar = True

    num_groups: PositiveInt = 32
    """Groups that the channels are divided into."""

    eps: Epsilon = 1e-5
    """Added to the variance."""

    def output_shape(self, x: Shape) -> Shape:
        """Unchanged."""
        super().output_shape(x)
        need_image(x, "group_norm")
        if x.channels % self.num_groups:
            what = f"{self.num_groups} groups do not divide {x.channels} channels"
            raise ShapeError(what, "choose num_groups that divides them", "num_groups")
        if x.num_elements == self.num_groups:
            what = f"{self.num_groups} groups of an input of {x} have one value each: without its "
            fix = "choose a smaller num_groups, or put it before the pool"
            raise ShapeError(f"{what}mean nothing is left of it", fix, "num_groups")
        return x

    def build(self, x: Shape) -> "nn.Module":
        """A `torch.nn.GroupNorm`."""
        from torch import nn

        return nn.GroupNorm(self.num_groups, x.channels, self.eps, self.affine)


class GlobalResponseNorm(ShapeKeeping):
    """Scales channels by how strong each is among all (GRN of ConvNeXt-V2, arXiv 2301.00808).

    A channel's strength is the root of its sum of squares over the image, divided by the mean of
    that over the channels. The output is x * (1 + gamma * strength) + beta. Both are learned, one
    for each channel, and start at 0: at first the op gives its input.
    """

    op: Literal["grn"]

    eps: Epsilon = 1e-6
    """Added to the mean that strengths are divided by."""

    def output_shape(self, x: Shape) -> Shape:
        """Unchanged."""
        need_image(x, self.op)
        return x

    def reads(self, channels: Channels, x: Shape) -> Channels:
        """All: strengths are relative."""
        return whole(x)

    def build(self, x: Shape) -> "nn.Module":
        """A `nifbuild.nn.norm.GlobalResponseNorm`."""
        from nifbuild.nn.norm import GlobalResponseNorm as NormModule

        return NormModule(x.channels, self.eps)


NORMS = (BatchNorm, LayerNorm, GroupNorm)
