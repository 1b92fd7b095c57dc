"""An analysis as a table for people."""

from rich.console import Group, RenderableType
from rich.text import Text

from nifbuild.errors import shown
from nifbuild.machine.terminal import Console
from nifbuild.report.analysis.analysis import Analysis
from nifbuild.report.analysis.filters import FilterFigures
from nifbuild.report.analysis.verdict import verdicts
from nifbuild.report.show.tables import legend, open_table
from nifbuild.report.show.units import percent_text, shape_text


def print_analysis(analysis: Analysis) -> None:
    """Prints the table and the verdicts on stdout, and where the page lies, if anywhere."""
    Console().print(render(analysis))


def render(analysis: Analysis) -> RenderableType:
    """A row for each layer, then the sentences."""
    sizes = [f"{percent_text(share, 0)} of mass\nnow (initial)" for share in analysis.shares]
    headings = ["layer", "grid", *sizes, "energy\n< 0.25"]
    table = open_table(f"{analysis.name}, {analysis.checkpoint}", headings, folded=(0,))
    for layer in analysis.trained.layers:
        table.add_row(*_cells(analysis, layer))
    lines = [*verdicts(analysis), *(f"note: {note}" for note in analysis.notes)]
    meanings = legend(
        "of mass: side of the smallest odd window with that share, in pixels, mean over filters; "
        "on an even grid, one more than its side is all of it",
        "energy < 0.25: share of it below 0.25 cycles per pixel",
    )
    where = [] if analysis.page is None else [Text(shown(f"report: {analysis.page}"))]
    return Group(table, meanings, Text(), *(Text(f"- {line}") for line in lines), *where)


def _cells(analysis: Analysis, layer: FilterFigures) -> list[str]:
    path = layer.paths[0]
    initial = analysis.models.get("initial")
    before = initial.layer(path) if initial is not None else None
    cells = [path, shape_text(layer.grid)]
    for share in analysis.shares:
        text = f"{layer.mass_sizes[share].mean.item():.1f}"
        if before is not None:
            text += f" ({before.mass_sizes[share].mean.item():.1f})"
        cells.append(text)
    return [*cells, percent_text(layer.low_share.mean.item(), 0)]
