"""Two models side by side."""

from typing import Any

from nifbuild.report.inspect.inspection import Inspection, Row
from nifbuild.report.show.tables import Grid
from nifbuild.report.show.units import count_text


def differing_rows(one: Inspection, other: Inspection) -> list[tuple[Row | None, Row | None]]:
    """Modules of the same name whose figures differ, and those that only one model has."""
    of_other = {row.path: row for row in other.rows}
    paths = {row.path for row in one.rows}
    pairs: list[tuple[Row | None, Row | None]] = [
        (row, of_other.get(row.path))
        for row in one.rows
        if row.path not in of_other or _figures(row) != _figures(of_other[row.path])
    ]
    return pairs + [(None, row) for row in other.rows if row.path not in paths]


def _figures(row: Row) -> object:
    return (row.op, row.kind, row.output_shape, row.params, row.macs)


def comparison_document(one: Inspection, other: Inspection) -> dict[str, Any]:
    """The other model's totals, its differences to the first one, and the modules that differ."""
    memory, others = (i.predictions[0].memory.document() for i in (one, other))
    return {
        "name": other.resolved.name,
        "params": other.params,
        "equivalent_dense_params": other.dense_params,
        "macs": other.macs,
        "memory": others,
        "difference": {
            "params": other.params - one.params,
            "equivalent_dense_params": other.dense_params - one.dense_params,
            "macs": other.macs - one.macs,
            "memory": {
                name: others[name] - value
                for name, value in memory.items()
                if isinstance(value, int)
            },
        },
        "layers": [
            {
                "path": (a or b).path,  # type: ignore[union-attr]
                "one": a.document() if a else None,
                "other": b.document() if b else None,
            }
            for a, b in differing_rows(one, other)
        ],
    }


def difference_grid(one: Inspection, other: Inspection) -> Grid:
    """The modules that differ, alike ones after another as one."""
    rows: list[tuple[str, ...]] = []
    for a, b in differing_rows(one, other):
        path = (a or b).path  # type: ignore[union-attr]
        cells = (_name(a), _name(b), *_pair(a, b, "params"), *_pair(a, b, "macs"))
        rows.append((path, *cells))
    headings = ("module", one.resolved.name, other.resolved.name, "params", "", "MACs", "")
    return Grid("modules that differ" if rows else "", headings, 3, tuple(rows))


def _name(row: Row | None) -> str:
    return "-" if row is None else row.kind or row.op


def _pair(a: Row | None, b: Row | None, name: str) -> tuple[str, str]:
    one, other = ("-" if row is None else count_text(getattr(row, name) or 0) for row in (a, b))
    return one, other
