"""From a spec to a file with its picture."""

from collections.abc import Callable
from pathlib import Path

from nifbuild.errors import Problem, RunError, SpecError
from nifbuild.report.drawing.blocks import Block, blocks
from nifbuild.report.drawing.draw import picture
from nifbuild.report.drawing.mermaid import mermaid
from nifbuild.report.drawing.render import save_png, svg
from nifbuild.spec.resolve import Resolved


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


def require_format(file: Path) -> None:
    """Raises SpecError unless the file's ending names a format."""
    if file.suffix not in _FORMATS:
        what = f"{file} has no known ending"
        raise SpecError(Problem(what, fix=f"use one of {', '.join(_FORMATS)}", code="format"))


def save(resolved: Resolved, file: Path, depth: int | None = None) -> None:
    """Draws a spec's network.

    Args:
        resolved: The spec.
        file: Its ending says what is written: .svg, .png or .mmd (Mermaid).
        depth: Levels of blocks that are opened; None: as many as stay legible.

    Raises:
        SpecError: If the ending is another one.
        RunError: If the file cannot be written.
    """
    require_format(file)
    model = blocks(resolved.graph, depth)
    try:
        _FORMATS[file.suffix](resolved, model, file)
    except OSError as error:
        what = f"cannot write {file}: {error.strerror or error}"
        raise RunError(
            Problem(what, fix="write elsewhere with --out FILE", code="write")
        ) from error
