"""What a picture shows: boxes within boxes, equal ones in a row folded into one, and their texts.

How an op looks is asked of the op.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from nifbuild.spec.graph import Graph, Node
from nifbuild.spec.ops import Shape
from nifbuild.spec.ops.base import OTHERS, Family

MAX_BOXES = 40
"""So many boxes still make a picture that one can read; without a given depth no more are drawn."""

_MAX_LINES = 7


@dataclass(frozen=True)
class Block:
    """A level of names, or an op with the small ones that follow it.

    Attributes:
        name: Below the level around it; of a fold, the first and the last one's.
        nodes: The nodes in it; of a fold, those of the first.
        inputs: The nodes outside whose outputs it takes; `INPUT` is the model's input.
        outputs: The nodes in it whose outputs are taken outside.
        is_level: Whether it is a level of names.
        parts: What is drawn inside of it; nothing in a closed level.
        count: So many equal ones, each taking the output of the one before.
        last_outputs: The `outputs` of the last of them: what others take.
    """

    name: str
    nodes: tuple[int, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    is_level: bool
    parts: tuple["Block", ...] = ()
    count: int = 1
    last_outputs: tuple[int, ...] = ()

    @property
    def num_boxes(self) -> int:
        """Boxes that are drawn for it, frames around others not counted."""
        return sum(part.num_boxes for part in self.parts) if self.parts else 1


def blocks(graph: Graph, depth: int | None = None) -> Block:
    """The model as one block.

    Args:
        graph: The nodes.
        depth: Levels of names that are opened; 0: those at the top are closed. None: as many as
            come to no more than `MAX_BOXES` boxes.
    """
    folder = _Folder(graph)
    if depth is not None:
        return folder.model(depth)
    deepest = max(node.path.count(".") for node in graph.nodes)
    candidates = (folder.model(level) for level in range(deepest, 0, -1))
    fitting = (model for model in candidates if model.num_boxes <= MAX_BOXES)
    return next(fitting, None) or folder.model(0)


class _Folder:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.inputs: dict[int, tuple[int, ...]] = {}
        self.users: dict[int, set[int]] = {}
        # An identity is a line and no box, unless there is nothing else.
        is_line = {node.op.op == "identity" for node in graph.nodes} == {True, False}
        same: dict[int, int] = {}
        for index, node in enumerate(graph.nodes):
            inputs = tuple(same.get(i, i) for i in node.inputs)
            if is_line and node.op.op == "identity":
                same[index] = inputs[0]
                continue
            self.inputs[index] = inputs
            for source in inputs:
                self.users.setdefault(source, set()).add(index)
        output = same.get(graph.output, graph.output)
        self.users.setdefault(output, set()).add(len(graph.nodes))

    def model(self, depth: int) -> Block:
        members = tuple(self.inputs)
        return self.block("", members, True, self.parts(members, "", depth))

    def parts(self, members: Sequence[int], prefix: str, depth: int) -> tuple[Block, ...]:
        groups: dict[str, list[int]] = {}
        for index in members:
            name = self.graph.nodes[index].path[len(prefix) :].split(".")[0]
            groups.setdefault(name, []).append(index)
        found: list[Block] = []
        for name, group in groups.items():
            if self.graph.nodes[group[0]].path == prefix + name:
                if found and self.follows(group[0], found[-1]):
                    found[-1] = self.block(found[-1].name, (*found[-1].nodes, *group), False)
                else:
                    found.append(self.block(name, group, False))
                continue
            inner = self.parts(group, f"{prefix}{name}.", depth - 1) if depth > 0 else ()
            level = self.block(name, group, True, inner)
            found.append(_without_frame(level) if len(inner) == 1 else level)
        return tuple(self.folded(found))

    def block(
        self, name: str, nodes: Iterable[int], is_level: bool, parts: tuple[Block, ...] = ()
    ) -> Block:
        nodes = tuple(nodes)
        inside = set(nodes)
        taken = [i for n in nodes for i in self.inputs[n] if i not in inside]
        given = tuple(n for n in nodes if self.users.get(n, set()) - inside)
        return Block(name, nodes, tuple(dict.fromkeys(taken)), given, is_level, parts, 1, given)

    def follows(self, index: int, before: Block) -> bool:
        """Whether a node is a word in the box before it."""
        node = self.graph.nodes[index]
        last = before.nodes[-1]
        alone = self.inputs[index] == (last,) and self.users[last] == {index}
        return alone and not before.is_level and node.op.is_small

    def folded(self, parts: list[Block]) -> Iterable[Block]:
        """Runs of equal blocks as one."""
        run: list[Block] = []
        for part in parts:
            if run and not self.continues(run[-1], part):
                yield _fold(run)
                run = []
            run.append(part)
        if run:
            yield _fold(run)

    def continues(self, first: Block, second: Block) -> bool:
        chained = len(first.outputs) == 1 and first.outputs == second.inputs
        return (
            chained
            and first.count == second.count == 1
            and self.users[first.outputs[0]] <= set(second.nodes)
            and self.signature(first) == self.signature(second)
        )

    def signature(self, block: Block) -> list[tuple[str, list[int]]]:
        """What a picture of the block would show, whatever the names and the size of its input."""
        place = {index: i for i, index in enumerate(block.nodes)}
        place |= {index: -1 - i for i, index in enumerate(block.inputs)}
        return [
            (label(self.graph.nodes[index]), [place[i] for i in self.inputs[index]])
            for index in block.nodes
        ]


def _without_frame(level: Block) -> Block:
    """The only part of a level, under both names."""
    (part,) = level.parts
    return replace(part, name=f"{level.name}.{part.name}")


def _fold(run: list[Block]) -> Block:
    first, last = run[0], run[-1]
    if len(run) == 1:
        return first
    name = f"{first.name} \u2013 {last.name}"
    return replace(first, name=name, count=len(run), last_outputs=last.outputs)


@dataclass(frozen=True)
class Line:
    """A line of text in a box; a `swatch` is the colour of the ops that it is about."""

    text: str
    is_title: bool = False
    swatch: str = ""


def box_lines(block: Block, graph: Graph) -> list[Line]:
    """What stands in the box of a block that is not opened."""
    nodes = [graph.nodes[i] for i in block.nodes]
    return _level_lines(nodes, block.name) if block.is_level else _op_lines(nodes, block.name)


def box_family(block: Block, graph: Graph) -> Family | None:
    """Whose look a box has: its op's; of a closed level, that of the first one that stands out."""
    families = [graph.nodes[i].op.family for i in block.nodes]
    if not block.is_level:
        return families[0]
    return next((family for family in families if family.stands_out), None)


def _op_lines(nodes: Sequence[Node], name: str) -> list[Line]:
    """The op, then the names of it and the small ones behind it."""
    words = [name, *(node.op.op for node in nodes[1:])]
    if nodes[0].op.op == name:
        words = words[1:]
    return [Line(label(nodes[0]), True), *([Line(" \u00b7 ".join(words))] if words else [])]


def _level_lines(nodes: Sequence[Node], name: str) -> list[Line]:
    """The name of a closed level, and how many ops of which kind it has."""
    counts = Counter((_short_label(n), n.op.family.color) for n in nodes if not n.op.is_small)
    shown = counts.most_common() if len(counts) > _MAX_LINES else list(counts.items())
    lines = [Line(name, True)]
    for (word, color), number in shown[:_MAX_LINES]:
        lines.append(Line(f"{number} \u00d7 {word}" if number > 1 else word, swatch=color))
    if len(shown) > _MAX_LINES:
        lines.append(Line(f"and {len(shown) - _MAX_LINES} kinds more", swatch=OTHERS.color))
    return lines


def label(node: Node) -> str:
    """What an op is, and what it does to channels and size: `conv 3x3, 64, stride 2`.

    By fields that mean the same in every op that has them.
    """
    op: Any = node.op
    parts = [_short_label(node)]
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


def _short_label(node: Node) -> str:
    """What an op is: `conv 3x3`, `implicit_frequency 56x56`, `add`."""
    size = node.op.filter_size(node.input_shapes[0])
    return f"{node.op.word} {size[0]}\u00d7{size[1]}" if size else node.op.word


def shape_label(shape: Shape) -> str:
    """`64\u00d756\u00d756`."""
    return str(shape).replace("x", "\u00d7")


def _pair(pair: tuple[int, int]) -> str:
    return str(pair[0]) if pair[0] == pair[1] else f"{pair[0]}\u00d7{pair[1]}"
