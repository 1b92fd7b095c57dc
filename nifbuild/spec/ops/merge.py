"""What a structure ends with where several tensors become one."""

from typing import TYPE_CHECKING, ClassVar, Literal

from nifbuild.spec.ops.base import Channels, Family, Merge, Shape, ShapeError

if TYPE_CHECKING:
    from torch import nn


MERGE = Family("merge", "#ffffff")


class Add(Merge):
    """The sum of tensors of one shape."""

    op: Literal["add"] = "add"
    counts_as_zero: ClassVar = True
    family: ClassVar = MERGE

    def output_shape(self, *inputs: Shape) -> Shape:
        """The shape of all inputs."""
        if len(set(inputs)) > 1:
            what = f"tensors of different shapes cannot be added: {_listed(inputs)}"
            raise ShapeError(what, "bring them to one shape first")
        return inputs[0]

    def reads(self, channels: Channels, *inputs: Shape) -> tuple[Channels, ...]:
        """The same of each."""
        return (channels,) * len(inputs)

    def build(self, *inputs: Shape) -> "nn.Module":
        """A `nifbuild.nn.merge.Add`."""
        from nifbuild.nn.merge import Add as AddModule

        return AddModule()


class Concatenate(Merge):
    """Tensors one after another along the channels."""

    op: Literal["concat"] = "concat"
    counts_as_zero: ClassVar = True
    family: ClassVar = MERGE

    def output_shape(self, *inputs: Shape) -> Shape:
        """The channels of all inputs together, and their size."""
        if len({x.size for x in inputs}) > 1:
            what = f"only tensors of one height and width can be concatenated: {_listed(inputs)}"
            fix = "bring them to one size first; strides and upsampling undo each other where they "
            raise ShapeError(what, fix + "divide input.size")
        return Shape(sum(x.channels for x in inputs), inputs[0].size)

    def reads(self, channels: Channels, *inputs: Shape) -> tuple[Channels, ...]:
        """Of each those that come after the channels of the inputs before it."""
        found, before = [], 0
        for x in inputs:
            parts = ((max(a - before, 0), min(b - before, x.channels)) for a, b in channels)
            found.append(tuple((start, stop) for start, stop in parts if start < stop))
            before += x.channels
        return tuple(found)

    def build(self, *inputs: Shape) -> "nn.Module":
        """A `nifbuild.nn.merge.Concat`."""
        from nifbuild.nn.merge import Concat

        return Concat()


class Product(Merge):
    """The product of tensors; an axis of length 1 is repeated."""

    op: Literal["multiply"] = "multiply"
    counts_as_zero: ClassVar = True
    family: ClassVar = MERGE

    def output_shape(self, *inputs: Shape) -> Shape:
        """The longest extent along each axis; the others are as long, or 1."""
        axes = list(zip(*((x.channels, *x.size) for x in inputs), strict=False))
        same_kind = len({len(x.size) for x in inputs}) == 1
        if not same_kind or any(len(set(axis) - {1}) > 1 for axis in axes):
            what = f"tensors of these shapes cannot be multiplied: {_listed(inputs)}"
            raise ShapeError(what, "each channel count, height and width is the others', or 1")
        channels, *size = (max(axis) for axis in axes)
        return Shape(channels, tuple(size))

    def build(self, *inputs: Shape) -> "nn.Module":
        """A `nifbuild.nn.merge.Multiply`."""
        from nifbuild.nn.merge import Multiply

        return Multiply()


def _listed(inputs: tuple[Shape, ...]) -> str:
    return ", ".join(str(x) for x in inputs)
