"""The difference of two specs for people: equal changes of many modules are told once."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from nifbuild.report.diff import Difference, ModuleDifference, SpecDifference
from nifbuild.report.show.units import bytes_text, change_text

_INFERRED = {"input_shapes", "output_shape"}
_MAX_NAMES = 6


def difference_text(difference: SpecDifference) -> str:
    """Lines that start with `-`, `+` or `~` (removed, added, changed); then the budgets."""
    if not difference:
        return f"{difference.names[0]} and {difference.names[1]} are the same, written out"
    parts = [_sections(difference.sections), _modules(difference), _budgets(difference)]
    return "\n\n".join("\n".join(part) for part in map(list, parts) if part)


def _sections(sections: Difference) -> Iterator[str]:
    yield from (f"~ {key}: {_change(*pair)}" for key, pair in sections.changed.items())
    for sign, values in (("-", sections.removed), ("+", sections.added)):
        groups: dict[str, dict[str, Any]] = {}
        for key, value in values.items():
            section, _, rest = key.partition(".")
            groups.setdefault(section, {})[rest] = value
        yield from (f"{sign} {section}: {_one_sided(own)}" for section, own in groups.items())


def _modules(difference: SpecDifference) -> Iterator[str]:
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


def _budgets(difference: SpecDifference) -> Iterator[str]:
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
