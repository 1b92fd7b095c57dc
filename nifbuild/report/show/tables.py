"""Tables for terminals: two looks, and cells that are cut where the terminal is too narrow.

A table whose columns are measured in characters beforehand is a `Grid`; the same one can be written
as Markdown (`nifbuild.report.show.markdown`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.text import Text

from nifbuild.errors import shown
from nifbuild.machine.terminal import Console, Table

NARROW = 100
"""Columns of a terminal below which a table leaves out what one can do without."""

_MIN_CUT = 8


def framed_table(title: str = "", headings: Sequence[str] = (), *, num_text: int = 1) -> Table:
    """An empty table with lines around it, for few figures; the first columns are text."""
    table = Table(title=_title(title), title_justify="left")
    for index, heading in enumerate(headings):
        table.add_column(heading, justify="left" if index < num_text else "right")
    return table


def open_table(
    title: str,
    headings: Sequence[str],
    *,
    num_text: int = 1,
    min_widths: Sequence[int] = (),
    folded: Sequence[int] = (),
    gap: int = 1,
    pad_edge: bool = False,
) -> Table:
    """An empty table without a frame, for many rows.

    Args:
        title: Above it; empty: none.
        headings: One for each column.
        num_text: Columns that are text, from the left; the others are numbers.
        min_widths: So that tables below each other line up.
        folded: Columns of text that go on in the next line where they are too long.
        gap: Spaces between columns.
        pad_edge: Whether there is one at the left, too.
    """
    table = Table(
        title=_title(title),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=(0, gap, 0, 0),
        pad_edge=pad_edge,
    )
    for index, heading in enumerate(headings):
        table.add_column(
            heading,
            justify="left" if index < num_text or index in folded else "right",
            no_wrap=index not in folded,
            overflow="fold" if index in folded else "ellipsis",
            min_width=min_widths[index] if min_widths else None,
        )
    return table


def legend(*lines: str) -> Text:
    """What one needs to know to read a table, below it."""
    return Text("\n".join(lines), style="dim")


def _title(text: str) -> Text | None:
    return Text(shown(text, lines=True), style="bold") if text else None


@dataclass(frozen=True, slots=True)
class Grid:
    """A table before it is drawn; the first columns of each row are text, the others numbers.

    Attributes:
        title: Above it; empty: none.
        headings: One for each column.
        num_text: Columns that are text, from the left.
        num_cut: Of these, those that are cut short where the terminal is too narrow.
        rows: The cells.
    """

    title: str
    headings: tuple[str, ...]
    num_text: int
    rows: tuple[tuple[str, ...], ...]
    num_cut: int = 1


def print_grids(grids: Sequence[Grid], notes: Sequence[str] = ()) -> None:
    """Draws the tables on stdout."""
    console = Console()
    gap = 2 if console.width >= NARROW else 1
    for grid in grids:
        table = open_table(
            grid.title, grid.headings, num_text=grid.num_text, gap=gap, pad_edge=True
        )
        for row in _fitted(grid, console.width - 2, gap + 1):
            table.add_row(*row)
        console.print(table)
        console.print()
    for note in notes:
        console.print(note)


def _fitted(grid: Grid, width: int, gap: int) -> list[tuple[str, ...]]:
    """The cells, of which the first columns are cut so that none of the others has to be.

    Names are cut at the left: their end tells one module from the next.
    """
    columns = list(zip(grid.headings, *grid.rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    excess = sum(widths) + gap * len(widths) - width
    while excess > 0 and max(widths[: grid.num_cut]) > _MIN_CUT:
        widest = max(range(grid.num_cut), key=lambda index: widths[index])
        widths[widest] -= 1
        excess -= 1
    return [
        tuple(
            cell
            if len(cell) <= width
            else f"…{cell[len(cell) - width + 1 :]}"
            if index == 0
            else f"{cell[: width - 1]}…"
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in grid.rows
    ]


def terminal_width() -> int:
    """Columns of the terminal, or 80."""
    return Console().width
