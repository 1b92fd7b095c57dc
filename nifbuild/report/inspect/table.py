"""An inspection as tables: for the terminal, and as Markdown for pull requests."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.console import JustifyMethod

from nifbuild.errors import shown
from nifbuild.machine.terminal import Console, Table
from nifbuild.report.inspect.folding import Folded, fold
from nifbuild.report.inspect.inspection import Inspection, Row
from nifbuild.report.inspect.targets import BOUND
from nifbuild.report.inspect.units import bytes_text, count_text
from nifbuild.report.inspect.workspace import MAX_TRIED_BYTES

_LABELS = {
    "weights_bytes": "weights",
    "buffers_bytes": "buffers",
    "gradients_bytes": "gradients",
    "optimizer_bytes": "optimizer state",
    "ema_bytes": "moving average (EMA)",
    "input_bytes": "images and labels",
    "activations_bytes": "activations",
    "train_peak_bytes": "training peak",
    "inference_peak_bytes": "inference peak",
    "ddp_buckets_bytes": "DDP buckets, each process",
}
_IN_MARKDOWN = {"&": "&amp;", "<": "&lt;", "|": "\\|", "`": "\\`", "](": "]\\("}
_MIN_CUT = 8
_NARROW = 100  # below, columns that one can do without are left out


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
    for grid in grids:
        padding = (0, 2, 0, 0) if console.width >= _NARROW else (0, 1, 0, 0)
        table = Table(
            title=grid.title or None,
            title_justify="left",
            box=box.SIMPLE_HEAD,
            show_edge=False,
            padding=padding,
        )
        for index, heading in enumerate(grid.headings):
            justify: JustifyMethod = "left" if index < grid.num_text else "right"
            table.add_column(heading, justify=justify, no_wrap=True)
        for row in _fitted(grid, console.width - 2, padding[1] + 1):
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


def markdown(grids: Sequence[Grid], notes: Sequence[str] = ()) -> str:
    """The tables as GitHub's Markdown."""
    parts = []
    for grid in grids:
        marks = [":--" if i < grid.num_text else "--:" for i in range(len(grid.headings))]
        headings, *rows = (map(markdown_text, line) for line in (grid.headings, *grid.rows))
        lines = (headings, marks, *rows)
        body = "\n".join(f"| {' | '.join(cell or ' ' for cell in line)} |" for line in lines)
        parts.append(f"**{markdown_text(grid.title)}**\n\n{body}" if grid.title else body)
    return "\n\n".join([*parts, *notes])


def markdown_text(text: str) -> str:
    """Text that stays on its line and in its cell, and is neither HTML, code nor a link."""
    for character, harmless in _IN_MARKDOWN.items():
        text = text.replace(character, harmless)
    return shown(" ".join(text.split()))


def terminal_width() -> int:
    """Columns of the terminal, or 80."""
    return Console().width


def layer_grid(inspection: Inspection, width: int = 120) -> Grid:
    """The modules, blocks that repeat as one."""
    wide = width >= _NARROW
    headings = ["module", "op", "output", "params", "MACs", "saved", "fixed"]
    rows = [_cells(folded, wide) for folded in fold(inspection.rows)]
    if wide:
        headings[1:1] = ["n"]
        headings += ["line"]
    else:
        headings.remove("fixed")
    shape = "x".join(map(str, _input_shape(inspection)))
    first = inspection.predictions[0].batch_size
    title = f"{inspection.resolved.name}: {shape}, batch of {first}; bytes saved for backward"
    return Grid(title, tuple(headings), 4 if wide else 3, tuple(rows), 3 if wide else 2)


def _cells(folded: Folded, wide: bool) -> tuple[str, ...]:
    row = folded.row
    cells = [
        folded.path,
        _op_text(row),
        "x".join(map(str, row.output_shape)),
        count_text(row.params) if row.params else "",
        "?" if row.macs is None else count_text(row.macs) if row.macs else "",
        bytes_text(row.saved.total) if row.saved.total else "",
        bytes_text(row.saved.fixed) if row.saved.fixed else "",
    ]
    if wide:
        cells[1:1] = [str(folded.count) if folded.count > 1 else ""]
        cells += [f"{row.mark.line}" if row.mark and row.mark.line else ""]
    else:
        cells[1] = f"{folded.count}x {cells[1]}" if folded.count > 1 else cells[1]
        cells.pop()
    return tuple(cells)


def _op_text(row: Row) -> str:
    return row.op if row.kind in (None, "standard") else str(row.kind)


def _input_shape(inspection: Inspection) -> tuple[int, ...]:
    shape = inspection.resolved.graph.input_shape
    return (shape.channels, *shape.size)


def total_grid(inspections: Sequence[Inspection]) -> Grid:
    """The totals; of two models side by side, with the second one's difference to the first."""
    rows = [
        _numbers("parameters", [i.params for i in inspections], memory=False),
        _numbers("with dense filters", [i.dense_params for i in inspections], memory=False),
        _numbers("multiply-adds, one image", [i.macs for i in inspections], memory=False),
    ]
    parts = dict.fromkeys(name for i in inspections for name in i.macs_by_part)
    if len(parts) > 1:
        rows += [
            _numbers(f"  {_PARTS[name]}", [i.macs_by_part.get(name, 0) for i in inspections], False)
            for name in parts
        ]
    names = [i.resolved.name for i in inspections]
    headings = ("", names[0]) if len(names) == 1 else ("", *names, "difference", "")
    return Grid("", headings, 1, tuple(rows))


_PARTS = {
    "direct": "ordinary layers",
    "transform": "transforms",
    "product": "products of spectra",
    "mixing": "1x1 mixing",
    "filter": "filters, once a batch",
}


def memory_grid(inspection: Inspection) -> Grid:
    """Memory by category for each batch size."""
    target, predictions = inspection.target, inspection.predictions
    rows = []
    for name, label in _LABELS.items():
        values = [getattr(p.memory, name) for p in predictions]
        if any(values):
            rows.append((label, *(bytes_text(value) for value in values)))
    title = f"memory: {target.device}, {target.precision}, {inspection.optimizer.name}"
    headings = ("batch size", *(str(p.batch_size) for p in predictions))
    return Grid(title, headings, 1, tuple(rows))


def memory_comparison(one: Inspection, other: Inspection) -> Grid:
    """Memory of two models for the first batch size."""
    first, second = (i.predictions[0].memory for i in (one, other))
    rows = [
        _numbers(label, [getattr(m, name) for m in (first, second)], memory=True)
        for name, label in _LABELS.items()
        if getattr(first, name) or getattr(second, name)
    ]
    title = f"memory, batch of {one.predictions[0].batch_size}"
    headings = ("", one.resolved.name, other.resolved.name, "difference", "")
    return Grid(title, headings, 1, tuple(rows))


def _numbers(label: str, values: Sequence[int], memory: bool) -> tuple[str, ...]:
    text = bytes_text if memory else count_text
    cells = [text(value) for value in values]
    if len(values) == 2:
        change = values[1] - values[0]
        share = f"{change / values[0]:+.1%}" if values[0] and change else ""
        cells += [("+" if change > 0 else "") + text(change) if change else "same", share]
    return (label, *cells)


def notes(inspection: Inspection) -> list[str]:
    """What the figures leave out, and what they count as 0."""
    zero = ", ".join(inspection.counted_as_zero)
    found = [f"Multiply-adds: counted as 0, as flop counters do: {zero}."] if zero else []
    if inspection.uncounted:
        found.append(f"Not counted, for want of a rule: {', '.join(inspection.uncounted)}.")
    if inspection.target.device == "cuda":
        found.append(
            "CUDA: without the driver's context and the workspaces of cuDNN, cuBLAS and cuFFT."
        )
    else:
        limit = bytes_text(MAX_TRIED_BYTES)
        found.append(
            f"CPU: peaks are those of this machine ({inspection.machine}), within {BOUND:.0%}; its "
            f"libraries' part is from single convolutions, tried with {limit} at most."
        )
    return found
