"""Where a value of a resolved spec was written."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nifbuild.errors import Mark, Problem, SpecError, suggestion
from nifbuild.spec.check import dotted
from nifbuild.spec.document import RunSpec
from nifbuild.spec.graph import Node
from nifbuild.spec.resolve import Resolved
from nifbuild.spec.source import Map, Scalar, TreePath, at, path_key


@dataclass(frozen=True, slots=True)
class Origin:
    """A value and where it comes from.

    Attributes:
        path: The value's path.
        value: The value, as in the spec written out.
        places: Where it was written, then what the expression there took it from. Empty for a
            default of the language.
    """

    path: str
    value: Any
    places: tuple[Mark, ...]

    def __str__(self) -> str:
        lines = [f"{mark}{_line(mark)}" for mark in self.places] or ["the default"]
        return "\n  ".join([f"{self.path}: {_shown(self.value)}", *lines])


def value_origins(resolved: Resolved, path: str) -> list[Origin]:
    """Where the value at `path`, or each field of the mapping there, was written.

    Args:
        resolved: The spec.
        path: A value of a section (`train.epochs`), a field of a module
            (`layer1.0.conv1.kernel_size`), or a whole section or module.

    Raises:
        SpecError: If there is no such value.
    """
    modules = {node.path: node for node in resolved.graph.nodes}
    if path in modules:
        node = modules[path]
        return [_field_origin(resolved, node, field) for field in _fields(node)]
    module, _, field = path.rpartition(".")
    if module in modules and field in _fields(modules[module]):
        return [_field_origin(resolved, modules[module], field)]
    keys = tuple(path_key(word) for word in re.findall(r"[^.\[\]]+", path))
    value: Any = resolved.spec.model_dump(mode="json", by_alias=True)
    try:
        for key in keys:
            value = value[key]
    except (LookupError, TypeError):
        keys = ()
    if not keys:
        raise SpecError(_unknown(resolved, module, path))
    if isinstance(value, dict):
        return [_origin(resolved, (*keys, key), item) for key, item in value.items()]
    return [_origin(resolved, keys, value)]


def _fields(node: Node) -> dict[str, Any]:
    return node.op.model_dump(mode="json", by_alias=True)


def _field_origin(resolved: Resolved, node: Node, field: str) -> Origin:
    path, value = f"{node.path}.{field}", _fields(node)[field]
    op = at(resolved.tree, node.where)
    if isinstance(op, Map) and op.text("op") == node.op.op:
        return _origin(resolved, (*node.where, field), value, path)
    # Another op implies this one, such as the sum of a residual: that has a place.
    mark = resolved.mark(*node.where)
    return Origin(path, value, (mark,) if mark is not None else ())


def _origin(resolved: Resolved, keys: TreePath, value: Any, path: str = "") -> Origin:
    node = at(resolved.tree, keys)
    via = node.via if isinstance(node, Scalar) else ()
    return Origin(path or dotted(keys), value, (node.mark, *via) if node is not None else ())


def _line(mark: Mark) -> str:
    """The text of the line, where the place is in a file."""
    if not mark.line:
        return ""
    line = Path(mark.file).read_text(encoding="utf-8-sig").splitlines()[mark.line - 1]
    return f": {line.strip()}"


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return value
    text = json.dumps(value)
    return text if len(text) <= 70 else f"{text[:70]} ..."


def _unknown(resolved: Resolved, module: str, path: str) -> Problem:
    modules = {node.path: node for node in resolved.graph.nodes}
    if module in modules:
        names = list(_fields(modules[module]))
        listed = f"fields of {module}: {', '.join(names)}"
        fix = suggestion(path.rpartition(".")[2], names, listed)
    else:
        sections = list(RunSpec.model_fields)
        listed = f"sections: {', '.join(sections)}; or a module's path, and a field of it"
        fix = suggestion(path, [*modules, *sections], listed)
    what = f"no value '{path}' in this spec"
    return Problem(what, Mark(f"--explain {path}"), "", fix, "unknown-value")
