"""Runs side by side as a page, or their curves as a picture."""

from pathlib import Path

from nifbuild.report.output_file import written_file
from nifbuild.report.show.plots import SCREEN
from nifbuild.report.show.web_page import headed, page, section, table
from nifbuild.report.side_by_side.curves import plot_curves
from nifbuild.report.side_by_side.recorded import SideBySide
from nifbuild.report.side_by_side.run_tables import difference_rows, figure_rows, labels

_CAPTION = (
    "By epoch, as metrics.jsonl has it. Images of training are seen as augmented, if they "
    "are, and before each step of the epoch, so that their figures lag behind."
)


def write_comparison(made: SideBySide, path: Path, *, overwrite: bool = False) -> None:
    """Writes the page or the picture, as the file's ending says.

    Raises:
        RunError: It cannot be written.
    """
    names = labels(made.runs)
    figure = plot_curves(made.runs, names)
    with written_file("--out", path, overwrite=overwrite) as file:
        if path.suffix.lower() != ".html":
            SCREEN.save(figure, file)
            return
        file.write_text(comparison_html(made, SCREEN.png(figure)), encoding="utf-8")


def curves_section(curves: bytes) -> str:
    """Curves under a heading; `curves` is a PNG file."""
    return section("Curves", [curves], _CAPTION, broad=True)


def comparison_html(made: SideBySide, curves: bytes) -> str:
    """The page.

    Args:
        made: What to tell.
        curves: A PNG file.
    """
    names = labels(made.runs)
    parts = [
        table(["", *names], [[name, *cells] for name, cells in figure_rows(made.runs)]),
        curves_section(curves),
    ]
    if rows := difference_rows(made):
        settings = table(["", *names], [[name, *cells] for name, cells in rows])
        parts.append(headed("What differs", settings))
    title = "Runs side by side" if len(names) > 1 else names[0]
    return page(title, ", ".join(str(run.path) for run in made.runs), "\n".join(parts))
