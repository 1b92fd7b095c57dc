"""Typed ops become a list of nodes: names, shapes, and who feeds whom.

Patches, the compiler and every report read the same nodes.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nifbuild.errors import Mark, Problem, SpecError, told
from nifbuild.spec.names import POSITION, Leaf, Level, module_names, why_unknown
from nifbuild.spec.ops import (
    AnyOp,
    Layer,
    Merge,
    Shape,
    ShapeError,
    Structure,
    Value,
    installed,
)
from nifbuild.spec.ops.base import Channels, Place, whole
from nifbuild.spec.ops.init import Constant
from nifbuild.spec.ops.norm import NORMS
from nifbuild.spec.source import List, TreePath, at, plain
from nifbuild.spec.source import Node as TreeNode

if TYPE_CHECKING:
    from nifbuild.spec.document import AuxiliaryHead

MAX_VALUES = 10**10
"""Most values that an image may have on its way; a batch of them is still within 64 bits."""
INPUT = -1
"""The node that stands for the model's input."""


@dataclass(frozen=True, slots=True)
class Node:
    """One module of the model.

    Attributes:
        path: Dotted name of the module, and prefix of its weights in the state_dict.
        op: Its fields.
        inputs: The nodes that it takes its inputs from; `INPUT` is the model's input.
        input_shapes: Their shapes, for one sample.
        output_shape: Shape of its output, for one sample.
        where: Path of the op in the spec's tree.
    """

    path: str
    op: Layer | Merge
    inputs: tuple[int, ...]
    input_shapes: tuple[Shape, ...]
    output_shape: Shape
    where: TreePath


@dataclass(frozen=True, slots=True)
class Head:
    """An auxiliary head.

    Attributes:
        name: Its id, the first of the names of its modules.
        output: The node that makes its output.
        weight: Of its loss.
    """

    name: str
    output: int
    weight: float


@dataclass(frozen=True, slots=True)
class Graph:
    """The model as nodes in the order in which they run.

    Attributes:
        input_shape: Shape of one input.
        nodes: The modules, those of auxiliary heads last.
        output: The node that makes the model's output.
        implied: Ops that a word such as `shortcut: auto` stands for, by its path in the tree.
        heads: The auxiliary heads.
    """

    input_shape: Shape
    nodes: tuple[Node, ...]
    output: int
    implied: dict[TreePath, tuple[AnyOp, ...]]
    heads: tuple[Head, ...] = ()

    @property
    def output_shape(self) -> Shape:
        """Shape of the model's output, for one sample."""
        return self.nodes[self.output].output_shape if self.output >= 0 else self.input_shape

    def head_of(self, path: str) -> Head | None:
        """The auxiliary head that the module of this path is in; None: none."""
        return next((head for head in self.heads if path.startswith(f"{head.name}.")), None)

    @property
    def evaluated(self) -> "Graph":
        """The same without auxiliary heads, whose nodes are the last."""
        if not self.heads:
            return self
        nodes = tuple(node for node in self.nodes if self.head_of(node.path) is None)
        return replace(self, nodes=nodes, heads=())


def lower(
    model: tuple[AnyOp, ...],
    input_shape: Shape,
    tree: TreeNode,
    heads: "Mapping[str, AuxiliaryHead] | None" = None,
) -> Graph:
    """The nodes of a model.

    Args:
        model: The typed ops.
        input_shape: Shape of one input.
        tree: The tree that `model` was read from, for the places in errors; its key `model` holds
            the ops, and `auxiliary` the heads.
        heads: The auxiliary heads, by name.

    Raises:
        SpecError: If shapes do not fit, a reference or an id is wrong, or an output goes unused.
    """
    if input_shape.num_elements > MAX_VALUES:
        sizes = [at(tree, ("input", name)) for name in ("size", "channels")]
        mark = next((size.mark for size in sizes if size is not None), None)
        what, fix = _too_many_values(f"an input of {input_shape}", input_shape)
        raise SpecError(Problem(what, mark, "input", fix, "too-large"))
    builder = _Builder(model, input_shape, tree)
    output = builder.ops(model, ("model",), builder.input)
    made = builder.heads(heads or {}, output)
    names = module_names(builder.root, tree)
    drafts = _placed(builder.drafts, builder.absent)
    nodes = tuple(
        Node(names[i], d.op, d.inputs, d.input_shapes, d.output_shape, d.where)
        for i, d in enumerate(drafts)
    )
    graph = Graph(input_shape, nodes, output.node, builder.implied_ops, made)
    _refuse_unused(graph, tree)
    return graph


@dataclass(frozen=True, slots=True)
class _Draft:
    """A node that has no name yet."""

    op: Layer | Merge
    inputs: tuple[int, ...]
    input_shapes: tuple[Shape, ...]
    output_shape: Shape
    where: TreePath


def _too_many_values(name: str, shape: Shape) -> tuple[str, str]:
    what = f"{name} has {shape.num_elements:,} values, and an image at most {MAX_VALUES:,}"
    return what, "use fewer channels or smaller images"


def _placed(drafts: list[_Draft], absent: dict[type[Layer], list[int]]) -> list[_Draft]:
    """The drafts with ops that know their place among those of their class.

    Args:
        drafts: All of them, in order.
        absent: For classes of ops, how many drafts there were at each place without one.
    """
    counts = Counter(type(draft.op) for draft in drafts)
    seen: Counter[type] = Counter()
    placed = []
    for index, draft in enumerate(drafts):
        op = draft.op
        if isinstance(op, Layer):
            left_out = absent.get(type(op), [])
            number, count = seen[type(op)], counts[type(op)]
            of_all = number + bisect_right(left_out, index)
            op = op.placed(Place(number, count, of_all, count + len(left_out)))
        seen[type(draft.op)] += 1
        placed.append(replace(draft, op=op))
    return placed


def _refuse_unused(graph: Graph, tree: TreeNode) -> None:
    """Refuses ops whose output does not reach the model's: their weights would never learn.

    With `from:` the op before may go unused, and a `channel_slice` may take nothing of a branch.
    Of ops after one another the last is told.
    """
    read = _channels_read(graph)
    takers: dict[int, list[int]] = {}
    for index, node in enumerate(graph.nodes):
        for source in node.inputs:
            takers.setdefault(source, []).append(index)
    problems = told(
        _unused(node, takers.get(index, []), graph, tree)
        for index, node in enumerate(graph.nodes)
        if not read[index] and all(read[taker] for taker in takers.get(index, ()))
    )
    if problems:
        raise SpecError(problems)


def _unused(node: Node, takers: list[int], graph: Graph, tree: TreeNode) -> Problem:
    place = at(tree, node.where)
    mark = place.mark if place is not None else None
    what = "nothing takes the output of this op"
    fix = "refer to it by a later `from`, or leave the op out"
    if takers:
        what = "no channel of this op's output reaches the output of the model"
        names = ", ".join(graph.nodes[taker].path for taker in takers)
        fix = f"take some of its channels from what it goes into ({names}), or leave the op out"
    return Problem(what, mark, node.path, fix, "unused-output")


def _channels_read(graph: Graph) -> list[Channels]:
    """For each node, the channels of its output that an output of the model depends on."""
    read: list[Channels] = [()] * len(graph.nodes)
    if graph.output >= 0:
        read[graph.output] = whole(graph.output_shape)
    for head in graph.heads:
        read[head.output] = whole(graph.nodes[head.output].output_shape)
    for index in range(len(graph.nodes) - 1, -1, -1):
        node = graph.nodes[index]
        if not read[index]:
            continue
        if isinstance(node.op, Layer):
            needed: tuple[Channels, ...] = (node.op.reads(read[index], *node.input_shapes),)
        else:
            needed = node.op.reads(read[index], *node.input_shapes)
        for source, channels in zip(node.inputs, needed, strict=True):
            if source != INPUT:
                read[source] = _united(read[source], channels)
    return read


def _united(first: Channels, second: Channels) -> Channels:
    """The channels of both, in order and without ranges that touch."""
    united: list[tuple[int, int]] = []
    for start, stop in sorted((*first, *second)):
        if united and start <= united[-1][1]:
            united[-1] = (united[-1][0], max(united[-1][1], stop))
        else:
            united.append((start, stop))
    return tuple(united)


class _Builder:
    """Implements `nifbuild.spec.ops.base.GraphBuilder`."""

    def __init__(self, model: tuple[AnyOp, ...], input_shape: Shape, tree: TreeNode) -> None:
        self.model = model
        self.input = Value(INPUT, input_shape)
        self.tree = tree
        self.drafts: list[_Draft] = []
        self.level = self.root = Level()
        self.where: TreePath = ()
        self.id: str | None = None
        self.structure: Structure | None = None
        self.implied_ops: dict[TreePath, tuple[AnyOp, ...]] = {}
        self.absent: dict[type[Layer], list[int]] = {}

    def ops(self, ops: tuple[AnyOp, ...], where: TreePath, x: Value) -> Value:
        for index, op in enumerate(ops):
            x = self.op(op, (*where, index), x)
        return x

    def heads(self, heads: "Mapping[str, AuxiliaryHead]", output: Value) -> tuple[Head, ...]:
        return tuple(self._head(name, head, output) for name, head in heads.items())

    def _head(self, name: str, head: "AuxiliaryHead", output: Value) -> Head:
        self.where = ("auxiliary", name)
        self.level = self.root.enter(name, self.where)
        x = self.source(head.from_, output)
        made = self.ops(head.body, (*self.where, "body"), x)
        self.level = self.root
        if made.shape != output.shape or made.node == x.node:
            what = f"an auxiliary head gives what the model does, {output.shape}, and this one "
            what += f"{made.shape}" if made.node != x.node else "does nothing"
            fix = "end its body as the model ends, as with `out_features: $num_classes`"
            body = at(self.tree, (*self.where, "body"))
            mark = body.mark if body is not None else None
            raise SpecError(Problem(what, mark, f"auxiliary.{name}", fix, "auxiliary"))
        return Head(name, made.node, head.weight)

    def op(self, op: AnyOp, where: TreePath, x: Value) -> Value:
        outer = (self.where, self.level, self.structure, self.id)
        if op.id == POSITION:
            op = op.model_copy(update={"id": str(len(self.level.members))})
        self.where, self.id = where, op.id
        try:
            if isinstance(op.from_, str):
                x = self.source(op.from_, x)
            if isinstance(op, Structure):
                if op.id is not None:
                    self.level = self.level.enter(op.id, where)
                self.structure = op
                value = op.lower(self, x)
            else:
                value = self.add(op, x)
        except ShapeError as error:
            raise self.problem(error, op) from None
        finally:
            self.where, self.level, self.structure, self.id = outer
        if op.id is not None:
            self.level.outputs[op.id] = value
        return value

    def add(self, op: Layer | Merge, *inputs: Value, field: str = "") -> Value:
        shapes = tuple(value.shape for value in inputs)
        try:
            shape = op.output_shape(*shapes)
        except ShapeError as error:
            if field and not error.field:
                error.field = field
            raise
        except Exception as error:
            if not installed.origin_of(op.op):
                raise
            what = f"cannot tell the shape of its output: {type(error).__name__}: {error}"
            raise ShapeError(installed.broken(op.op, what), field=field) from error
        if not isinstance(shape, Shape):
            raise ShapeError(installed.broken(op.op, f"tells a shape that is none: {shape!r}"))
        if shape.num_elements > MAX_VALUES:
            raise ShapeError(*_too_many_values(f"the output of {shape}", shape), field)
        index = len(self.drafts)
        sources = tuple(value.node for value in inputs)
        self.drafts.append(_Draft(op, sources, shapes, shape, self.where))
        self.level.members.append(Leaf(op.id, op.op, index, self.where))
        return Value(index, shape)

    def body(self, field: str, x: Value) -> Value:
        return self.ops(getattr(self.structure, field), (*self.where, field), x)

    def branches(self, field: str, inputs: Sequence[Value]) -> list[Value]:
        ops: tuple[AnyOp, ...] = getattr(self.structure, field)
        return [
            self.op(op, (*self.where, field, index), x)
            for index, (op, x) in enumerate(zip(ops, inputs, strict=True))
        ]

    def source(self, reference: str, previous: Value) -> Value:
        if reference in ("previous", "input"):
            return previous if reference == "previous" else self.input
        found = self.level.find(reference)
        if found is not None:
            return found
        what, fix = why_unknown(reference, self.level, self.id, self.model)
        given = at(self.tree, (*self.where, "from"))
        options = given.items if isinstance(given, List) else (given,)
        mark = next((o.mark for o in options if o is not None and plain(o) == reference), None)
        raise SpecError(
            Problem(what, mark, f"{self.level.path}.from".lstrip("."), fix, "reference")
        )

    def start_at_zero(self, value: Value, field: str) -> None:
        op = self.drafts[value.node].op if value.node != INPUT else None
        if not (isinstance(op, NORMS) and op.affine):
            what = "the body does not end with a norm that has a scale"
            raise ShapeError(what, "leave zero_init out, or end the body with a norm", field)
        zeros = op.model_copy(update={"init": Constant(name="zeros")})
        self.drafts[value.node] = replace(self.drafts[value.node], op=zeros)

    def count_absent(self, op_class: type[Layer]) -> None:
        self.absent.setdefault(op_class, []).append(len(self.drafts))

    def implied(self, field: str, ops: tuple[AnyOp, ...], x: Value) -> Value:
        self.implied_ops[*self.where, field] = ops
        return self.ops(ops, (*self.where, field), x)

    def problem(self, error: ShapeError, op: AnyOp) -> SpecError:
        path = self.level.path
        if not isinstance(op, Structure) or op.id is None:
            path = f"{path}.{op.id or op.op}".lstrip(".")
        return SpecError(Problem(error.what, self._mark(error.field), path, error.fix, "shape"))

    def _mark(self, field: str) -> Mark | None:
        node = at(self.tree, (*self.where, field)) if field else None
        where = self.where
        while node is None and where:
            # An implied op has no place of its own; the structure that implies it has.
            node = at(self.tree, where)
            where = where[:-1]
        return node.mark if node is not None else None
