"""Runs side by side: which there are, what they reached, and in what they differ."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nifbuild.errors import Mark, Problem, SpecError, closest_beside, keeping
from nifbuild.machine.loading import loading
from nifbuild.machine.options import AnyPath, OverwriteOption, checked

if TYPE_CHECKING:
    from nifbuild.report.side_by_side.recorded import SideBySide

ENDINGS = (".html", ".png", ".svg", ".pdf")

FolderArgument = Annotated[AnyPath, typer.Argument(help="Where runs lie, at any depth.")]
RunsArgument = Annotated[
    Sequence[AnyPath], typer.Argument(help="Run directories.", show_default=False, metavar="RUN...")
]
OutOption = Annotated[
    AnyPath | None,
    typer.Option(
        "--out",
        "-o",
        help="Write tables and curves as a page (.html), or the curves alone (.png, .pdf, .svg).",
    ),
]


@checked
def list_runs(folder: FolderArgument = "runs") -> "SideBySide":
    """List the runs in a folder: how far they are, what they reached, how they differ.

    Cells of studies are runs, too. The best comes first.

    Returns:
        The runs, and in what any two of them differ.

    Raises:
        SpecError: There is no such folder, or no run in it.
        RunError: A folder cannot be read.
    """
    with loading():
        from nifbuild.report.side_by_side.recorded import SideBySide, find_runs, recorded

    place = Path(folder)
    if not place.is_dir():
        what, fix = f"there is no folder {place}", closest_beside(place)
        if place.exists():
            what, fix = f"{place} is a file, not a folder", ""
        fix = fix or "name the folder that runs lie in: nifbuild runs FOLDER"
        raise SpecError(Problem(what, fix=fix, code="missing-folder"))
    runs = [recorded(path) for path in find_runs(place)]
    if not runs:
        fix = "train one: nifbuild train SPEC"
        raise SpecError(Problem(f"there is no run in {place}", fix=fix, code="no-run"))
    runs.sort(key=lambda run: (-(run.figures["top1"] or 0.0), str(run.path)))
    return SideBySide.of(runs)


@checked
def compare_runs(
    runs: RunsArgument, *, out: OutOption = None, overwrite: OverwriteOption = False
) -> "SideBySide":
    """Compare runs: their figures, in what they differ, their curves.

    Nothing is evaluated: the figures are those that training has written down. One run alone can be
    shown, too.

    Returns:
        The runs in the order given.

    Raises:
        SpecError: One is no run, or is named twice, or the file is not to be replaced.
        RunError: One is damaged, or the file cannot be written.
    """
    with loading():
        from nifbuild.report.side_by_side.recorded import SideBySide, recorded

    paths = [Path(run) for run in runs]
    if not paths:
        raise SpecError(Problem("no run is named", fix="nifbuild compare RUN RUN ..."))
    problems = [
        Problem(f"{path} is named twice", Mark(shlex.quote(str(path))), fix="leave one out")
        for place, path in enumerate(paths)
        if path.resolve() in {other.resolve() for other in paths[:place]}
    ]
    if problems:
        raise SpecError(problems)
    if out is not None:
        with loading():
            from nifbuild.report.output_file import require_files

        require_files("--out", [Path(out)], ENDINGS, overwrite=overwrite)
    found = [recorded(path) for path in paths]
    made = SideBySide.of(found)
    if out is not None:
        with loading():
            from nifbuild.report.side_by_side.comparison_page import write_comparison

        with keeping(made):
            write_comparison(made, Path(out), overwrite=overwrite)
    return made
