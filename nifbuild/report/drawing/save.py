"""From a spec to a file with its picture."""

from collections.abc import Callable
from pathlib import Path

from nifbuild.report.drawing.blocks import Block, blocks
from nifbuild.report.drawing.draw import picture
from nifbuild.report.drawing.mermaid import mermaid
from nifbuild.report.drawing.render import save_png, svg
from nifbuild.report.output_file import require_files, written_file
from nifbuild.spec.resolve import Resolved

_OPTION = "--out"


def _save_svg(resolved: Resolved, model: Block, file: Path) -> None:
    file.write_text(svg(picture(model, resolved.graph, resolved.name)), encoding="utf-8")


def _save_png(resolved: Resolved, model: Block, file: Path) -> None:
    save_png(picture(model, resolved.graph, resolved.name), file)


def _save_mermaid(resolved: Resolved, model: Block, file: Path) -> None:
    file.write_text(mermaid(model, resolved.graph), encoding="utf-8")


_FORMATS: dict[str, Callable[[Resolved, Block, Path], None]] = {
    ".svg": _save_svg,
    ".png": _save_png,
    ".mmd": _save_mermaid,
}


def require_writable(file: Path, *, overwrite: bool = False) -> None:
    """Raises SpecError unless the file's ending names a format, and it can be written."""
    require_files(_OPTION, [file], tuple(_FORMATS), overwrite=overwrite)


def save(
    resolved: Resolved, file: Path, depth: int | None = None, *, overwrite: bool = False
) -> None:
    """Draws a spec's network.

    Args:
        resolved: The spec.
        file: Its ending says what is written: .svg, .png or .mmd (Mermaid).
        depth: Levels of blocks that are opened; None: as many as stay legible.
        overwrite: Replace the file that is there.

    Raises:
        SpecError: If the ending is another one, or the file exists.
        RunError: If the file cannot be written.
    """
    require_writable(file, overwrite=overwrite)
    model = blocks(resolved.graph, depth)
    with written_file(_OPTION, file, overwrite=overwrite) as aside:
        _FORMATS[file.suffix.lower()](resolved, model, aside)
