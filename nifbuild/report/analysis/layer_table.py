"""An analysis as a table for people."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from nifbuild.errors import shown
from nifbuild.machine.terminal import Console
from nifbuild.report.analysis.analysis import Analysis
from nifbuild.report.analysis.filters import FilterFigures
from nifbuild.report.analysis.verdict import verdicts
from nifbuild.report.show.tables import legend, open_table, terminal_width
from nifbuild.report.show.units import percent_text, shape_text

_SHARE_COLUMNS = 15
_OTHER_COLUMNS = 10
"""Characters that a share takes in a row, and all but shares, the layer's name and its grid."""


def print_analysis(analysis: Analysis) -> None:
    """Prints the table and the verdicts on stdout, and where the page lies, if anywhere."""
    Console().print(render(analysis))


def render(analysis: Analysis) -> RenderableType:
    """A row for each layer, then the sentences."""
    shares = _shares(analysis)
    sizes = [f"{percent_text(share, 0)} of mass\nnow (initial)" for share in shares]
    headings = ["layer", "grid", *sizes, "energy\n< 0.25"]
    table = open_table(f"{analysis.name}, {analysis.checkpoint}", headings, folded=(0,))
    for layer in analysis.trained.layers:
        table.add_row(*_cells(analysis, layer, shares))
    lines = [*verdicts(analysis), *(f"note: {note}" for note in analysis.notes)]
    meanings = legend(
        "of mass: side of the smallest odd window with that share, in pixels, mean over filters; "
        "on an even grid, one more than its side is all of it",
        "energy < 0.25: share of it below 0.25 cycles per pixel",
    )
    where = [] if analysis.page is None else [Text(shown(f"report: {analysis.page}"))]
    return Group(table, meanings, Text(), *(Text(f"- {line}") for line in lines), *where)


def _shares(analysis: Analysis) -> Sequence[float]:
    """Those that a narrow terminal has room for: names of layers come first."""
    layers = analysis.trained.layers
    names = max(len(f"{layer.paths[0]}{shape_text(layer.grid)}") for layer in layers)
    room = (terminal_width() - names - _OTHER_COLUMNS) // _SHARE_COLUMNS
    return analysis.shares[: max(room, 1)]


def _cells(analysis: Analysis, layer: FilterFigures, shares: Sequence[float]) -> list[str]:
    path = layer.paths[0]
    initial = analysis.models.get("initial")
    before = initial.layer(path) if initial is not None else None
    cells = [path, shape_text(layer.grid)]
    for share in shares:
        text = f"{layer.mass_sizes[share].mean.item():.1f}"
        if before is not None:
            text += f" ({before.mass_sizes[share].mean.item():.1f})"
        cells.append(text)
    return [*cells, percent_text(layer.low_share.mean.item(), 0)]
