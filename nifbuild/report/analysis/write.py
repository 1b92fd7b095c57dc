"""The files of an analysis: figures as JSON, plots, and the page."""

import io
import json
from pathlib import Path
from tempfile import TemporaryFile

from matplotlib.figure import Figure

from nifbuild.errors import Mark, Problem, RunError, SpecError
from nifbuild.report.analysis.analysis import Analysis
from nifbuild.report.analysis.page import page_html
from nifbuild.report.analysis.plot_curves import plot_sizes, plot_spectra, plot_windows
from nifbuild.report.analysis.plot_images import (
    plot_components,
    plot_gallery,
    plot_receptive_fields,
)
from nifbuild.report.analysis.style import DPI, paper_style

PAGE = "report.html"
_DOCUMENT = "analysis.json"


def require_writable(out: Path) -> None:
    """Finds out before minutes of work whether the directory can be written.

    Raises:
        SpecError: It cannot be made, or nothing can be written there.
    """
    try:
        made = not out.exists()
        out.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=out):
            pass
        if made:
            out.rmdir()  # nothing is left where the analysis fails
    except OSError as error:
        reason = error.strerror or str(error)
        if isinstance(error, FileExistsError | NotADirectoryError):
            reason = "a file is in the way"
        what = f"cannot write to {out}: {reason}"
        fix = "name a directory that you may write to: --out DIR"
        raise SpecError(Problem(what, where=Mark("--out"), fix=fix, code="write")) from error


def write_analysis(analysis: Analysis, out: Path) -> Path:
    """Writes all files, over those of an analysis that was there before.

    Args:
        analysis: What to tell.
        out: A directory; made if need be.

    Returns:
        The page.

    Raises:
        RunError: The disk is full, or the like.
    """
    pictures = {name: [_png(f) for f in figures] for name, figures in draw(analysis).items()}
    try:
        out.mkdir(parents=True, exist_ok=True)
        for old in (*out.glob("gallery_*.png"), out / "receptive_fields.png"):
            old.unlink(missing_ok=True)
        document = json.dumps(analysis.as_document(), indent=1) + "\n"
        (out / _DOCUMENT).write_text(document, encoding="utf-8")
        for name, pngs in pictures.items():
            for number, png in enumerate(pngs, start=1):
                # The gallery has as many as the layers need.
                suffix = f"_{number:02d}" if name == "gallery" else ""
                (out / f"{name}{suffix}.png").write_bytes(png)
        (out / PAGE).write_text(page_html(analysis, pictures), encoding="utf-8")
    except OSError as error:
        raise RunError(f"cannot write to {out}: {error.strerror}", fix="make room") from error
    return out / PAGE


def draw(analysis: Analysis) -> dict[str, list[Figure]]:
    """All plots by name."""
    with paper_style():
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


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    with paper_style():
        figure.savefig(buffer, dpi=DPI, format="png")
    return buffer.getvalue()
