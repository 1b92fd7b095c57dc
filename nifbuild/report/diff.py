"""The difference of two specs, as they are written out: module by module, value by value."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from nifbuild.report.budgets import budgets
from nifbuild.spec.graph import Graph, Node
from nifbuild.spec.resolve import Resolved

Fields = Mapping[str, Any]


@dataclass(frozen=True)
class Difference:
    """What two mappings do not share.

    Attributes:
        changed: By key, the value before and after.
        removed: What the first alone has.
        added: What the second alone has.
    """

    changed: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    removed: dict[str, Any] = field(default_factory=dict)
    added: dict[str, Any] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.changed or self.removed or self.added)

    def as_document(self) -> dict[str, Any]:
        """Plain data for JSON: the values `a` and `b` of each key, where each side has one."""
        keys = {key: {"a": a, "b": b} for key, (a, b) in self.changed.items()}
        keys |= {key: {"a": value} for key, value in self.removed.items()}
        keys |= {key: {"b": value} for key, value in self.added.items()}
        return keys


@dataclass(frozen=True)
class ModuleDifference:
    """A module that one spec alone has, or both with other fields.

    Attributes:
        path: Its name.
        change: Which of these.
        ops: What it is in the first and in the second spec; None where it is not.
        fields: Fields that differ, the inferred `inputs` (the modules whose outputs it takes),
            `input_shapes` and `output_shape` among them; empty unless it is `changed`.
    """

    path: str
    change: Literal["removed", "added", "changed"]
    ops: tuple[str | None, str | None]
    fields: Difference = Difference()

    def as_document(self) -> dict[str, Any]:
        """Plain data for JSON."""
        op = {side: op for side, op in zip("ab", self.ops, strict=True) if op is not None}
        return {
            "path": self.path,
            "change": self.change,
            "op": op,
            "fields": self.fields.as_document(),
        }


@dataclass(frozen=True)
class SpecDifference:
    """What two specs do not share.

    Attributes:
        names: The specs' names.
        modules: In the order of the second spec; removed ones last, in the order of the first.
        sections: Values of the other sections, by dotted path (`train.epochs`).
        levels: The names of levels of modules in each of the two, such as `layer1.0`.
        budgets: By name, the figures of both (see `budgets`); equal ones, too.
    """

    names: tuple[str, str]
    modules: tuple[ModuleDifference, ...]
    sections: Difference
    levels: tuple[frozenset[str], frozenset[str]]
    budgets: dict[str, tuple[int, int]]

    def __bool__(self) -> bool:
        return bool(self.modules or self.sections)

    def as_document(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "same": not self,
            "a": self.names[0],
            "b": self.names[1],
            "modules": [module.as_document() for module in self.modules],
            "sections": self.sections.as_document(),
            "budgets": {name: {"a": a, "b": b} for name, (a, b) in self.budgets.items()},
        }


def spec_difference(a: Resolved, b: Resolved) -> SpecDifference:
    """Compares two specs; modules are the same where their names are."""
    first, second = budgets(a), budgets(b)
    return SpecDifference(
        names=(a.name, b.name),
        modules=tuple(_modules(a.graph, b.graph)),
        sections=_difference(_sections(a), _sections(b)),
        levels=(_levels(a.graph), _levels(b.graph)),
        budgets={name: (first[name], second[name]) for name in first},
    )


def _difference(a: Fields, b: Fields) -> Difference:
    return Difference(
        {key: (a[key], b[key]) for key in a if key in b and a[key] != b[key]},
        {key: value for key, value in a.items() if key not in b},
        {key: value for key, value in b.items() if key not in a},
    )


def _modules(a: Graph, b: Graph) -> Iterable[ModuleDifference]:
    first = {node.path: node for node in a.nodes}
    second = {node.path: node for node in b.nodes}
    for path, node in second.items():
        if path not in first:
            yield ModuleDifference(path, "added", (None, node.op.op))
        elif fields := _difference(_fields(first[path], a), _fields(node, b)):
            yield ModuleDifference(path, "changed", (first[path].op.op, node.op.op), fields)
    for path, node in first.items():
        if path not in second:
            yield ModuleDifference(path, "removed", (node.op.op, None))


def _fields(node: Node, graph: Graph) -> dict[str, Any]:
    fields = node.op.model_dump(mode="json", by_alias=True, exclude={"id", "from_"})
    return {
        **fields,
        "inputs": [graph.nodes[i].path if i >= 0 else "input" for i in node.inputs],
        "input_shapes": [str(shape) for shape in node.input_shapes],
        "output_shape": str(node.output_shape),
    }


def _levels(graph: Graph) -> frozenset[str]:
    levels = set()
    for node in graph.nodes:
        names = node.path.split(".")
        levels |= {".".join(names[:end]) for end in range(1, len(names))}
    return frozenset(levels)


def _sections(resolved: Resolved) -> dict[str, Any]:
    content = resolved.spec.model_dump(mode="json", by_alias=True, exclude={"model"})
    present = {key: value for key, value in content.items() if value is not None}
    return dict(_flat(present, ""))


def _flat(content: Fields, prefix: str) -> Iterable[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
