"""How large the filters of a trained run are, beside what they were before training.

Reading order: `analyze` (what is asked), `compared_models` (set side by side), `analysis` (what is
measured of each), then the measures: `filters`, `components`, `receptive_field`; and how it is
told: `verdict`, `layer_table`, `plot_curves`, `plot_images`, `page`, `folder`.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nifbuild.errors import Problem, SpecError, keeping, option_problem
from nifbuild.machine.loading import loading
from nifbuild.machine.options import (
    AnyPath,
    CheckpointOption,
    OverwriteOption,
    RunArgument,
    RunDataOption,
    RunDeviceOption,
    checked,
)
from nifbuild.spec.image_size import Pixels, noting_size

if TYPE_CHECKING:
    from nifbuild.report.analysis.analysis import Analysis

_SHARES = "0.5,0.9,0.95"
_FOLDER = "analysis"

AgainstOption = Annotated[
    AnyPath | None,
    typer.Option(metavar="RUN", help="Set another run beside it.", show_default=False),
]
SizeOption = Annotated[
    Pixels | None,
    typer.Option(
        metavar="PIXELS",
        help="Size of the images, such as 224 or 224x192.",
        show_default="as in the run",
    ),
]
SharesOption = Annotated[
    str | list[float],
    typer.Option(
        metavar="LIST",
        help="Of a kernel, for which to give the smallest window.",
        show_default=_SHARES,
    ),
]
ImagesOption = Annotated[
    int, typer.Option(min=0, help="Images for the receptive field; 0: leave it out.")
]
OutOption = Annotated[
    AnyPath | None,
    typer.Option(
        "--out", "-o", metavar="DIR", help="Where to write.", show_default=f"RUN/{_FOLDER}"
    ),
]


@checked
def analyze(
    run: RunArgument,
    *,
    against: AgainstOption = None,
    size: SizeOption = None,
    shares: SharesOption = _SHARES,
    images: ImagesOption = 32,
    out: OutOption = None,
    overwrite: OverwriteOption = False,
    checkpoint: CheckpointOption = "selected",
    data: RunDataOption = None,
    device: RunDeviceOption = None,
    report: Callable[[str], None] = lambda text: None,
) -> "Analysis":
    """See how large the filters are that a run has learned, layer by layer.

    Kernel mass and energy in odd windows, spectra, principal components, kernels and effective
    receptive fields, on the grid that each layer sees, beside the same before training. Writes
    analysis.json, plots and report.html.

    Returns:
        The figures; `report` hears what is being done on the way.

    Raises:
        SpecError: An option is wrong; what is named is no run, has no filters as large as the
            image, or does not fit together.
        RunError: A run or its data is damaged, or the files cannot be written.
    """
    with loading():
        from nifbuild.report.analysis.analysis import analyze_run
        from nifbuild.report.analysis.folder import require_writable, write_analysis
        from nifbuild.runs.directory import RunDirectory

    RunDirectory(run).require_run()
    problems: list[Problem] = []
    pixels = None if size is None else noting_size(size, problems)
    parsed = _shares(shares, problems)
    if data is not None and not images:
        what = "has no effect with --images 0, as filters need no data"
        problems.append(option_problem(f"--data {data}", what, "leave one of the two out"))
    if against is not None and Path(against).resolve() == Path(run).resolve():
        problems.append(option_problem(f"--against {against}", "is the run itself", "name another"))
    if problems:
        raise SpecError(problems)
    folder = Path(run) / _FOLDER if out is None else Path(out)
    require_writable(folder, overwrite=overwrite)
    analysis = analyze_run(
        run,
        against=against,
        size=pixels,
        shares=parsed,
        num_images=images,
        checkpoint=checkpoint,
        data=data,
        device=device,
        show=report,
    )
    report("drawing")
    with keeping(analysis):
        page = write_analysis(analysis, folder, overwrite=overwrite)
    return replace(analysis, page=page)


def _shares(given: str | list[float], problems: list[Problem]) -> tuple[float, ...]:
    shares = []
    for word in given.split(",") if isinstance(given, str) else given:
        share = _number(word)
        if not 0 < share <= 1:
            what = f"'{str(word).strip()}' is no share above 0 and at most 1"
            problems.append(option_problem(f"--shares {given}", what, f"as in --shares {_SHARES}"))
            return ()
        shares.append(share)
    return tuple(sorted(set(shares)))


def _number(word: str | float) -> float:
    try:
        return float(word)
    except ValueError:
        return math.nan
