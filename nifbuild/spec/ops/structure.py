"""Ops that stand for others: sequences and residual blocks."""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from nifbuild.spec.ops.base import (
    AnyOp,
    GraphBuilder,
    Merge,
    Shape,
    ShapeError,
    Structure,
    Value,
)
from nifbuild.spec.ops.conv import StandardConv
from nifbuild.spec.ops.norm import NORMS

if TYPE_CHECKING:
    from torch import nn

    from nifbuild.spec.ops import OpUnion

Body = Annotated[tuple["OpUnion", ...], Field(min_length=1)]


class Add(Merge):
    """The sum of two tensors of one shape; the end of a residual block."""

    op: Literal["add"] = "add"

    def output_shape(self, *inputs: Shape) -> Shape:
        """The shape of all inputs."""
        body, shortcut = inputs
        if body != shortcut:
            what = (
                f"the body ends with {body} and the shortcut with {shortcut}: they cannot be added"
            )
            raise ShapeError(what, "`shortcut: auto` fits a 1x1 convolution where shapes differ")
        return body

    def build(self, *inputs: Shape) -> "nn.Module":
        """A `nifbuild.nn.merge.Add`."""
        from nifbuild.nn.merge import Add as AddModule

        return AddModule()


class Sequence(Structure):
    """Ops one after another; with an id, a level in the names of their modules."""

    op: Literal["sequence"]

    body: Body
    """The ops."""

    bodies: ClassVar = {"body": ()}

    def lower(self, graph: GraphBuilder, x: Value) -> Value:
        """The last op's output."""
        return graph.body("body", x)


class Residual(Structure):
    """A body whose output is added to its input (He et al., arXiv 1512.03385)."""

    op: Literal["residual"]

    body: Body
    """The ops of the long way."""

    shortcut: Literal["auto", "identity"] | Body = "auto"
    """The short way. identity: the input itself. auto: that where the shapes agree, else a strided
    1x1 convolution and a norm of the body's kind, together named `downsample`. Or any ops."""

    then: Annotated[tuple["OpUnion", ...], Field()] = ()
    """Ops after the sum, such as `relu`."""

    bodies: ClassVar = {"body": (), "shortcut": ("auto", "identity"), "then": ()}

    def lower(self, graph: GraphBuilder, x: Value) -> Value:
        """Sum of body and shortcut, and what comes after it."""
        long_way = graph.body("body", x)
        short_way = x
        if isinstance(self.shortcut, tuple):
            short_way = graph.body("shortcut", x)
        elif self.shortcut == "auto" and x.shape != long_way.shape:
            projection = self._projection(x.shape, long_way.shape)
            short_way = graph.implied("shortcut", (projection,), x)
        total = graph.add(Add(), long_way, short_way, field="shortcut")
        return graph.body("then", total) if self.then else total

    def _projection(self, x: Shape, out: Shape) -> Sequence:
        if not (x.is_image and out.is_image) or any(
            n < m for n, m in zip(x.size, out.size, strict=True)
        ):
            what = f"no 1x1 convolution turns the input of {x} into the body's output of {out}"
            raise ShapeError(what, "write the ops of the shortcut out", "shortcut")
        first, second = (-(-n // m) for n, m in zip(x.size, out.size, strict=True))
        norm = _last_norm(self.body)
        conv = StandardConv(
            op="conv",
            id="0",
            out_channels=out.channels,
            kernel_size=(1, 1),
            stride=(first, second),
            bias=norm is None,
        )
        ops = (conv,) if norm is None else (conv, norm.model_copy(update={"id": "1"}))
        return Sequence(op="sequence", id="downsample", body=ops)


def _last_norm(body: "tuple[AnyOp, ...]") -> AnyOp | None:
    """The norm that a body uses last, so that the shortcut has one of the same kind."""
    for op in reversed(body):
        if isinstance(op, NORMS):
            return op
        inner = _last_norm(op.body) if isinstance(op, Sequence | Residual) else None
        if inner is not None:
            return inner
    return None
