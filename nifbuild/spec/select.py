"""Selectors: which modules a patch, or `replace_convs`, means."""

import re
from collections.abc import Mapping
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


def agrees(fields: Mapping[str, Any], where: Mapping[str, Any]) -> bool:
    """Whether every value of `where` is that of the field of its name.

    A number agrees with a pair of it: `kernel_size: 3` finds 3x3.
    """
    return all(
        name in fields and _pair(fields[name]) == _pair(value) for name, value in where.items()
    )


def _pair(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        return (value, value)
    return tuple(value) if isinstance(value, list) else value
