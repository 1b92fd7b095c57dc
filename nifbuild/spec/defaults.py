"""The `defaults` section: values for the fields that ops leave out."""

import json
from collections.abc import Collection, Iterator

from nifbuild.errors import Mark, Problem, listing, suggestion
from nifbuild.spec.base import field_names
from nifbuild.spec.expressions import names_within
from nifbuild.spec.ops import OPS, Op, installed, kinds_of
from nifbuild.spec.ops.synonyms import unknown_op_fix
from nifbuild.spec.source import List, Map, Node, Scalar


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
    if isinstance(chosen, Map) and name is not None and kinds_of(name):
        op_class = op_class_of(node)
        for key, value in chosen.entries.items():
            if key == "kind" and unknown_kind(name, value, key) is not None:
                continue  # it is told once, where it is written
            if key not in entries and (op_class is None or key in field_names(op_class)):
                result = result.with_entry(key, value, chosen.key_marks[key])
    return result


def op_class_of(node: Map) -> type[Op] | None:
    """The class that an op's mapping belongs to, by its op and kind."""
    kinds = kinds_of(node.text("op") or "")
    kind = node.text("kind") if "kind" in node.entries else next(iter(kinds), None)
    return kinds.get(kind) if kind is not None else None


def unknown_kind(op: str, given: Node, path: str) -> Problem | None:
    """The problem of a `kind` that the op does not have; None where it has it.

    Args:
        op: The op's name.
        given: The value.
        path: Of the value, for the message.
    """
    kinds = list(OPS[op])
    if isinstance(given, Scalar) and given.value in kinds and given.value:
        return None
    if kinds == [""]:
        fix = f"{op} has no kinds: leave it out"
        return Problem(f"unknown field '{path.rpartition('.')[2]}'", given.mark, path, fix)
    word, mark, path = _word_at(given, path)
    fix = suggestion(word, kinds, f"kinds: {', '.join(kinds)}")
    return Problem(f"unknown kind '{word}'", mark, path, fix, "unknown-kind")


def unknown_op(given: Node, path: str, blocks: Collection[str] = ()) -> Problem:
    """The problem of an `op` that is none.

    Args:
        given: The value.
        path: Of the value, for the message.
        blocks: The names of the spec's blocks.
    """
    word, mark, path = _word_at(given, path)
    fix = installed.FAILED.get(word) or unknown_op_fix(word, OPS, [*blocks, *installed.offered()])
    if blocks:
        fix += f"\nblocks of this spec: {listing(blocks)}"
    return Problem(f"unknown op '{word}'", mark, path, fix, "unknown-op")


def _word_at(given: Node, path: str) -> tuple[str, Mark, str]:
    """A word as people wrote it, where they did, and the path there.

    An argument or a variable may have brought it to many places; there is one to be edited.
    """
    if not isinstance(given, Scalar):
        return "a collection", given.mark, path
    word = given.value if isinstance(given.value, str) else json.dumps(given.value)
    path = f"vars.{given.origin.name}" if given.origin is not None else path
    return word, given.via[-1] if given.via else given.mark, path


def check_defaults(defaults: Map) -> Iterator[Problem]:
    """Problems in the keys of `defaults`: names that are no op, fields that no kind has."""
    for name, fields in defaults.entries.items():
        mark = defaults.key_marks[name]
        if not kinds_of(name):
            yield unknown_op(Scalar(name, mark), "defaults")
            continue
        if not isinstance(fields, Map):
            what = "the defaults of an op are a mapping of fields"
            yield Problem(what, fields.mark, f"defaults.{name}", code="type")
            continue
        kind = fields.get("kind")
        if kind is not None and list(OPS[name]) != [""] and not names_within(kind):
            problem = unknown_kind(name, kind, f"defaults.{name}.kind")
            if problem is not None:
                yield problem
        allowed = {f for c in OPS[name].values() for f in field_names(c)} - {"op", "id", "from"}
        for key in fields.entries:
            if key not in allowed:
                listed = f"fields of {name}: {', '.join(sorted(allowed))}"
                fix = suggestion(key, allowed, listed)
                what = f"unknown field '{key}'"
                mark = fields.key_marks[key]
                yield Problem(what, mark, f"defaults.{name}", fix, "unknown-field")
