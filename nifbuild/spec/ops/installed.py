"""Ops that come with other installed packages: entry points in the group `nifbuild.ops`.

A package declares them in its pyproject.toml, by the names that specs use:

    [project.entry-points."nifbuild.ops"]
    square = "my_package.ops:Square"

Each is a subclass of `nifbuild.spec.ops.Layer`, such as those in this folder: fields, output shape,
cost, and `build`, in which torch is imported. A spec names the op and no code. Packages are looked
at where a spec has a word that is no op of nifbuild and no block, and of them only the one that has
the op is imported; what nifbuild or the spec itself calls so is never replaced.
"""

import hashlib
import inspect
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, get_args

from nifbuild.spec.ops.base import Layer

GROUP = "nifbuild.ops"
"""The group of entry points."""


@dataclass(frozen=True, slots=True)
class Installed:
    """An op of another package, as it was loaded.

    Attributes:
        op_class: Its class.
        package: The package's name.
        version: Its version.
    """

    op_class: type[Layer]
    package: str
    version: str


LOADED: dict[str, Installed] = {}
"""Those that were asked for, by name."""
FAILED: dict[str, str] = {}
"""Those that could not be loaded, and why, in a sentence."""


@cache
def offered() -> dict[str, list[EntryPoint]]:
    """What installed packages offer, by the op's name; nothing of them is imported."""
    found: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group=GROUP):
        found.setdefault(point.name, []).append(point)
    return found


def load(name: str, taken: Collection[str]) -> Installed | None:
    """The op of this name, from the package that has it; None where there is none that works.

    Args:
        name: The op.
        taken: Names of classes that other ops have.
    """
    points = offered().get(name, [])
    if not points or name in FAILED:
        return None
    if len(points) > 1:
        packages = ", ".join(sorted(_package(point) for point in points))
        FAILED[name] = f"several installed packages have an op '{name}': {packages}; keep one"
        return None
    (point,) = points
    try:
        op_class = point.load()
        why = _why_not(op_class, name, taken)
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
    if why:
        package = _package(point)
        FAILED[name] = f"the installed package {package} has it, and it cannot be loaded: {why}"
        return None
    package, _, version = _package(point).partition(" ")
    LOADED[name] = Installed(op_class, package, version)
    return LOADED[name]


def _package(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist is not None else "(unknown)"


def _why_not(op_class: Any, name: str, taken: Collection[str]) -> str:
    """What is wrong with a class that should be an op; empty: nothing."""
    shown = getattr(op_class, "__qualname__", repr(op_class))
    if not (isinstance(op_class, type) and issubclass(op_class, Layer)):
        return f"{shown} is no subclass of nifbuild.spec.ops.Layer"
    field = op_class.model_fields["op"]
    if name not in get_args(field.annotation):
        return f"{shown} has no field `op: Literal['{name}']`"
    missing = [
        method
        for method in ("output_shape", "build")
        if getattr(op_class, method) is getattr(Layer, method)
    ]
    if missing:
        return f"{shown} has no method {' and no '.join(missing)}"
    if op_class.__name__ in taken:
        return f"an op of nifbuild has a class {op_class.__name__}, too: call it otherwise"
    return ""


def origin_of(op: str) -> str:
    """The package that an op comes from, as words in a message; empty for those of nifbuild."""
    found = LOADED.get(op)
    return f"{found.package} {found.version}" if found is not None else ""


def broken(op: str, what: str) -> str:
    """That an op of a package does not do what it should."""
    return f"{op} of the installed package {origin_of(op)} {what}"


def packages() -> dict[str, str]:
    """The packages whose ops were loaded, with their versions."""
    return {found.package: found.version for found in LOADED.values()}


def code_fingerprints() -> list[str]:
    """Of each op that was loaded, a text that changes with the file that it is written in."""
    return sorted(f"{name} {_source_hash(found.op_class)}" for name, found in LOADED.items())


def _source_hash(op_class: type[Layer]) -> str:
    file = inspect.getsourcefile(op_class)
    content = Path(file).read_bytes() if file is not None else b""
    return hashlib.sha256(content).hexdigest()[:16]
