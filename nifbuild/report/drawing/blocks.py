"""What a picture shows: boxes within boxes, equal ones in a row folded into one."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from nifbuild.report.drawing.labels import is_small, label
from nifbuild.spec.graph import Graph

MAX_BOXES = 40
"""So many boxes still make a picture that one can read; without a given depth no more are drawn."""


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
        return alone and not before.is_level and is_small(node)

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
