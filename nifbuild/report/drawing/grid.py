"""Where the parts of a block stand, in rows and columns, and which way each edge takes.

Rows are the longest way from the block's input. A part stands in the column of what it takes first,
or in the next free one to the right. An edge that passes rows goes down a column that is free
there, or a lane to the right of all columns: shorter edges in the inner lanes.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from nifbuild.report.drawing.blocks import Block


@dataclass(frozen=True)
class Edge:
    """A value on its way.

    Attributes:
        value: The node that makes it.
        source: The part that gives it; -1, -2, ... for the block's first, second, ... input.
        target: The part that takes it; for the block's outputs, the number of parts and on.
    """

    value: int
    source: int
    target: int


@dataclass(frozen=True)
class Grid:
    """Rows and columns.

    Attributes:
        edges: All edges.
        rows: The row of each part, of each input (row 0) and of each output (the last one), by
            their numbers as in `Edge`.
        columns: The column of each part, and of the first input.
        ways: For an edge that passes rows: its column, or its lane, counted from 0 by the letter
            before.
    """

    edges: tuple[Edge, ...]
    rows: dict[int, int]
    columns: dict[int, int]
    ways: dict[Edge, tuple[str, int]]

    @property
    def num_rows(self) -> int:
        """Rows with parts."""
        return max(self.rows.values()) - 1

    @property
    def num_columns(self) -> int:
        """Columns with parts."""
        return max(self.columns.values()) + 1


def grid(block: Block) -> Grid:
    """Places the parts of an opened block."""
    edges = tuple(_edges(block))
    rows = {-1 - i: 0 for i in range(len(block.inputs))}
    for index in range(len(block.parts)):
        rows[index] = 1 + max((rows[e.source] for e in edges if e.target == index), default=0)
    last = 1 + max(rows.values())
    rows |= {len(block.parts) + i: last for i in range(len(block.outputs))}
    columns, taken = _columns(block, edges, rows)
    return Grid(edges, rows, columns, _ways(edges, rows, columns, taken))


def _edges(block: Block) -> Iterable[Edge]:
    makers = {value: -1 - i for i, value in enumerate(block.inputs)}
    for index, part in enumerate(block.parts):
        yield from (Edge(value, makers[value], index) for value in part.inputs)
        makers |= dict.fromkeys(part.last_outputs, index)
    for i, value in enumerate(block.outputs):
        yield Edge(value, makers[value], len(block.parts) + i)


def _columns(
    block: Block, edges: tuple[Edge, ...], rows: dict[int, int]
) -> tuple[dict[int, int], set[tuple[int, str, int]]]:
    columns = {-1: 0}
    taken: set[tuple[int, str, int]] = set()
    for index in range(len(block.parts)):
        sources = [e.source for e in edges if e.target == index]
        column = min((columns[s] for s in sources if s in columns), default=0)
        while (rows[index], "c", column) in taken:
            column += 1
        columns[index] = column
        taken.add((rows[index], "c", column))
    return columns, taken


def _ways(
    edges: tuple[Edge, ...],
    rows: dict[int, int],
    columns: dict[int, int],
    taken: set[tuple[int, str, int]],
) -> dict[Edge, tuple[str, int]]:
    ways: dict[Edge, tuple[str, int]] = {}
    for edge in sorted(edges, key=lambda e: rows[e.target] - rows[e.source]):
        # A second input has no column: its lane leads up to the block's border.
        first = rows[edge.source] + (edge.source in columns)
        passed = range(first, rows[edge.target])
        if not passed:
            continue
        ends = (columns.get(edge.source), columns.get(edge.target))
        options = [("c", column) for column in ends if column is not None]
        if edge.source not in columns:
            options = []
        options += [("l", lane) for lane in range(len(edges))]
        way = next(w for w in options if not any((row, *w) in taken for row in passed))
        taken |= {(row, *way) for row in passed}
        ways[edge] = way
    return ways
