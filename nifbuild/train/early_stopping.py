"""Ending a run whose validation figure no longer improves."""

from collections.abc import Collection
from typing import TYPE_CHECKING

from nifbuild.errors import Problem, SpecError
from nifbuild.spec.training import TrainSpec, gain

if TYPE_CHECKING:
    from nifbuild.runs.checkpoint import Progress


def require_validation(spec: TrainSpec, splits: Collection[str]) -> None:
    """Raises SpecError where early stopping has no images to decide by."""
    if spec.early_stopping is not None and "validation" not in splits:
        raise SpecError(
            Problem(
                "early stopping needs a validation split, and the data has none",
                path="train.early_stopping",
                fix="set some training images apart, as in --set data.validation=0.1, or leave it "
                "out\ntest images must not decide when to stop: that would flatter the result",
                code="no-validation",
            )
        )


def is_improvement(spec: TrainSpec, figure: float, progress: "Progress") -> bool:
    """Whether a figure is better than at the last improvement, by more than `min_delta`."""
    if spec.early_stopping is None:
        return False
    if progress.improved is None:
        return True
    better_by = gain(spec.monitor, figure, progress.improved.figure)
    return better_by > spec.early_stopping.min_delta


def should_stop(spec: TrainSpec, progress: "Progress") -> bool:
    """Whether the patience had run out at the last evaluation.

    A function of what checkpoints hold, so that a run that is interrupted stops where it would have
    stopped, also between its last checkpoint and its final figures.
    """
    if spec.early_stopping is None or progress.improved is None:
        return False
    evaluated = progress.epoch % spec.evaluate_every == 0
    without = progress.epoch - progress.improved.epoch
    return evaluated and without >= spec.early_stopping.patience
