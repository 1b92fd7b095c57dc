"""The options of `nifbuild shrink`, checked."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nifbuild.errors import Mark, Problem, SpecError
from nifbuild.evaluate.sizes import parse_one_size
from nifbuild.geometry import Boundary
from nifbuild.runs.loaded import Which

DEFAULT_MASS = 0.95


@dataclass(frozen=True)
class ShrinkRequest:
    """What to cut, and how small.

    Attributes:
        run: The run directory.
        mass: Share of each layer's sum |k| that its window keeps.
        kernel_size: The window of all layers.
        max_drop: Accuracy that may be lost on the validation images, as a share of 1. Exactly one
            of these three is given.
        boundary: What lies beyond the border; None: as each layer has it.
        size: Of the images whose grids the filters are cut on; None: the run's.
        out: The run directory that is written; None: runs/<name>_shrunk.
        overwrite: Delete the run that is there.
        finetune_epochs: Train for so many epochs afterwards. 0: not.
        overrides: Changes of the spec for that training, such as `train.optimizer.lr=1e-4`.
        checkpoint: See `load_run`.
        data: A spec file whose `data` section takes the place of the run's.
        device: As in `train.device`; None: as the run's spec says.
        batch_size: For evaluation; None: as in the run.
    """

    run: Path
    mass: float | None = None
    kernel_size: int | None = None
    max_drop: float | None = None
    boundary: Boundary | None = None
    size: tuple[int, int] | None = None
    out: Path | None = None
    overwrite: bool = False
    finetune_epochs: int = 0
    overrides: Sequence[str] = ()
    checkpoint: Which = "selected"
    data: Path | None = None
    device: str | None = None
    batch_size: int | None = None


def read_request(
    run: Path,
    *,
    mass: float | None,
    kernel_size: int | None,
    max_drop: str | None,
    boundary: Boundary | None,
    size: str | None,
    out: Path | None,
    overwrite: bool,
    finetune_epochs: int,
    overrides: Sequence[str],
    checkpoint: Which,
    data: Path | None,
    device: str | None,
    batch_size: int | None,
) -> ShrinkRequest:
    """The request that a command line makes.

    Raises:
        SpecError: A value is out of its range, or options exclude each other.
    """
    given = {"--mass": mass, "--kernel-size": kernel_size, "--max-drop": max_drop}
    named = [flag for flag, value in given.items() if value is not None]
    if len(named) > 1:
        what = f"{' and '.join(named)} exclude each other"
        raise _wrong(named[1], what, "each says how small filters become: leave all but one out")
    if not named:
        mass = DEFAULT_MASS
    if mass is not None and not 0 < mass <= 1:
        fix = "give a share above 0 and at most 1, such as --mass 0.95"
        raise _wrong(f"--mass {mass}", f"{mass} is no share of a filter", fix)
    if kernel_size is not None and (kernel_size < 1 or kernel_size % 2 == 0):
        what = f"a window of {kernel_size} has no centre"
        fix = "give an odd number of pixels, such as --kernel-size 9"
        raise _wrong(
            f"--kernel-size {kernel_size}", f"a window of {kernel_size} has no centre", fix
        )
    if overrides and not finetune_epochs:
        fix = "add --finetune-epochs N, or leave it out"
        raise _wrong("--set", "--set changes the training after the cut, and there is none", fix)
    return ShrinkRequest(
        run=run,
        mass=mass,
        kernel_size=kernel_size,
        max_drop=None if max_drop is None else _points(max_drop),
        boundary=boundary,
        size=None if size is None else parse_one_size(size),
        out=out,
        overwrite=overwrite,
        finetune_epochs=finetune_epochs,
        overrides=overrides,
        checkpoint=checkpoint,
        data=data,
        device=device,
        batch_size=batch_size,
    )


def _points(text: str) -> float:
    """`0.5pp`, half a percentage point, as a share of 1."""
    match = re.fullmatch(r"(\d+\.?\d*|\.\d+) ?pp", text)
    points = float(match[1]) if match else math.nan
    if not points <= 100:
        fix = "give percentage points, such as --max-drop 0.5pp"
        raise _wrong(f"--max-drop {text}", f"'{text}' is no loss of accuracy", fix)
    return points / 100


def _wrong(flag: str, what: str, fix: str) -> SpecError:
    return SpecError(Problem(what, Mark(flag), fix=fix, code="option"))
