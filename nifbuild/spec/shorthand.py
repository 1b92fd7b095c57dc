"""Short ways to write ops: a name alone, branches as lists or by names, numbers as ids."""

from nifbuild.errors import Mark, Problem, SpecError, did_you_mean
from nifbuild.spec.blocks import Scope
from nifbuild.spec.expressions import interpolate, is_expression, is_reference
from nifbuild.spec.source import List, Map, Node, Scalar


def op_mapping(node: Node) -> Map:
    """An op, whose name may stand alone.

    Raises:
        SpecError: If it is neither.
    """
    if isinstance(node, Scalar) and isinstance(node.value, str) and not is_expression(node.value):
        node = Map({"op": node}, {"op": node.mark}, node.mark)
    if isinstance(node, Map) and "op" in node.entries:
        return node
    fix = "write `- relu` or `- {op: conv, out_channels: 64}`"
    keys = node.entries if isinstance(node, Map) else {}
    hint = did_you_mean("op", keys).replace("did you mean", "is `op` meant by") or fix
    what = "an op is its name, or a mapping with `op`"
    raise SpecError(Problem(what, node.mark, "model", hint))


def identity_at(mark: Mark, id: Node | None = None) -> Map:
    """The op that does nothing."""
    op = Map({"op": Scalar("identity", mark)}, {"op": mark}, mark)
    return op if id is None else op.with_entry("id", id)


def branches_of(value: Node) -> tuple[Node, ...]:
    """The branches as ops: a list of ops is a sequence, and a name the id of one."""
    if isinstance(value, Map) and "op" not in value.entries:
        named = value.entries.items()
        return tuple(_sequence_of(ops, Scalar(id, value.key_marks[id])) for id, ops in named)
    if not isinstance(value, List):
        return (value,)
    return tuple(
        _sequence_of(item) if isinstance(item, List) or is_reference(item) else item
        for item in value.items
    )


def _sequence_of(ops: Node, id: Scalar | None = None) -> Map:
    entries: dict[str, Node] = {"op": Scalar("sequence", ops.mark), "body": ops}
    if id is not None:
        entries["id"] = id
    if isinstance(ops, Map) and "when" in ops.entries and "repeat" not in ops.entries:
        # Of a branch that is one op, `when` says whether there is the branch.
        entries["when"] = ops.entries["when"]
    return Map(entries, {key: node.mark for key, node in entries.items()}, ops.mark)


def name_at(node: Node, scope: Scope) -> Node:
    """An id, or what `from` holds. Ids such as 0 are names, however they are written."""
    if isinstance(node, List):
        return List(tuple(name_at(item, scope) for item in node.items), node.mark)
    if isinstance(node, Scalar) and type(node.value) is int:
        return Scalar(str(node.value), node.mark)
    return interpolate(node, scope) if isinstance(node, Scalar) and node.value else node
