"""How an op is named and coloured in a picture."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nifbuild.spec.graph import Node
from nifbuild.spec.ops import OPS, Shape
from nifbuild.spec.ops.activation import ShapeKeeping
from nifbuild.spec.ops.conv import ConvFields
from nifbuild.spec.ops.linear import Flatten
from nifbuild.spec.ops.norm import NORMS

PLAIN = "#eeeeee"
COLOURS = {
    "implicit_frequency": "#f58a1f",
    "free_frequency": "#ee8fb8",
    "implicit_spatial": "#b095e6",
    "conv": "#b9d4ee",
    "linear": "#c3e2bd",
    "pool": "#fbeeb0",
    "resize": "#b4e2dd",
    "merge": "#ffffff",
    "norm": PLAIN,
    "activation": PLAIN,
}
"""Fills by kind of convolution or by family of ops; image-sized filters are the loud ones."""

IMAGE_SIZED = ("implicit_frequency", "free_frequency", "implicit_spatial")
"""Those of the groups whose boxes have a bold border."""

_MAX_LINES = 7


@dataclass(frozen=True)
class Line:
    """A line of text in a box; a `swatch` is the colour of the ops that it is about."""

    text: str
    is_title: bool = False
    swatch: str = ""


def group_of(node: Node) -> str:
    """The key of `COLOURS` for an op: its kind, else its family (the file that its class is in)."""
    kind = getattr(node.op, "kind", "")
    return kind if kind in COLOURS else type(node.op).__module__.rpartition(".")[2]


def colour_of(node: Node) -> str:
    """The fill of an op's box."""
    return COLOURS.get(group_of(node), PLAIN)


def is_small(node: Node) -> bool:
    """Whether an op is drawn as a word in the box of the op before it."""
    return isinstance(node.op, (ShapeKeeping, Flatten, *NORMS))


def short_label(node: Node) -> str:
    """What an op is: `conv 3x3`, `implicit_frequency 56x56`, `add`."""
    op: Any = node.op
    kind = getattr(op, "kind", "")
    word = kind if kind and kind != next(iter(OPS[op.op])) else op.op
    size = None
    if isinstance(op, ConvFields):
        size = op.filter_size(node.input_shapes[0])
    elif isinstance(getattr(op, "kernel_size", None), tuple):
        size = op.kernel_size
    return f"{word} {size[0]}\u00d7{size[1]}" if size else word


def label(node: Node) -> str:
    """What an op is, and what it does to channels and size: `conv 3x3, 64, stride 2`."""
    op: Any = node.op
    parts = [short_label(node)]
    if hasattr(op, "out_channels") or hasattr(op, "out_features"):
        parts.append(str(node.output_shape.channels))
    stride = getattr(op, "stride", None)
    if isinstance(stride, tuple) and stride != (1, 1):
        parts.append(f"stride {_pair(stride)}")
    if getattr(op, "dilation", (1, 1)) != (1, 1):
        parts.append(f"dilation {_pair(op.dilation)}")
    groups = getattr(op, "groups", 1)
    if groups == "depthwise" or groups == node.input_shapes[0].channels > 1:
        parts.append("depthwise")
    elif groups != 1:
        parts.append(f"{groups} groups")
    return ", ".join(parts)


def op_lines(nodes: Sequence[Node], name: str) -> list[Line]:
    """What stands in the box of an op and the small ones behind it."""
    words = [name, *(node.op.op for node in nodes[1:])]
    if nodes[0].op.op == name:
        words = words[1:]
    return [Line(label(nodes[0]), True), *([Line(" \u00b7 ".join(words))] if words else [])]


def level_lines(nodes: Sequence[Node], name: str) -> list[Line]:
    """What stands in the box of a closed level: its name, and how many ops of which kind it has."""
    counts = Counter((short_label(n), colour_of(n)) for n in nodes if not is_small(n))
    shown = counts.most_common() if len(counts) > _MAX_LINES else list(counts.items())
    lines = [Line(name, True)]
    for (word, colour), number in shown[:_MAX_LINES]:
        lines.append(Line(f"{number} \u00d7 {word}" if number > 1 else word, swatch=colour))
    if len(shown) > _MAX_LINES:
        lines.append(Line(f"and {len(shown) - _MAX_LINES} kinds more", swatch=PLAIN))
    return lines


def shape_label(shape: Shape) -> str:
    """`64\u00d756\u00d756`."""
    return str(shape).replace("x", "\u00d7")


def _pair(pair: tuple[int, int]) -> str:
    return str(pair[0]) if pair[0] == pair[1] else f"{pair[0]}\u00d7{pair[1]}"
