"""From a run with filters as large as the image to one with small ordinary convolutions.

Reading order: `shrink` (what is asked), `cut` (what happens), `windows` (how small), `ordinary`
(the exact convolution, the new spec and model), `changes` (bound, change and speed), `shrunk_run`
(what is written).
"""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nifbuild.errors import SpecError, option_problem
from nifbuild.geometry import Boundary
from nifbuild.machine.loading import loading
from nifbuild.machine.options import (
    AnyPath,
    CheckpointOption,
    RunArgument,
    RunDataOption,
    RunDeviceOption,
    checked,
)
from nifbuild.spec.image_size import Pixels

if TYPE_CHECKING:
    from nifbuild.machine.progress import Reporter
    from nifbuild.report.shrink.result import ShrinkResult

_MASS = 0.95

MassOption = Annotated[
    float | str | None,
    typer.Option(
        metavar="SHARE",
        help="Share of each layer's filters, as a sum of magnitudes, that its window keeps.",
        show_default=str(_MASS),
    ),
]
KernelSizeOption = Annotated[
    int | None,
    typer.Option(
        help="The window of every layer, in pixels; the whole grid where that is smaller."
    ),
]
MaxDropOption = Annotated[
    str | None,
    typer.Option(
        metavar="POINTS",
        help="Find the smallest windows that lose so little top-1 on validation: 0.5pp.",
    ),
]
BoundaryOption = Annotated[
    Boundary | None,
    typer.Option(help="What lies beyond the border.", show_default="as in each layer"),
]
SizeOption = Annotated[
    Pixels | None,
    typer.Option(
        metavar="PIXELS",
        help="Of the images that the result is for, such as 224 or 224x192.",
        show_default="the run's",
    ),
]
OutOption = Annotated[
    AnyPath | None,
    typer.Option("--out", "-o", help="The run directory to write.", show_default="RUN_shrunk"),
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Delete the run that is there.")]
FinetuneEpochsOption = Annotated[
    int,
    typer.Option(min=0, help="Then train for so many epochs, as the run was: OUT/finetuned."),
]
SetOption = Annotated[
    Sequence[str],
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="For that training, such as train.optimizer.lr=1e-4. Repeatable.",
    ),
]
BatchSizeOption = Annotated[
    int | None,
    typer.Option(min=1, help="Images to evaluate at once.", show_default="as in the run"),
]


@checked
def shrink(
    run: RunArgument,
    *,
    mass: MassOption = None,
    kernel_size: KernelSizeOption = None,
    max_drop: MaxDropOption = None,
    boundary: BoundaryOption = None,
    size: SizeOption = None,
    out: OutOption = None,
    overwrite: OverwriteOption = False,
    finetune_epochs: FinetuneEpochsOption = 0,
    overrides: SetOption = (),
    checkpoint: CheckpointOption = "selected",
    data: RunDataOption = None,
    device: RunDeviceOption = None,
    batch_size: BatchSizeOption = None,
    report: "Reporter | None" = None,
) -> "ShrinkResult":
    """Turn a run's learned filters into small ordinary convolutions.

    Each layer's filters are cut to their smallest odd window. What that changes
    is bounded, measured on real images, and shown beside accuracy, parameters
    and speed, before and after. The result is a run directory, with a spec and
    weights of plain PyTorch convolutions.

    Returns:
        The windows, and what they change in outputs, accuracy, parameters and speed. Where the
        training after the cut was interrupted, the same call goes on with it.

    Raises:
        SpecError: A value is out of its range, options exclude each other, or the run is none, is
            not complete, or has no filters to cut.
        RunError: A file is damaged, or the accuracy cannot be kept.
    """
    with loading():
        from nifbuild.evaluate.sizes import parse_one_size
        from nifbuild.report.shrink.cut import Finetuning, cut_run
        from nifbuild.report.shrink.windows import Smallness

    _require_one({"--mass": mass, "--kernel-size": kernel_size, "--max-drop": max_drop})
    by_mass = kernel_size is None and max_drop is None
    share = _mass(_MASS if mass is None else mass) if by_mass else None
    if kernel_size is not None:
        _require_centre(kernel_size)
    if overrides and not finetune_epochs:
        fix = "add --finetune-epochs N, or leave it out"
        raise SpecError(
            option_problem(
                "--set", "--set changes the training after the cut, and there is none", fix
            )
        )
    drop = None if max_drop is None else _points(max_drop)
    return cut_run(
        Path(run),
        Smallness(share, kernel_size, drop),
        boundary=boundary,
        size=None if size is None else parse_one_size(size),
        out=None if out is None else Path(out),
        overwrite=overwrite,
        finetuning=Finetuning(finetune_epochs, overrides) if finetune_epochs else None,
        checkpoint=checkpoint,
        data=data,
        device=device,
        batch_size=batch_size,
        report=report,
    )


def _require_one(given: dict[str, float | str | None]) -> None:
    named = [flag for flag, value in given.items() if value is not None]
    if len(named) > 1:
        what = f"{' and '.join(named)} exclude each other"
        raise SpecError(
            option_problem(
                named[1], what, "each says how small filters become: leave all but one out"
            )
        )


def _mass(given: float | str) -> float:
    try:
        share = float(given)
    except ValueError:
        share = math.nan
    if not 0 < share <= 1:
        percent = re.fullmatch(r"(\d+\.?\d*) ?%", str(given))
        fix = f"give a share above 0 and at most 1, such as --mass {_MASS}"
        if percent and 0 < float(percent[1]) <= 100:
            fix = f"write {float(percent[1]) / 100:g}"
        what = f"'{given}' is no share of a filter"
        raise SpecError(option_problem(f"--mass {given}", what, fix))
    return share


def _require_centre(kernel_size: int) -> None:
    if kernel_size < 1 or kernel_size % 2 == 0:
        what = f"a window of {kernel_size} has no centre"
        fix = "give an odd number of pixels, such as --kernel-size 9"
        raise SpecError(option_problem(f"--kernel-size {kernel_size}", what, fix))


def _points(text: str) -> float:
    """`0.5pp`, half a percentage point, as a share of 1."""
    match = re.fullmatch(r"(\d+\.?\d*|\.\d+) ?pp", text)
    points = float(match[1]) if match else math.nan
    if not points <= 100:
        fix = "give percentage points, such as --max-drop 0.5pp"
        raise SpecError(
            option_problem(f"--max-drop {text}", f"'{text}' is no loss of accuracy", fix)
        )
    return points / 100
