"""Training that has diverged: a loss or a weight is no finite number any more."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

from nifbuild.errors import Problem, RunError
from nifbuild.runs.directory import RunDirectory
from nifbuild.runs.weights import non_finite

if TYPE_CHECKING:
    pass

_REMEDY = (
    "try a lower train.optimizer.lr, a longer train.schedule.warmup_epochs, or train.clip_norm: 1"
)


@dataclass(frozen=True, slots=True)
class Origin:
    """What was first not finite.

    Attributes:
        where: In words, as `the output of conv2 at step 12`.
        path: Of the module or weight, where there is one.
        value: `nan`, `inf` or `-inf`.
    """

    where: str
    path: str
    value: str


class Diverged(RunError):
    """A loss or a weight is not finite.

    Args:
        what: The finding, in words.
        step: The optimizer steps done when it was found.
        directory: Of the run.
        evaluating: Whether an evaluation found it.
        origin: Where it began, once that is known.
    """

    def __init__(
        self,
        what: str,
        step: int,
        directory: RunDirectory,
        *,
        evaluating: bool = False,
        origin: Origin | None = None,
    ) -> None:
        self.what, self.step, self.directory = what, step, directory
        self.evaluating = evaluating
        if origin is not None:
            what += f"; the first value that is not finite is {origin.value} in {origin.where}"
        saved = directory.checkpoints
        fix = _REMEDY
        if saved:
            what = f"{what}; the last good checkpoint is {saved[-1]}"
            fix += f"\nto start from that checkpoint: --set train.init={saved[-1]} --out DIR"
        else:
            what = f"{what}; no checkpoint was saved"
        super().__init__(Problem(what, path=origin.path if origin else "", fix=fix, code="loss"))


def require_finite(module: nn.Module, step: int, directory: RunDirectory) -> None:
    """Raises Diverged where a parameter is not finite after `step` steps: it must not be saved."""
    found = non_finite(module.named_parameters())
    if found is not None:
        raise Diverged(f"{found[0]} has become {found[1]} by step {step}", step, directory)
