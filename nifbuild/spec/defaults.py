"""The `defaults` section: values for the fields that ops leave out."""

from collections.abc import Iterator

from nifbuild.errors import Problem, did_you_mean, suggestion
from nifbuild.spec.base import field_names
from nifbuild.spec.ops import OPS, Op
from nifbuild.spec.source import List, Map, Node


def with_defaults(node: Node, defaults: Map) -> Node:
    """A copy in which each op has its `defaults` for the fields that it lacks and its kind has."""
    if isinstance(node, List):
        return List(tuple(with_defaults(item, defaults) for item in node.items), node.mark)
    if not isinstance(node, Map):
        return node
    entries = {key: with_defaults(value, defaults) for key, value in node.entries.items()}
    result = Map(entries, node.key_marks, node.mark)
    name = node.text("op")
    chosen = defaults.get(name) if name is not None else None
    if isinstance(chosen, Map) and name in OPS:
        op_class = op_class_of(node)
        for key, value in chosen.entries.items():
            if key not in entries and (op_class is None or key in field_names(op_class)):
                result = result.with_entry(key, value, chosen.key_marks[key])
    return result


def op_class_of(node: Map) -> type[Op] | None:
    """The class that an op's mapping belongs to, by its op and kind."""
    kinds = OPS.get(node.text("op") or "", {})
    kind = node.text("kind") if "kind" in node.entries else next(iter(kinds), None)
    return kinds.get(kind) if kind is not None else None


def check_defaults(defaults: Map) -> Iterator[Problem]:
    """Problems in the keys of `defaults`: names that are no op, fields that no kind has."""
    for name, fields in defaults.entries.items():
        mark = defaults.key_marks[name]
        if name not in OPS:
            fix = did_you_mean(name, OPS) or f"ops: {', '.join(OPS)}"
            yield Problem(f"unknown op '{name}'", mark, "defaults", fix, "unknown-op")
            continue
        if not isinstance(fields, Map):
            what = "the defaults of an op are a mapping of fields"
            yield Problem(what, fields.mark, f"defaults.{name}", code="type")
            continue
        allowed = {f for c in OPS[name].values() for f in field_names(c)} - {"op", "id", "from"}
        for key in fields.entries:
            if key not in allowed:
                listed = f"fields of {name}: {', '.join(sorted(allowed))}"
                fix = suggestion(key, allowed, listed)
                what = f"unknown field '{key}'"
                mark = fields.key_marks[key]
                yield Problem(what, mark, f"defaults.{name}", fix, "unknown-field")
