"""What the command line asks to be analysed, checked before any work."""

import math
from dataclasses import dataclass
from pathlib import Path

from nifbuild.errors import Mark, Problem, SpecError
from nifbuild.runs.directory import RunDirectory
from nifbuild.runs.loaded import Which
from nifbuild.spec.image_size import parse_size

DEFAULT_SHARES = (0.5, 0.9, 0.95)
FOLDER = "analysis"


@dataclass(frozen=True, slots=True)
class Request:
    """What to analyse.

    Attributes:
        run: A run directory.
        against: Another one to set beside it.
        size: Height and width of the images; None: as in each run.
        shares: Of mass and energy, for which to give the size of the window.
        num_images: For the receptive field; 0: none.
        checkpoint: See `load_run`.
        data: A spec file whose `data` section takes the place of the run's.
        device: As in `train.device`; None: as in the run.
        out: The directory to write to.
        overwrite: Replace the analysis that is there; in the run's own folder always.
    """

    run: Path
    against: Path | None
    size: tuple[int, int] | None
    shares: tuple[float, ...]
    num_images: int
    checkpoint: Which
    data: Path | None
    device: str | None
    out: Path
    overwrite: bool


def read_request(
    run: Path,
    *,
    against: Path | None = None,
    size: str | None = None,
    shares: str | None = None,
    num_images: int = 32,
    checkpoint: Which = "selected",
    data: Path | None = None,
    device: str | None = None,
    out: Path | None = None,
    overwrite: bool = False,
) -> Request:
    """Reads the options.

    Raises:
        SpecError: `run` is no run directory; or with all that is wrong with the options.
    """
    RunDirectory(run).require_run()
    problems: list[Problem] = []
    pixels = None if size is None else _size(size, problems)
    parsed = DEFAULT_SHARES if shares is None else _shares(shares, problems)
    if data is not None and not num_images:
        what = "has no effect with --images 0, as filters need no data"
        problems.append(_problem(f"--data {data}", what, "leave one of the two out"))
    if problems:
        raise SpecError(problems)
    return Request(
        run=run,
        against=against,
        size=pixels,
        shares=parsed,
        num_images=num_images,
        checkpoint=checkpoint,
        data=data,
        device=device,
        out=run / FOLDER if out is None else out,
        overwrite=overwrite or out is None,
    )


def _problem(flag: str, what: str, fix: str) -> Problem:
    return Problem(what, where=Mark(flag), fix=fix, code="option")


def _size(text: str, problems: list[Problem]) -> tuple[int, int] | None:
    try:
        return parse_size(text)
    except ValueError as error:
        fix = "pixels, such as 224, or height x width, such as 224x192"
        problems.append(_problem(f"--size {text}", str(error), fix))
        return None


def _shares(text: str, problems: list[Problem]) -> tuple[float, ...]:
    shares = []
    for word in text.split(","):
        share = _number(word)
        if not 0 < share <= 1:
            what = f"'{word.strip()}' is no share above 0 and at most 1"
            problems.append(_problem(f"--shares {text}", what, f"as in --shares {_listed()}"))
            return ()
        shares.append(share)
    return tuple(sorted(set(shares)))


def _number(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        return math.nan


def _listed() -> str:
    return ",".join(f"{share:g}" for share in DEFAULT_SHARES)
