"""Selectors: which modules or weights are meant, by their names."""

import re
from collections.abc import Iterable, Mapping
from typing import Any


def path_pattern(glob: str) -> re.Pattern[str]:
    """A pattern for module paths: `*` is anything within a name, `**` any number of names."""
    parts = []
    for token in re.split(r"(\*\*\.?|\*|\?)", glob):
        if token.startswith("**"):
            parts.append(r"(?:[^.]+\.)*" if token.endswith(".") else ".*")
        else:
            parts.append({"*": r"[^.]*", "?": r"[^.]"}.get(token, re.escape(token)))
    return re.compile("".join(parts))


def select_weights(selector: str, names: Iterable[str]) -> list[str]:
    """The names of weights that a selector finds by themselves, or by a module that they are in."""
    pattern = path_pattern(selector)
    return [name for name in names if any(map(pattern.fullmatch, _and_modules(name)))]


def _and_modules(name: str) -> list[str]:
    """A weight's name, and the paths of the modules that it is in."""
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(len(parts), 0, -1)]


def agrees(fields: Mapping[str, Any], where: Mapping[str, Any]) -> bool:
    """Whether every value of `where` is that of the field of its name.

    A number agrees with a pair of it: `kernel_size: 3` finds 3x3. `groups: depthwise` agrees with
    as many groups as there are `in_channels`, if these are several.
    """
    return all(name in fields and _same(name, value, fields) for name, value in where.items())


def _same(name: str, value: Any, fields: Mapping[str, Any]) -> bool:
    own = fields[name]
    if name == "groups" and own != value:
        channels = fields.get("in_channels")
        if value == "depthwise":
            return bool(own == channels and channels != 1)
        own = channels if own == "depthwise" else own
    return bool(_pair(own) == _pair(value))


def _pair(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        return (value, value)
    return tuple(value) if isinstance(value, list) else value
