"""The difference of two specs, written out: module by module, value by value; and as text."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from nifbuild.report.inspect.inspection import inspect_spec
from nifbuild.report.inspect.targets import Target
from nifbuild.report.show.units import bytes_text, change_text
from nifbuild.spec.canonical import settings
from nifbuild.spec.graph import Graph, Node
from nifbuild.spec.resolve import Resolved

Fields = Mapping[str, Any]

_INFERRED = {"input_shapes", "output_shape"}
_MAX_NAMES = 6
_LABELS = {
    "params": "parameters",
    "equivalent_dense_params": "with dense filters",
    "macs": "multiply-adds, one image",
    "batch_size": "images in a batch",
    "weights_bytes": "weights",
    "optimizer_bytes": "optimizer state",
    "activations_bytes": "activations",
    "train_peak_bytes": "training peak",
    "inference_peak_bytes": "inference peak",
}


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
        names: The specs' names; where they agree, their files.
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
    files = a.source.mark.file, b.source.mark.file
    return SpecDifference(
        names=files if a.name == b.name else (a.name, b.name),
        modules=tuple(_modules(a.graph, b.graph)),
        sections=_difference(settings(a.spec), settings(b.spec)),
        levels=(_levels(a.graph), _levels(b.graph)),
        budgets={name: (first[name], second[name]) for name in first},
    )


def budgets(resolved: Resolved) -> dict[str, int]:
    """Figures by name, as `nifbuild inspect` predicts them for the spec's own training.

    `params` and `equivalent_dense_params` are weights; `macs` are multiply-adds for one image; what
    ends in `_bytes` is memory for a batch of `batch_size` images. Nothing is allocated.
    """
    found = inspect_spec(resolved, target=Target.of(resolved))
    (prediction,) = found.predictions
    memory = prediction.memory
    return {
        "params": found.params,
        "equivalent_dense_params": found.dense_params,
        "macs": found.macs,
        "batch_size": prediction.batch_size,
        "weights_bytes": memory.weights_bytes,
        "optimizer_bytes": memory.optimizer_bytes,
        "activations_bytes": memory.activations_bytes,
        "train_peak_bytes": memory.train_peak_bytes,
        "inference_peak_bytes": memory.inference_peak_bytes,
    }


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


def difference_text(difference: SpecDifference) -> str:
    """Lines that start with `-`, `+` or `~` (removed, added, changed); then the budgets."""
    if not difference:
        return f"{difference.names[0]} and {difference.names[1]} are the same, written out"
    parts = [
        _section_lines(difference.sections),
        _module_lines(difference),
        _budget_lines(difference),
    ]
    return "\n\n".join("\n".join(part) for part in map(list, parts) if part)


def _section_lines(sections: Difference) -> Iterator[str]:
    yield from (f"~ {key}: {_change(*pair)}" for key, pair in sections.changed.items())
    for sign, values in (("-", sections.removed), ("+", sections.added)):
        groups: dict[str, dict[str, Any]] = {}
        for key, value in values.items():
            section, _, rest = key.partition(".")
            groups.setdefault(section, {})[rest] = value
        yield from (f"{sign} {section}: {_one_sided(own)}" for section, own in groups.items())


def _module_lines(difference: SpecDifference) -> Iterator[str]:
    """One entry for all modules that change in the same way, where the first of them stands."""
    groups: dict[str, list[str]] = {}
    shapes_only: list[ModuleDifference] = []
    levels: dict[tuple[str, str], list[str | None]] = {}
    for module in difference.modules:
        if module.change == "changed":
            if _only_shapes(module.fields):
                shapes_only.append(module)
            else:
                groups.setdefault(_entry(module), []).append(module.path)
        else:
            op = module.ops[1] if module.change == "added" else module.ops[0]
            levels.setdefault(_outermost(module, difference), []).append(op)
    for (sign, path), ops in levels.items():
        groups.setdefault(f"{sign}\n    {_listed([str(op) for op in ops])}", []).append(path)
    for entry, paths in groups.items():
        sign, _, fields = entry.partition("\n")
        yield f"{sign} {_listed(paths)}\n{fields}"
    if shapes_only:
        first = shapes_only[0]
        a, b = first.fields.changed.get("output_shape") or first.fields.changed["input_shapes"]
        count = len(shapes_only)
        what = "1 module has" if count == 1 else f"{count} modules have"
        yield f"~ {what} other shapes only, from {first.path} on: {_change(a, b)}"


def _only_shapes(fields: Difference) -> bool:
    return not fields.removed and not fields.added and fields.changed.keys() <= _INFERRED


def _entry(module: ModuleDifference) -> str:
    """What changes in a module, without its name: the sign, and a line for each field."""
    fields = module.fields
    own = [(key, pair) for key, pair in fields.changed.items() if key not in _INFERRED]
    lines = [f"~ {key}: {_change(*pair)}" for key, pair in own]
    if "output_shape" in fields.changed:
        lines.append(f"~ output: {_change(*fields.changed['output_shape'])}")
    for sign, values in (("-", fields.removed), ("+", fields.added)):
        if values:
            lines.append(f"{sign} {_one_sided(values)}")
    return "\n".join(["~", *(f"    {line}" for line in lines)])


def _one_sided(values: Mapping[str, Any]) -> str:
    """On one line; null, the same as nothing, is left out."""
    return ", ".join(f"{k}: {_shown(v)}" for k, v in values.items() if v is not None)


def _outermost(module: ModuleDifference, difference: SpecDifference) -> tuple[str, str]:
    """The sign, and the largest level of names that the other spec does not have."""
    added = module.change == "added"
    other = difference.levels[0 if added else 1]
    names = module.path.split(".")
    prefixes = (".".join(names[:end]) for end in range(1, len(names)))
    return "+" if added else "-", next((p for p in prefixes if p not in other), module.path)


def _listed(names: list[str]) -> str:
    more = f", ... ({len(names)} in all)" if len(names) > _MAX_NAMES else ""
    return ", ".join(names[:_MAX_NAMES]) + more


def _change(a: Any, b: Any) -> str:
    return f"{_shown(a)} -> {_shown(b)}"


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value).replace('"', "")


def _budget_lines(difference: SpecDifference) -> Iterator[str]:
    a, b = difference.names
    rows = [("", a, b, "") if a != b else ("", f"{a} (a)", f"{b} (b)", "")]
    for name, pair in difference.budgets.items():
        first, second = pair
        share = change_text((second - first) / first) if first else ""
        text = bytes_text if name.endswith("_bytes") else "{:,}".format
        rows.append(
            (_LABELS[name], text(first), text(second), share if first != second else "same")
        )
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for name, *cells in rows:
        aligned = (c.rjust(width) for c, width in zip(cells, widths[1:], strict=True))
        yield f"{name.ljust(widths[0])}  {'  '.join(aligned)}".rstrip()
