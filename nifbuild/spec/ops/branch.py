"""Branches side by side, and the joining of any earlier outputs."""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from nifbuild.spec.base import PositiveInt, Reference
from nifbuild.spec.ops.base import GraphBuilder, ShapeError, Structure, Value
from nifbuild.spec.ops.channels import ChannelSlice
from nifbuild.spec.ops.merge import Add, Concatenate, Product

if TYPE_CHECKING:
    from nifbuild.spec.ops.base import AnyOp as OpUnion


class Join(Structure):
    """The fields of the ops that make one tensor of several.

    The tensors are the outputs of `branches`, which all take one input, or those that a list under
    `from` names.
    """

    branches: Annotated[tuple["OpUnion", ...], Field(min_length=1)] | None = None
    """The branches, each an op, a list of ops, or a name with one of these: the name becomes a
    level in the names of the modules."""

    split: Literal["even"] | tuple[PositiveInt, ...] | None = None
    """Divides the input's channels among the branches instead of giving all to each: into equal
    parts, or into parts of these numbers of channels."""

    from_: Reference | tuple[Reference, ...] | None = Field(  # type: ignore[assignment]
        default=None, alias="from"
    )
    """Where the input of the branches comes from; or, as a list and without branches, the tensors
    to join: ids of earlier ops, `previous` and `input` (the model's)."""

    bodies: ClassVar = {"branches": ()}
    parallel: ClassVar = ("branches",)

    merge: ClassVar[type[Add | Concatenate | Product]]

    def lower(self, graph: GraphBuilder, x: Value) -> Value:
        """The tensors, and the one that they become."""
        names = self.from_ if isinstance(self.from_, tuple) else ()
        if bool(names) == bool(self.branches):
            what = f"{self.op} joins either `branches` or what a list under `from` names"
            raise ShapeError(what, "write one of the two, and not both", "from")
        if names:
            if self.split is not None:
                raise ShapeError("`split` divides among branches", "leave it out", "split")
            inputs = [graph.source(name, x) for name in names]
            return graph.add(self.merge(), *inputs, field="from")
        parts = self._parts(graph, x)
        return graph.add(self.merge(), *graph.branches("branches", parts), field="branches")

    def _parts(self, graph: GraphBuilder, x: Value) -> list[Value]:
        """What each branch takes of the input."""
        channels, count = x.shape.channels, len(self.branches or ())
        if self.split is None:
            return [x] * count
        if self.split == "even" and channels % count:
            what = f"{channels} channels cannot be divided evenly among {count} branches"
            raise ShapeError(what, "write the parts: `split: [..]`", "split")
        parts = self.split if isinstance(self.split, tuple) else (channels // count,) * count
        if len(parts) != count or sum(parts) != channels:
            what = f"split has {len(parts)} parts with {sum(parts)} channels together, for {count} "
            what += f"branches and an input of {x.shape}"
            raise ShapeError(what, "one part for each branch, and all channels in one", "split")
        stops = [sum(parts[: index + 1]) for index in range(count)]
        return [
            graph.add(ChannelSlice(op="channel_slice", start=stop - part, stop=stop), x)
            for part, stop in zip(parts, stops, strict=True)
        ]


class Concat(Join):
    """Tensors one after another along the channels."""

    op: Literal["concat"]
    merge: ClassVar = Concatenate


class Sum(Join):
    """The sum of tensors of one shape."""

    op: Literal["sum"]
    merge: ClassVar = Add


class Multiply(Join):
    """The product of tensors; an axis of length 1 is repeated.

    So a branch that ends in 1x1 images scales the channels of another one, as in
    squeeze-and-excitation (arXiv 1709.01507).
    """

    op: Literal["multiply"]
    merge: ClassVar = Product
