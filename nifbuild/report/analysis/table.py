"""An analysis as a table for people."""

from rich import box
from rich.console import Group, RenderableType
from rich.text import Text

from nifbuild.errors import shown
from nifbuild.machine.terminal import Console, Table
from nifbuild.report.analysis.analysis import Analysis
from nifbuild.report.analysis.filters import FilterFigures
from nifbuild.report.analysis.style import size_text
from nifbuild.report.analysis.verdict import verdicts


def print_analysis(analysis: Analysis) -> None:
    """Prints the table and the verdicts on stdout, and where the page lies, if anywhere."""
    Console().print(render(analysis))


def render(analysis: Analysis) -> RenderableType:
    """A row for each layer, then the sentences."""
    table = Table(
        title=Text(f"{analysis.name}, {analysis.checkpoint}", style="bold"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    table.add_column("layer", overflow="fold")
    table.add_column("grid", justify="right", no_wrap=True)
    for share in analysis.shares:
        table.add_column(f"{share:.0%} of mass\nnow (initial)", justify="right", no_wrap=True)
    table.add_column("energy\n< 0.25", justify="right", no_wrap=True)
    for layer in analysis.trained.layers:
        table.add_row(*_cells(analysis, layer))
    lines = [*verdicts(analysis), *(f"note: {note}" for note in analysis.notes)]
    legend = Text(
        "of mass: side of the smallest odd window with that share, in pixels, mean over filters\n"
        "energy < 0.25: share of it below 0.25 cycles per pixel",
        style="dim",
    )
    where = [] if analysis.page is None else [Text(shown(f"report: {analysis.page}"))]
    return Group(table, legend, Text(), *(Text(f"- {line}") for line in lines), *where)


def _cells(analysis: Analysis, layer: FilterFigures) -> list[str]:
    path = layer.paths[0]
    initial = analysis.models.get("initial")
    before = initial.layer(path) if initial is not None else None
    cells = [path, size_text(layer.grid)]
    for share in analysis.shares:
        text = f"{layer.mass_sizes[share].mean.item():.1f}"
        if before is not None:
            text += f" ({before.mass_sizes[share].mean.item():.1f})"
        cells.append(text)
    return [*cells, f"{layer.low_share.mean.item():.0%}"]
