"""The ops that a model is written in, one file for each family.

`OP_CLASSES` is the table of all of them: the parser, the compiler and the JSON Schema ask it, and
nothing else names an op or a kind.
"""

from typing import TYPE_CHECKING, Annotated, Any, Union, get_args

from pydantic import Discriminator, Tag

from nifbuild.spec.ops import branch, structure
from nifbuild.spec.ops.activation import Activation, Dropout, Gelu, LeakyRelu
from nifbuild.spec.ops.base import (
    AnyOp,
    Cost,
    Layer,
    Merge,
    Op,
    Shape,
    ShapeError,
    Structure,
    Value,
)
from nifbuild.spec.ops.branch import Concat, Multiply, Sum
from nifbuild.spec.ops.channels import ChannelShuffle, ChannelSlice, LayerScale
from nifbuild.spec.ops.conv import StandardConv
from nifbuild.spec.ops.global_conv import (
    FreeFrequencyConv,
    ImplicitFrequencyConv,
    ImplicitSpatialConv,
)
from nifbuild.spec.ops.linear import Flatten, Linear
from nifbuild.spec.ops.norm import BatchNorm, GroupNorm, LayerNorm
from nifbuild.spec.ops.pool import AvgPool, GlobalAvgPool, GlobalMaxPool, MaxPool
from nifbuild.spec.ops.resize import ConvTranspose, Upsample
from nifbuild.spec.ops.structure import Residual, Sequence

__all__ = [
    "OPS",
    "OP_CLASSES",
    "AnyOp",
    "Cost",
    "Layer",
    "Merge",
    "Op",
    "OpUnion",
    "Shape",
    "ShapeError",
    "Structure",
    "Value",
]

OP_CLASSES: tuple[type[Op], ...] = (
    StandardConv,
    ImplicitFrequencyConv,
    FreeFrequencyConv,
    ImplicitSpatialConv,
    BatchNorm,
    LayerNorm,
    GroupNorm,
    Activation,
    Gelu,
    LeakyRelu,
    Dropout,
    MaxPool,
    AvgPool,
    GlobalAvgPool,
    GlobalMaxPool,
    Upsample,
    ConvTranspose,
    ChannelSlice,
    ChannelShuffle,
    LayerScale,
    Linear,
    Flatten,
    Sequence,
    Residual,
    Concat,
    Sum,
    Multiply,
)


def _literals(op_class: type[Op], field: str) -> tuple[str, ...]:
    """The words that a `Literal` field of the class allows; none where it has no such field."""
    info = op_class.model_fields.get(field)
    return get_args(info.annotation) if info is not None else ()


OPS: dict[str, dict[str, type[Op]]] = {}
"""Op name to its classes by kind; the first is the kind meant where none is given. An op without
kinds has one class, under the empty word."""
for _class in OP_CLASSES:
    for _name in _literals(_class, "op"):
        for _kind in _literals(_class, "kind") or ("",):
            OPS.setdefault(_name, {})[_kind] = _class


def _tag(value: Any) -> str | None:
    """The class that a mapping, or an op, belongs to."""
    if isinstance(value, Op):
        return type(value).__name__
    if not isinstance(value, dict):
        return None
    kinds = OPS.get(str(value.get("op")), {})
    kind = str(value.get("kind", next(iter(kinds), "")))
    return kinds[kind].__name__ if kind in kinds else None


if TYPE_CHECKING:
    OpUnion = AnyOp
else:
    OpUnion = Annotated[
        Union[tuple(Annotated[c, Tag(c.__name__)] for c in OP_CLASSES)],  # noqa: UP007
        Discriminator(_tag),
    ]

# Structures hold ops, so that their modules need the union of all. Where they find it by name,
# their schemas are built when one is used, not five times at each start (`model_rebuild`).
for _module in (branch, structure):
    vars(_module)["OpUnion"] = OpUnion
