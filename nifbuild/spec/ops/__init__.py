"""The ops that a model is written in, one file for each family.

`OP_CLASSES` is the table of all of them: the parser, the compiler and the JSON Schema ask it, and
nothing else names an op or a kind. Installed packages may have more (`installed`).
"""

import json
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args

from pydantic import Discriminator, PlainValidator, Tag

from nifbuild.spec.ops import branch, installed, structure
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
from nifbuild.spec.ops.norm import BatchNorm, GlobalResponseNorm, GroupNorm, LayerNorm
from nifbuild.spec.ops.pool import (
    AdaptiveAvgPool,
    AdaptiveMaxPool,
    AvgPool,
    GlobalAvgPool,
    GlobalMaxPool,
    MaxPool,
)
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
    "all_op_classes",
    "built_in",
    "is_union_by_name",
    "kinds_of",
    "load_all_installed",
]

OP_CLASSES: tuple[type[Op], ...] = (
    StandardConv,
    ImplicitFrequencyConv,
    FreeFrequencyConv,
    ImplicitSpatialConv,
    BatchNorm,
    LayerNorm,
    GroupNorm,
    GlobalResponseNorm,
    Activation,
    Gelu,
    LeakyRelu,
    Dropout,
    MaxPool,
    AvgPool,
    GlobalAvgPool,
    GlobalMaxPool,
    AdaptiveAvgPool,
    AdaptiveMaxPool,
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
kinds has one class, under the empty word. `kinds_of` adds those of installed packages."""
for _class in OP_CLASSES:
    for _name in _literals(_class, "op"):
        for _kind in _literals(_class, "kind") or ("",):
            OPS.setdefault(_name, {})[_kind] = _class


def kinds_of(name: str) -> dict[str, type[Op]]:
    """The classes of an op by kind, as in `OPS`, of an installed package if need be; else none."""
    if name not in OPS:
        found = installed.load(name, {op_class.__name__ for op_class in all_op_classes()})
        if found is not None:
            OPS[name] = dict.fromkeys(_literals(found.op_class, "kind") or ("",), found.op_class)
    return OPS.get(name, {})


def load_all_installed() -> None:
    """Adds all ops of installed packages to `OPS`, those that work."""
    for name in installed.offered():
        kinds_of(name)


def built_in() -> dict[str, dict[str, type[Op]]]:
    """The ops of nifbuild alone."""
    return {name: kinds for name, kinds in OPS.items() if name not in installed.LOADED}


def all_op_classes() -> tuple[type[Op], ...]:
    """The classes of nifbuild, and of installed packages as far as they were asked for."""
    return (*OP_CLASSES, *(found.op_class for found in installed.LOADED.values()))


def _tag(value: Any) -> str | None:
    """The class that a mapping, or an op, belongs to."""
    if isinstance(value, Op):
        return type(value).__name__ if type(value) in OP_CLASSES else INSTALLED_TAG
    if not isinstance(value, dict):
        return None
    name = str(value.get("op"))
    kinds = kinds_of(name)
    kind = str(value.get("kind", next(iter(kinds), "")))
    if kind not in kinds:
        return None
    return INSTALLED_TAG if name in installed.LOADED else kinds[kind].__name__


def _read_installed(value: Any) -> Op:
    """An op of an installed package; what its class finds wrong is told as of any other's."""
    if isinstance(value, Op):
        return value
    kinds = kinds_of(str(value["op"]))
    op_class = kinds[str(value.get("kind", next(iter(kinds))))]
    return op_class.model_validate_json(json.dumps(value))  # as strict as JSON is read elsewhere


INSTALLED_TAG = "Installed"
"""The tag of all classes that are not known when this is loaded."""

if TYPE_CHECKING:
    OpUnion = AnyOp
else:
    OpUnion = Annotated[
        Union[
            (
                *(Annotated[c, Tag(c.__name__)] for c in OP_CLASSES),
                Annotated[
                    Any,  # so that it is written out with the fields of its own class
                    PlainValidator(_read_installed, json_schema_input_type=dict[str, Any]),
                    Tag(INSTALLED_TAG),
                ],
            )
        ],
        Discriminator(_tag),
    ]


def is_union_by_name(annotation: Any) -> bool:
    """Whether it is the union of all ops, as the fields of structures have it: by its name."""
    return bool(annotation == "OpUnion")


# Structures hold ops, so that their modules need the union of all. Where they find it by name,
# their schemas are built when one is used, not five times at each start (`model_rebuild`).
for _module in (branch, structure):
    vars(_module)["OpUnion"] = OpUnion
