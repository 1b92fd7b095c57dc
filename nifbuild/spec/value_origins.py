"""Where a value of a resolved spec was written."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nifbuild.errors import Mark, Problem, SpecError, suggestion
from nifbuild.spec.check import dotted
from nifbuild.spec.document import RunSpec
from nifbuild.spec.graph import Node
from nifbuild.spec.resolve import AUTHORING, Resolved
from nifbuild.spec.source import List, Map, Scalar, TreePath, at, path_key, plain
from nifbuild.spec.source import Node as TreeNode

_AUTHORING = tuple(name for name in AUTHORING if name != "extends")
"""Those that are there once all files that a spec extends are composed."""


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
    """Where the value at `path`, or each one of what stands there, was written.

    Args:
        resolved: The spec.
        path: A value of a section (`train.epochs`), a field of a module
            (`layer1.0.conv1.kernel_size`), a variable (`vars.width` or `width`), a block
            (`blocks.basic` or `basic`); or a whole section, module, or level of modules (`layer1`).

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
    below = [node for name, node in modules.items() if path == "model" or _is_level(path, name)]
    if below:
        return [_module_origin(resolved, node) for node in below]
    keys = tuple(path_key(word) for word in re.findall(r"[^.\[\]]+", path))
    found = _of_section(resolved, keys) or _of_authoring(resolved, keys)
    if not found:
        raise SpecError(_unknown(resolved, module, path))
    return found


def _is_level(level: str, module: str) -> bool:
    return bool(level) and module.startswith(f"{level}.")


def _module_origin(resolved: Resolved, node: Node) -> Origin:
    """A module in one line: what it is, where it was written, and what has made it another one."""
    fields = _fields(node)
    named = [_field_origin(resolved, node, key) for key in ("op", "kind") if key in fields]
    own = resolved.mark(*node.where)
    marks = [own, *(origin.places[0] for origin in named if origin.places)]
    lines = {(mark.file, mark.line): mark for mark in reversed(marks) if mark is not None}
    what = ", ".join(origin.value for origin in named)
    return Origin(node.path, what, tuple(reversed(lines.values())))


def _of_section(resolved: Resolved, keys: TreePath) -> list[Origin]:
    """Of a section of the spec written out."""
    value: Any = resolved.spec.model_dump(mode="json", by_alias=True)
    try:
        for key in keys:
            value = value[key]
    except (LookupError, TypeError):
        return []
    if not keys:
        return []
    if isinstance(value, dict):
        return [_origin(resolved.tree, (*keys, key), item) for key, item in value.items()]
    return [_origin(resolved.tree, keys, value)]


def _of_authoring(resolved: Resolved, keys: TreePath) -> list[Origin]:
    """Of what helps to write a spec, and of which nothing remains once it is written out."""
    source, scope = resolved.source, resolved.scope
    variables = Map({**scope}, {name: node.mark for name, node in scope.items()}, source.mark)
    written = {name: source.entries[name] for name in _AUTHORING if name in source.entries}
    tree = Map({**written, "vars": variables}, source.key_marks, source.mark)
    for place in (keys, ("vars", *keys), ("blocks", *keys)):
        node = at(tree, place) if keys else None
        if node is not None:
            return [_origin(tree, (*place, *key), plain(value)) for key, value in _parts(node)]
    return []


def _parts(node: TreeNode) -> list[tuple[TreePath, TreeNode]]:
    """The entries of a mapping, or of a list of mappings; else the value alone."""
    if isinstance(node, Map):
        return [((key,), value) for key, value in node.entries.items()]
    if isinstance(node, List) and any(isinstance(item, Map) for item in node.items):
        return [((place,), item) for place, item in enumerate(node.items)]
    return [((), node)]


def _fields(node: Node) -> dict[str, Any]:
    return node.op.model_dump(mode="json", by_alias=True)


def _field_origin(resolved: Resolved, node: Node, field: str) -> Origin:
    path, value = f"{node.path}.{field}", _fields(node)[field]
    op = at(resolved.tree, node.where)
    if isinstance(op, Map) and op.text("op") == node.op.op:
        return _origin(resolved.tree, (*node.where, field), value, path)
    # Another op implies this one, such as the sum of a residual: that has a place.
    mark = resolved.mark(*node.where)
    return Origin(path, value, (mark,) if mark is not None else ())


def _origin(tree: Map, keys: TreePath, value: Any, path: str = "") -> Origin:
    node = at(tree, keys)
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
        sections = [*RunSpec.model_fields, *_AUTHORING]
        listed = f"sections: {', '.join(sections)}; or a module's path, and a field of it"
        others = [*resolved.scope, *_names(resolved, "blocks"), *_levels(modules)]
        fix = suggestion(path, [*modules, *sections, *others], listed)
    what = f"no value '{path}' in this spec"
    return Problem(what, Mark(f"--explain {path}"), "", fix, "unknown-value")


def _names(resolved: Resolved, section: str) -> list[str]:
    node = resolved.source.get(section)
    return list(node.entries) if isinstance(node, Map) else []


def _levels(modules: Iterable[str]) -> set[str]:
    """The names of all levels above the modules."""
    words = [module.split(".") for module in modules]
    return {".".join(w[:end]) for w in words for end in range(1, len(w))}
