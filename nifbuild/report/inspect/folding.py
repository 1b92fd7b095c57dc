"""Repeated blocks as one: the rows of a table that people can read."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

from nifbuild.report.inspect.inspection import Row


@dataclass(frozen=True, slots=True)
class Folded:
    """Modules that are alike.

    Attributes:
        path: Their name; a range such as `layer3.1-22.conv1` where there are several.
        row: The figures of the first one.
        count: How many there are.
    """

    path: str
    row: Row
    count: int


def fold(rows: Sequence[Row]) -> list[Folded]:
    """Folds blocks after one another that differ in their number alone."""
    return _fold([Folded(row.path, row, 1) for row in rows], 0)


def _fold(rows: list[Folded], depth: int) -> list[Folded]:
    """Folds the children of one level, and what is in them."""
    children: list[tuple[str, list[Folded]]] = []
    for name, group in itertools.groupby(rows, lambda row: _part(row, depth)):
        inside = list(group)
        is_leaf = len(inside) == 1 and inside[0].path.count(".") == depth
        children.append((name, inside if is_leaf else _fold(inside, depth + 1)))
    folded: list[Folded] = []
    for _, run in itertools.groupby(children, lambda c: _signature(c[0], c[1], depth)):
        alike = list(run)
        if len(alike) == 1:
            folded += alike[0][1]
            continue
        span = f"{alike[0][0]}-{alike[-1][0]}"
        for row in alike[0][1]:
            parts = row.path.split(".")
            parts[depth] = span
            folded.append(replace(row, path=".".join(parts), count=row.count * len(alike)))
    return folded


def _part(row: Folded, depth: int) -> str:
    return row.path.split(".")[depth]


def _signature(name: str, rows: list[Folded], depth: int) -> object:
    """What must agree for blocks to be alike; a block whose name is no number is alone."""
    if not name.isdigit():
        return name
    return [
        (
            row.path.split(".")[depth + 1 :],
            row.count,
            (row.row.op, row.row.kind, row.row.output_shape, row.row.params),
            (row.row.macs, row.row.saved),
        )
        for row in rows
    ]
