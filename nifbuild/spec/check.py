"""Pydantic's findings as problems with a place, what was allowed, and a guess at what was meant."""

import json
import re
from functools import cache
from typing import Any, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError

from nifbuild.errors import Mark, Problem, SpecError, did_you_mean, suggestion, told
from nifbuild.spec.base import FORMS, field_names, fields
from nifbuild.spec.defaults import op_class_of, unknown_kind, unknown_op
from nifbuild.spec.ops import (
    INSTALLED_TAG,
    OP_CLASSES,
    OPS,
    Op,
    installed,
    is_union_by_name,
    kinds_of,
)
from nifbuild.spec.ops.synonyms import field_meant_by
from nifbuild.spec.source import (
    MAX_NUMBER,
    List,
    Map,
    Node,
    Scalar,
    TreePath,
    Variable,
    at,
    plain,
    require_bounded,
    resolve_scalar,
)

_adapter = cache(TypeAdapter)


def check(kind: Any, tree: Node, prefix: str = "") -> tuple[Any, list[Problem]]:
    """Validates a tree, in JSON mode: strict types, lists where models say tuples.

    Args:
        kind: The type that the tree should have.
        tree: The values with their places.
        prefix: The path of the tree within the spec, for messages.

    Returns:
        The validated value, or None, and all problems.
    """
    try:
        require_bounded(tree, "variables and patches")
    except SpecError as error:
        return None, list(error.problems)
    try:
        return _adapter(kind).validate_json(json.dumps(plain(tree))), []
    except ValidationError as error:
        found: dict[tuple[TreePath, str], list[dict[str, Any]]] = {}
        for detail in error.errors(include_url=False):
            loc = (*detail["loc"], *detail.get("ctx", {}).get("at", ()))
            path = _tree_path(tree, loc, detail["type"])
            group = "unknown" if detail["type"] == "extra_forbidden" else "value"
            found.setdefault((path, group), []).append(dict(detail))
        _drop_consequences(found)
        causes: dict[object, list[tuple[TreePath, str]]] = {}
        for path, group in found:
            cause = _cause(tree, path, group, found[path, group][0])
            causes.setdefault(cause, []).append((path, group))
        return None, told(
            _with_cause(cause, _problem(kind, tree, keys[0][0], found[keys[0]], prefix), tree, keys)
            for cause, keys in causes.items()
        )


def _cause(tree: Node, path: TreePath, group: str, detail: dict[str, Any]) -> object:
    """What findings share that one edit mends: a variable, or a place where ops repeat."""
    node, _, mark = _place(tree, path)
    told_apart_by = _op_word(node) if detail["type"].startswith("union_tag") else None
    if told_apart_by is not None:  # a patch may have put it in many places
        return told_apart_by.mark
    if group == "value" and isinstance(node, Scalar) and node.origin is not None:
        return node.origin
    return (mark, node.mark, group, path[-1:])


def _with_cause(
    cause: object, first: Problem, tree: Node, found: list[tuple[TreePath, str]]
) -> Problem:
    """A variable is what has to be edited; the first value that it spoils tells why."""
    if not isinstance(cause, Variable):
        return first
    others = len({_place(tree, path)[0].mark for path, _ in found}) - 1
    place = f"used at {first.where}" + (f", and at {others} more" if others else "")
    fix = "\n".join(filter(None, (first.fix, place)))
    what = f"{first.path}: {first.what}"
    return Problem(what, cause.mark, f"vars.{cause.name}", fix, first.code)


def _drop_consequences(found: dict[tuple[TreePath, str], Any]) -> None:
    """Leaves out that a value is wrong as a whole where something within it is."""
    outer = {path[:end] for path, _ in found for end in range(len(path))}
    for path, group in list(found):
        if group == "value" and path in outer:
            del found[path, group]


def _tree_path(tree: Node, loc: tuple[int | str, ...], kind: str) -> TreePath:
    """Pydantic's location without the names of union members that it puts between."""
    path: list[str | int] = []
    node: Node | None = tree
    for index, part in enumerate(loc):
        if isinstance(node, Map) and part in node.entries:
            node = node.entries[str(part)]
        elif isinstance(node, List) and isinstance(part, int) and part < len(node.items):
            node = node.items[part]
        elif index == len(loc) - 1 and kind == "missing":
            pass
        else:
            continue
        path.append(part)
    return tuple(path)


def _problem(
    root: Any, tree: Node, path: TreePath, details: list[dict[str, Any]], prefix: str
) -> Problem:
    kind = details[0]["type"]
    node, parent, mark = _place(tree, path)
    name = dotted((prefix, *path) if prefix else path)
    root, loc = _within_installed(root, details[0]["loc"], tree, path)
    if kind == "extra_forbidden":
        model = _model_at(root, loc[:-1])
        fix = _allowed_fields(model, parent, str(path[-1]))
        field, colon, value = str(path[-1]).partition(":")
        if colon and field in (fields(model) if model is not None else ()):
            fix = f"within {{...}} a space follows the colon: {{{field}: {value}}}"
        return Problem(f"unknown field '{path[-1]}'", mark, name, fix, "unknown-field")
    if kind == "missing":
        fix = _about_field(root, loc)
        return Problem(f"missing field `{path[-1]}`", mark, name, fix, "missing-field")
    if kind.startswith("union_tag"):
        return _tag_problem(node, mark, name, details[0])
    expected = list(dict.fromkeys(_expected(detail) for detail in details))
    if kind == "finding":
        return Problem(details[0]["msg"], mark, name, details[0]["ctx"]["fix"], "value")
    if kind == "value_error":
        return Problem(_sentence(details[0]["msg"]), node.mark, name, "", "value")
    words = [w for d in details for w in _words(d)]
    what = f"expected {' or '.join(expected)}, got {_shown(node)}"
    fix = _type_hint(node, details)
    if not fix and isinstance(node, Scalar):
        fix = did_you_mean(str(node.value), words)
    fix = fix or _written_out(_model_at(root, loc), node)
    if not fix:
        fix = "\n".join(filter(None, (_about_field(root, loc), _form(_model_at(root, loc), node))))
    return Problem(what, node.mark, name, fix, "value")


def _written_out(model: type[BaseModel] | None, node: Node) -> str:
    """How a mapping is written of which the value of a field was given alone."""
    if model is None or not isinstance(node, Scalar):
        return ""
    named = (
        name for name, info in fields(model).items() if node.value in get_args(info.annotation)
    )
    return next((f"write {{{name}: {node.value}}}" for name in named), "")


def _form(model: type[BaseModel] | None, node: Node) -> str:
    """How a mapping of few fields is written, of which the value alone was given."""
    names = [] if model is None or not isinstance(node, Scalar) else list(field_names(model))
    return f"write {{{names[0]}: ...}}; fields: {', '.join(names)}" if 0 < len(names) < 9 else ""


def _about_field(root: Any, loc: tuple[int | str, ...]) -> str:
    """What the field at or around a pydantic location means, in a line, and its default."""
    for end in range(len(loc), 0, -1):
        model = _model_at(root, loc[: end - 1])
        info = fields(model).get(str(loc[end - 1])) if model is not None else None
        if info is not None:
            meaning = first_sentence(info.description or "")
            is_plain = isinstance(info.default, bool | int | float | str)
            default = f" (default {json.dumps(info.default)})" if is_plain else ""
            return f"{loc[end - 1]}: {meaning}{default}" if meaning else ""
    return ""


def first_sentence(description: str) -> str:
    """What a field means, in a line; all of it where it begins to list choices, `word: meaning`."""
    text = " ".join(description.split())
    if re.match(r"[a-z]\w*: ", text):
        return text.removesuffix(".")
    return re.split(r"[.;:](?:\s|$)", text)[0]


def _place(tree: Node, path: TreePath) -> tuple[Node, Node, Mark]:
    """The value at `path` (its parent where it is missing), the parent, and the mark of the key."""
    node = parent = tree
    mark = tree.mark
    for part in path:
        parent = node
        if isinstance(node, Map) and part in node.entries:
            mark = node.key_marks[str(part)]
            node = node.entries[str(part)]
        elif isinstance(node, List) and isinstance(part, int) and part < len(node.items):
            node = node.items[part]
            mark = node.mark
    return node, parent, mark


def _expected(detail: dict[str, Any]) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    comparisons = {
        "greater_than_equal": ("at least", "ge"),
        "greater_than": ("a number above", "gt"),
        "less_than_equal": ("at most", "le"),
        "less_than": ("a number below", "lt"),
    }
    if kind in comparisons:
        words, key = comparisons[kind]
        limit = context[key]
        return f"{words} {limit:,}" if isinstance(limit, int) else f"{words} {limit:g}"
    if kind in ("literal_error", "enum"):
        return str(context["expected"]).replace("'", "")
    names = {
        "int_type": "a whole number",
        "int_from_float": "a whole number",
        "int_parsing": "a whole number",
        "float_type": "a number",
        "float_parsing": "a number",
        "bool_type": "true or false",
        "bool_parsing": "true or false",
        "string_type": "text",
        "tuple_type": "a list",
        "list_type": "a list",
        "pair_type": "a whole number or a list of two",
        "dict_type": "a mapping",
        "model_type": "a mapping",
        "model_attributes_type": "a mapping",
        "none_required": "null",
        "finite_number": "a finite number",
    }
    if kind in names:
        return names[kind]
    if kind == "string_pattern_mismatch":
        return FORMS[context["pattern"]]
    if kind in ("too_short", "too_long"):
        few = kind == "too_short"
        count = context["min_length" if few else "max_length"]
        return f"{'at least' if few else 'at most'} {count} entries"
    if kind == "string_too_short":
        return "text that is not empty"
    if kind == "string_too_long":
        return f"text of at most {context['max_length']} characters"
    message: str = detail["msg"].removeprefix("Input should be ")
    return message[0].lower() + message[1:]


def _words(detail: dict[str, Any]) -> list[str]:
    if detail["type"] not in ("literal_error", "enum"):
        return []
    return str(detail["ctx"]["expected"]).replace("'", "").replace(" or ", ", ").split(", ")


_NOT_OF_TYPE: dict[type, set[str]] = {
    bool: {"bool_type", "bool_parsing"},
    int: {"int_type", "int_parsing", "int_from_float", "pair_type", "float_type", "float_parsing"},
    float: {"float_type", "float_parsing"},
}


def _type_hint(node: Node, details: list[dict[str, Any]]) -> str:
    value = node.value if isinstance(node, Scalar) else None
    kinds = {detail["type"] for detail in details}
    if not isinstance(value, str) or kinds <= {"string_pattern_mismatch", "string_too_long"}:
        return ""
    meant = resolve_scalar(value)
    wanted = [kind for kind in (bool, int, float) if kinds & _NOT_OF_TYPE[kind]]
    if type(meant) in wanted or any(value in _words(detail) for detail in details):
        return f"write {value} without quotes"
    if len(value) > MAX_NUMBER and value.strip("-+.").isdecimal():
        return f"a number has at most {MAX_NUMBER} characters"
    return "write true or false" if bool in wanted else ""


def _shown(node: Node) -> str:
    if isinstance(node, Scalar):
        return json.dumps(node.value)[:60]
    if isinstance(node, List):
        text = json.dumps(plain(node))
        return text if len(text) <= 60 else f"a list of {len(node.items)}"
    return "a mapping"


def _sentence(message: str) -> str:
    return message.removeprefix("Value error, ").removeprefix("Assertion failed, ")


def _op_word(node: Node) -> Node | None:
    """Of an op that is none, the value to mend: its `op`, or its `kind`."""
    if not isinstance(node, Map) or "op" not in node.entries:
        return None
    return node.entries["kind" if node.text("op") in OPS and "kind" in node.entries else "op"]


def _tag_problem(node: Node, mark: Mark, name: str, detail: dict[str, Any]) -> Problem:
    context = detail.get("ctx", {})
    word = _op_word(node)
    if word is not None and isinstance(node, Map):
        op = node.text("op") or ""
        if not kinds_of(op):
            return unknown_op(word, f"{name}.op")
        problem = unknown_kind(op, word, f"{name}.kind")
        if problem is not None:
            return problem
    field = str(context.get("discriminator", "op")).strip("'")
    allowed = str(context.get("expected_tags", "")).replace("'", "")
    given = node.get(field) if isinstance(node, Map) else None
    if not allowed and isinstance(node, Scalar):  # where ops are not written out, as in a patch
        if not kinds_of(str(node.value)):
            return unknown_op(node, name)
        fix = f"write {{op: {node.value}}}"
        return Problem("an op is a mapping with `op` here", node.mark, name, fix, "missing-field")
    if context.get("word") and isinstance(node, Scalar):
        given = node  # the name alone stands for a mapping
    if given is None:
        what = f"missing field `{field}`" if isinstance(node, Map) else "expected a mapping"
        fix = f"{field}: {allowed}" if allowed else ""
        if isinstance(node, Scalar) and node.value in allowed.split(", "):
            fix = f"write {{{field}: {node.value}}}"
        return Problem(what, mark, name, fix, "missing-field")
    value = _shown(given).strip('"')
    fix = suggestion(value, allowed.split(", "), f"{field}: {allowed}")
    return Problem(f"unknown {field} '{value}'", given.mark, f"{name}.{field}", fix, "value")


def _allowed_fields(model: type[BaseModel] | None, parent: Node, unknown: str) -> str:
    """The fields that could stand there, closest first."""
    if model is None:
        return ""
    names = [name for name in field_names(model) if name != "op"]
    label = _label(parent) or _default_name(model)
    listed = f"fields{label}: {', '.join(names)}"
    if not issubclass(model, Op):
        return suggestion(unknown, names, listed)
    op = parent.text("op") if isinstance(parent, Map) else None
    having = [kind for kind, other in OPS.get(op or "", {}).items() if unknown in fields(other)]
    of_kinds = f"a field of the kind {' or '.join(having)}" if having else ""
    meant = [line for line in (of_kinds, field_meant_by(unknown, names)) if line]
    return "\n".join((*meant, listed)) if meant else suggestion(unknown, names, listed)


def _label(parent: Node) -> str:
    if not isinstance(parent, Map):
        return ""
    words = [parent.text(key) for key in ("op", "kind", "source", "name")]
    known = [word for word in words if word]
    return f" of {known[0]}" + "".join(f" ({word})" for word in known[1:]) if known else ""


def _default_name(model: type[BaseModel]) -> str:
    info = model.model_fields.get("name")
    default = info.default if info is not None else None
    return f" of {default}, the default" if isinstance(default, str) else ""


def _model_at(kind: Any, loc: tuple[int | str, ...]) -> type[BaseModel] | None:
    """The model that stands at a pydantic location within the type `kind`."""
    candidates, is_key = _models_in(kind), False
    for part in loc:
        if isinstance(part, int) or is_key:
            is_key = False
            continue
        tagged = [model for model in candidates if part in _tags(model)]
        if tagged:
            candidates = tagged
            continue
        types = [fields(model)[part].annotation for model in candidates if part in fields(model)]
        is_key = any(get_origin(t) is dict for whole in types for t in (whole, *get_args(whole)))
        candidates = [inner for kind in types for inner in _models_in(kind)]
    return candidates[0] if candidates else None


def _within_installed(
    root: Any, loc: tuple[int | str, ...], tree: Node, path: TreePath
) -> tuple[Any, tuple[int | str, ...]]:
    """The root and the location; within an op of an installed package, its class and the rest.

    The types of the root do not know such a class.
    """
    if INSTALLED_TAG not in loc:
        return root, loc
    around = (at(tree, path[:end]) for end in range(len(path), -1, -1))
    op = next(n for n in around if isinstance(n, Map) and n.text("op") in installed.LOADED)
    return op_class_of(op), loc[len(loc) - loc[::-1].index(INSTALLED_TAG) :]


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if is_union_by_name(annotation):
        return list(OP_CLASSES)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]


def _tags(model: type[BaseModel]) -> set[str]:
    """The words by which pydantic names the model in a location."""
    tags = {model.__name__}
    for field in ("source", "name"):
        info = model.model_fields.get(field)
        if info is not None:
            tags |= {str(word) for word in get_args(info.annotation)}
    return tags


def dotted(path: TreePath) -> str:
    """A path as people write it: `model[3].kernel_size`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text
