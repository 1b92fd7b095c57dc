"""The files of an analysis: figures as JSON, plots, and the page."""

from pathlib import Path

from matplotlib.figure import Figure

from nifbuild.report.analysis.analysis import Analysis
from nifbuild.report.analysis.page import page_html
from nifbuild.report.analysis.plot_curves import plot_sizes, plot_spectra, plot_windows
from nifbuild.report.analysis.plot_images import (
    plot_components,
    plot_gallery,
    plot_receptive_fields,
)
from nifbuild.report.output_file import require_folder, written_folder
from nifbuild.report.show.plots import PAPER
from nifbuild.runs.documents import as_json

PAGE = "report.html"
_DOCUMENT = "analysis.json"
_NAMES = (
    r"analysis\.json|report\.html|gallery_\d{2,}\.png"
    r"|(sizes|mass|energy|spectra|components|receptive_fields)\.png"
)


def require_writable(out: Path, *, overwrite: bool) -> None:
    """Finds out before minutes of work whether the files can be written, and over nothing else.

    Raises:
        SpecError: The directory cannot be made or written; or it has files of these names, and
            they are not to be replaced, or were not made by nifbuild.
    """
    require_folder("--out", out, _NAMES, overwrite=overwrite)


def write_analysis(analysis: Analysis, out: Path, *, overwrite: bool = False) -> Path:
    """Writes all files, or none.

    Args:
        analysis: What to tell.
        out: A directory; made if need be.
        overwrite: In place of those of an analysis that was there before.

    Returns:
        The page.

    Raises:
        RunError: The disk is full, or the like.
    """
    pictures = {name: [PAPER.png(f) for f in figures] for name, figures in draw(analysis).items()}
    with written_folder("--out", out, _NAMES, overwrite=overwrite) as folder:
        (folder / _DOCUMENT).write_bytes(as_json(analysis.document()))
        for name, pngs in pictures.items():
            for number, png in enumerate(pngs, start=1):
                # The gallery has as many as the layers need.
                suffix = f"_{number:02d}" if name == "gallery" else ""
                (folder / f"{name}{suffix}.png").write_bytes(png)
        (folder / PAGE).write_text(page_html(analysis, pictures), encoding="utf-8")
    return out / PAGE


@PAPER.applied()
def draw(analysis: Analysis) -> dict[str, list[Figure]]:
    """All plots by name."""
    plots = {
        "sizes": [plot_sizes(analysis)],
        "mass": [plot_windows(analysis, "mass")],
        "energy": [plot_windows(analysis, "energy")],
        "spectra": [plot_spectra(analysis)],
        "components": [plot_components(analysis)],
        "gallery": plot_gallery(analysis),
    }
    if analysis.trained.receptive_fields:
        plots["receptive_fields"] = [plot_receptive_fields(analysis)]
    return plots
