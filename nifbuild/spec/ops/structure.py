"""Sequences and residual blocks."""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from nifbuild.spec.base import Spec
from nifbuild.spec.ops.activation import ShapeKeeping
from nifbuild.spec.ops.base import (
    AnyOp,
    GraphBuilder,
    Place,
    Shape,
    ShapeError,
    Structure,
    Value,
)
from nifbuild.spec.ops.branch import Join
from nifbuild.spec.ops.conv import StandardConv
from nifbuild.spec.ops.merge import Add
from nifbuild.spec.ops.norm import NORMS

if TYPE_CHECKING:
    from torch import nn

    from nifbuild.spec.ops.base import AnyOp as OpUnion

Body = Annotated[tuple["OpUnion", ...], Field(min_length=1)]


class StochasticDepth(ShapeKeeping):
    """Zeros for some samples in training; the end of a residual body (arXiv 1603.09382)."""

    op: Literal["stochastic_depth"] = "stochastic_depth"
    rate: float
    schedule: Literal["linear", "linear_all", "constant"]

    def placed(self, place: Place) -> "StochasticDepth":
        """With the rate that its schedule has there."""
        if self.schedule == "constant":
            return self
        rate = self.rate * place.index / max(place.count - 1, 1)
        if self.schedule == "linear_all":
            rate = self.rate * place.index_of_all / place.count_of_all
        return StochasticDepth(rate=rate, schedule="constant")

    def build(self, x: Shape) -> "nn.Module":
        """A `nifbuild.nn.stochastic_depth.StochasticDepth`."""
        from nifbuild.nn.stochastic_depth import StochasticDepth as DepthModule

        return DepthModule(self.rate)


class DepthFields(Spec):
    """How often training leaves out a residual body, each sample drawing for itself."""

    rate: Annotated[float, Field(ge=0, lt=1)]
    """Probability of leaving it out."""

    schedule: Literal["linear", "linear_all", "constant"] = "linear"
    """linear: the probability grows from 0 at the network's first residual op with stochastic depth
    to `rate` at its last one, where bodies without a shortcut do not count (torchvision's
    ConvNeXt). linear_all: op i of all n, from 0 and with those bodies, has `rate` i / n
    (torchvision's EfficientNet). constant: it is `rate` everywhere."""


class Sequence(Structure):
    """Ops one after another; with an id, a level in the names of their modules."""

    op: Literal["sequence"]

    body: Body
    """The ops."""

    bodies: ClassVar = {"body": ()}
    is_its_body: ClassVar = True

    def lower(self, graph: GraphBuilder, x: Value) -> Value:
        """The last op's output."""
        return graph.body("body", x)


class Residual(Structure):
    """A body whose output is added to its input (He et al., arXiv 1512.03385)."""

    op: Literal["residual"]

    body: Body
    """The ops of the long way."""

    shortcut: Literal["auto", "identity", "if_same_shape"] | Body = "auto"
    """The short way. identity: the input itself. auto: that where the shapes agree, else a strided
    1x1 convolution and a norm of the body's kind, together named `downsample`. if_same_shape: the
    input where the shapes agree, else none, so that the body stands alone. Or any ops."""

    stochastic_depth: DepthFields | None = None
    """Leaves the body out at random in training. Null: never."""

    zero_init: bool = False
    """Whether the norm that ends the body starts at a scale of 0, so that the op starts as its
    shortcut (Goyal et al., arXiv 1706.02677)."""

    then: Body | None = None
    """Ops after the sum, such as `relu`."""

    bodies: ClassVar = {
        "body": (),
        "shortcut": ("auto", "identity", "if_same_shape"),
        "then": (),
    }
    without_ops: ClassVar = {"shortcut": "identity", "then": None}

    def lower(self, graph: GraphBuilder, x: Value) -> Value:
        """Sum of body and shortcut, and what comes after it."""
        long_way = graph.body("body", x)
        depth = self.stochastic_depth
        if self.shortcut == "if_same_shape" and x.shape != long_way.shape:
            if depth is not None:
                graph.count_absent(StochasticDepth)
            return graph.body("then", long_way) if self.then else long_way
        if self.zero_init:
            graph.start_at_zero(long_way, field="zero_init")
        if depth is not None:
            drop = StochasticDepth(rate=depth.rate, schedule=depth.schedule)
            long_way = graph.add(drop, long_way, field="stochastic_depth")
        short_way = x
        if isinstance(self.shortcut, tuple):
            short_way = graph.body("shortcut", x)
        elif self.shortcut == "auto" and x.shape != long_way.shape:
            projection = self._projection(x.shape, long_way.shape)
            short_way = graph.implied("shortcut", (projection,), x)
        if short_way.shape != long_way.shape:
            what = f"the body ends with {long_way.shape} and the shortcut with {short_way.shape}: "
            fix = "`shortcut: auto` fits a 1x1 convolution where shapes differ"
            if self.shortcut == "auto":
                fix = (
                    "`shortcut: auto` fits channels and whole strides alone: let the body divide "
                    "the size by a whole number, or keep it, as odd kernels do"
                )
            raise ShapeError(what + "they cannot be added", fix, "shortcut")
        total = graph.add(Add(), long_way, short_way)
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
        if norm is None:
            return Sequence(op="sequence", id="downsample", body=(conv,))
        norm = norm.model_copy(update={"id": "1", "from_": None})
        return Sequence(op="sequence", id="downsample", body=(conv, norm))


def _last_norm(body: "tuple[AnyOp, ...]") -> AnyOp | None:
    """The norm that a body uses last, so that the shortcut has one of the same kind."""
    for op in reversed(body):
        if isinstance(op, NORMS):
            return op
        inner: tuple[AnyOp, ...] = ()
        if isinstance(op, Sequence | Residual):
            inner = op.body
        elif isinstance(op, Join):
            inner = op.branches or ()
        found = _last_norm(inner)
        if found is not None:
            return found
    return None
