"""Typed ops become a list of nodes: names, shapes, and who feeds whom.

Patches, the compiler and every report read the same nodes.
"""

from dataclasses import dataclass, field

from nifbuild.errors import Mark, Problem, SpecError
from nifbuild.spec.ops import AnyOp, Layer, Merge, Shape, ShapeError, Structure, Value
from nifbuild.spec.source import Map, TreePath, at
from nifbuild.spec.source import Node as TreeNode

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
class Graph:
    """The model as nodes in the order in which they run.

    Attributes:
        input_shape: Shape of one input.
        nodes: The modules.
        output: The node that makes the model's output.
        implied: Ops that a word such as `shortcut: auto` stands for, by its path in the tree.
    """

    input_shape: Shape
    nodes: tuple[Node, ...]
    output: int
    implied: dict[TreePath, tuple[AnyOp, ...]]

    @property
    def output_shape(self) -> Shape:
        """Shape of the model's output, for one sample."""
        return self.nodes[self.output].output_shape if self.output >= 0 else self.input_shape


def lower(model: tuple[AnyOp, ...], input_shape: Shape, tree: TreeNode) -> Graph:
    """The nodes of a model.

    Args:
        model: The typed ops.
        input_shape: Shape of one input.
        tree: The tree that `model` was read from, for the places in errors; its key `model` holds
            the ops.

    Raises:
        SpecError: If shapes do not fit or two modules have one name.
    """
    builder = _Builder(tree)
    output = builder.ops(model, ("model",), Value(INPUT, input_shape))
    names = builder.names()
    nodes = tuple(
        Node(names[i], d.op, d.inputs, d.input_shapes, d.output_shape, d.where)
        for i, d in enumerate(builder.drafts)
    )
    return Graph(input_shape, nodes, output.node, builder.implied_ops)


@dataclass
class _Scope:
    """A level of module names."""

    prefix: "_Scope | None"
    id: str | None
    where: TreePath
    members: list["_Scope | _Draft"] = field(default_factory=list)


@dataclass
class _Draft:
    """A node that has no name yet."""

    op: Layer | Merge
    inputs: tuple[int, ...]
    input_shapes: tuple[Shape, ...]
    output_shape: Shape
    where: TreePath
    index: int

    @property
    def id(self) -> str | None:
        return self.op.id


class _Builder:
    """Implements `nifbuild.spec.ops.base.GraphBuilder`."""

    def __init__(self, tree: TreeNode) -> None:
        self.tree = tree
        self.drafts: list[_Draft] = []
        self.scope = self.root = _Scope(None, None, ())
        self.where: TreePath = ()
        self.structure: Structure | None = None
        self.implied_ops: dict[TreePath, tuple[AnyOp, ...]] = {}

    def ops(self, ops: tuple[AnyOp, ...], where: TreePath, x: Value) -> Value:
        for index, op in enumerate(ops):
            x = self.op(op, (*where, index), x)
        return x

    def op(self, op: AnyOp, where: TreePath, x: Value) -> Value:
        outer = (self.where, self.scope, self.structure)
        self.where = where
        try:
            if isinstance(op, Structure):
                if op.id is not None:
                    inner = _Scope(self.scope, op.id, where)
                    self.scope.members.append(inner)
                    self.scope = inner
                self.structure = op
                return op.lower(self, x)
            return self.add(op, x)
        except ShapeError as error:
            raise self.problem(error, op) from None
        finally:
            self.where, self.scope, self.structure = outer

    def add(self, op: Layer | Merge, *inputs: Value, field: str = "") -> Value:
        shapes = tuple(value.shape for value in inputs)
        try:
            shape = op.output_shape(*shapes)
        except ShapeError as error:
            if field and not error.field:
                error.field = field
            raise
        sources = tuple(value.node for value in inputs)
        draft = _Draft(op, sources, shapes, shape, self.where, len(self.drafts))
        self.drafts.append(draft)
        self.scope.members.append(draft)
        return Value(draft.index, shape)

    def body(self, field: str, x: Value) -> Value:
        return self.ops(getattr(self.structure, field), (*self.where, field), x)

    def implied(self, field: str, ops: tuple[AnyOp, ...], x: Value) -> Value:
        self.implied_ops[*self.where, field] = ops
        return self.ops(ops, (*self.where, field), x)

    def problem(self, error: ShapeError, op: AnyOp) -> SpecError:
        names = [scope.id for scope in self._scopes()] + [op.id or op.op]
        path = ".".join(name for name in names if name)
        return SpecError(Problem(error.what, self._mark(error.field), path, error.fix, "shape"))

    def _scopes(self) -> list[_Scope]:
        scopes: list[_Scope] = []
        scope: _Scope | None = self.scope
        while scope is not None:
            scopes.insert(0, scope)
            scope = scope.prefix
        return scopes

    def _mark(self, field: str) -> Mark | None:
        node = at(self.tree, (*self.where, field)) if field else None
        where = self.where
        while node is None and where:
            # An implied op has no place of its own; the structure that implies it has.
            node = at(self.tree, where)
            where = where[:-1]
        return node.mark if node is not None else None

    def names(self) -> dict[int, str]:
        """Dotted names of all drafts, by index.

        Raises:
            SpecError: If two members of a scope have one id.
        """
        names: dict[int, str] = {}
        problems: list[Problem] = []
        self._name(self.root, "", names, problems)
        if problems:
            raise SpecError(problems)
        return names

    def _name(
        self, scope: _Scope, prefix: str, names: dict[int, str], problems: list[Problem]
    ) -> None:
        taken = {member.id for member in scope.members if member.id is not None}
        seen: set[str] = set()
        for member in scope.members:
            name = member.id
            if name is None:
                assert isinstance(member, _Draft)  # a scope exists because of its id
                name = _free_name(member.op.op, taken | seen)
            elif name in seen:
                problems.append(self._duplicate(member, prefix + name))
            seen.add(name)
            if isinstance(member, _Draft):
                names[member.index] = prefix + name
            else:
                self._name(member, f"{prefix}{name}.", names, problems)

    def _duplicate(self, member: _Scope | _Draft, path: str) -> Problem:
        op = at(self.tree, member.where)
        given = op.get("id") if isinstance(op, Map) else None
        mark = given.mark if given is not None else op.mark if op is not None else None
        fix = "give one of them another id, or the structure around one of them an id of its own"
        return Problem(f"two modules are named '{path}'", mark, path, fix, "duplicate-id")


def _free_name(base: str, taken: set[str]) -> str:
    name, number = base, 1
    while name in taken:
        number += 1
        name = f"{base}_{number}"
    return name
