"""The smallest windows with which a model keeps its accuracy."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nifbuild.errors import Mark, Problem, RunError
from nifbuild.report.show.units import percent_text


@dataclass(frozen=True)
class Trial:
    """One set of windows that was tried.

    Attributes:
        mass: The share of each layer's filters that they keep.
        top1: Accuracy on the validation images.
        kept: Whether it is within the budget.
    """

    mass: float
    top1: float
    kept: bool


def smallest_mass(
    masses: Sequence[float],
    accuracy: Callable[[float], float],
    before: float,
    max_drop: float,
) -> tuple[float, list[Trial]]:
    """The smallest share of the filters with which accuracy falls by `max_drop` at most.

    Bisection: it takes for granted that accuracy rises with the share. Where it does not, there may
    be a smaller share that does as well, but the one that is found was tried, and is within the
    budget.

    Args:
        masses: The shares to choose from, ascending.
        accuracy: Of the model whose layers keep a share, on the validation images.
        before: That of the model with whole filters.
        max_drop: As a share of 1.

    Raises:
        RunError: Even the largest share loses more.
    """
    trials: list[Trial] = []

    def within_budget(mass: float) -> bool:
        top1 = accuracy(mass)
        # A hundredth of an image in a million is rounding.
        trials.append(Trial(mass, top1, before - top1 <= max_drop + 1e-8))
        return trials[-1].kept

    low, high = 0, len(masses) - 1
    if not within_budget(masses[high]):
        raise RunError(
            Problem(
                f"with whole filters the model loses {percent_text(before - trials[0].top1)} on "
                f"validation, more than {percent_text(max_drop)}",
                Mark("--max-drop"),
                fix="keep the layers' own boundary, or allow a larger drop",
                code="max-drop",
            )
        )
    while low < high:
        middle = (low + high) // 2
        if within_budget(masses[middle]):
            high = middle
        else:
            low = middle + 1
    return masses[high], trials
