"""Ops that pick, reorder or scale channels."""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from nifbuild.spec.base import NonNegativeInt, PositiveInt
from nifbuild.spec.ops.activation import ShapeKeeping
from nifbuild.spec.ops.base import Channels, Layer, Shape, ShapeError, need_image, whole

if TYPE_CHECKING:
    from torch import nn


class ChannelSlice(Layer):
    """Some of the channels, those after one another."""

    op: Literal["channel_slice"]
    counts_as_zero: ClassVar = True

    start: NonNegativeInt = 0
    """The first channel, counted from 0."""

    stop: PositiveInt
    """The first channel that is left out again."""

    def output_shape(self, x: Shape) -> Shape:
        """`stop - start` channels."""
        if not self.start < self.stop <= x.channels:
            what = f"there are no channels {self.start} to {self.stop} in an input of {x}"
            raise ShapeError(what, "choose start < stop, and stop within the channels", "stop")
        return Shape(self.stop - self.start, x.size)

    def reads(self, channels: Channels, x: Shape) -> Channels:
        """Those as far behind the first."""
        return tuple((start + self.start, stop + self.start) for start, stop in channels)

    def build(self, x: Shape) -> "nn.Module":
        """A `nifbuild.nn.channels.ChannelSlice`."""
        from nifbuild.nn.channels import ChannelSlice as SliceModule

        return SliceModule(self.start, self.stop)


class ChannelShuffle(ShapeKeeping):
    """Deals the channels of each group out to all groups (ShuffleNet, arXiv 1707.01083)."""

    op: Literal["channel_shuffle"]

    groups: PositiveInt
    """Groups that the channels are divided into."""

    def output_shape(self, x: Shape) -> Shape:
        """Unchanged."""
        need_image(x, self.op)
        if x.channels % self.groups:
            what = f"{self.groups} groups do not divide {x.channels} channels"
            raise ShapeError(what, "choose groups that divide them", "groups")
        return x

    def reads(self, channels: Channels, x: Shape) -> Channels:
        """All: they are in another order."""
        return whole(x)

    def build(self, x: Shape) -> "nn.Module":
        """A `torch.nn.ChannelShuffle`."""
        from torch import nn

        return nn.ChannelShuffle(self.groups)


class LayerScale(ShapeKeeping):
    """A learned factor for each channel (arXiv 2103.17239), at the end of a residual body.

    The factors are a parameter of the level that the op stands in, and its id is their whole name.
    """

    op: Literal["layer_scale"]

    init: Annotated[float, Field(gt=0, le=1)] = 1e-6
    """The factors before training. A small one starts the residual block as the identity."""

    def build(self, x: Shape) -> "nn.Parameter":
        """The factors, [channels, 1, 1] for images and [channels] for vectors."""
        import torch
        from torch import nn

        return nn.Parameter(torch.full((x.channels, *(1 for _ in x.size)), self.init))
