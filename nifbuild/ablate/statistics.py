"""Means over seeds, and what can be said of them with confidence.

Differences are taken seed by seed and are held to be normally distributed: Student's t bounds the
mean of n of them by mean -+ t(confidence, n - 1) std / sqrt(n).
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

MAX_SEEDS = 10_000
"""Largest number of seeds that is worth telling."""

_ROUNDING = 1e-12
Verdict = Literal["pass", "fail", "inconclusive"]


@dataclass(frozen=True, slots=True)
class Summary:
    """Figures over seeds.

    Attributes:
        mean: Their mean.
        std: Their standard deviation, of n - 1 degrees of freedom; None of one figure.
        n: Their number.
    """

    mean: float
    std: float | None
    n: int


def summarize(values: Sequence[float]) -> Summary | None:
    """Mean and standard deviation; None of no values."""
    if not values:
        return None
    std = statistics.stdev(values) if len(values) > 1 else None
    return Summary(statistics.fmean(values), std, len(values))


@cache
def t_quantile(probability: float, degrees: int) -> float:
    """The value that Student's t stays below with this probability."""
    from scipy import stats

    return float(stats.t.ppf(probability, degrees))


def half_width(std: float, n: int, probability: float) -> float:
    """What the mean of n figures is bounded by, on one side, with this probability."""
    return t_quantile(probability, n - 1) * std / math.sqrt(n)


def interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float] | None:
    """The two-sided confidence interval of the mean; None of fewer than two values."""
    found = summarize(values)
    if found is None or found.std is None:
        return None
    width = half_width(found.std, found.n, (1 + confidence) / 2)
    return found.mean - width, found.mean + width


@dataclass(frozen=True, slots=True)
class Judgement:
    """Whether a mean is on the right side of a limit.

    Attributes:
        verdict: `pass`: shown to be. `fail`: shown not to be. `inconclusive`: neither.
        low: One-sided lower bound of the mean; None where nothing bounds it.
        high: One-sided upper bound.
        more_seeds: How many more would about settle it if mean and spread stay; None where it is
            settled, or no number would.
    """

    verdict: Verdict
    low: float | None = None
    high: float | None = None
    more_seeds: int | None = None


def judge(
    values: Sequence[float],
    limit: float,
    *,
    at_least: bool,
    confidence: float,
    resolution: float = 0.0,
) -> Judgement:
    """Compares the mean of a few figures with a limit.

    Args:
        values: One for each seed.
        limit: What the mean is to be at least, or at most.
        at_least: Which of the two.
        confidence: Of each one-sided bound.
        resolution: The step in which figures come, such as one test image. The standard deviation
            is taken to be no smaller: figures that happen to be equal do not prove that they
            always are.
    """
    found = summarize(values)
    if found is None or found.std is None:
        return Judgement("inconclusive", more_seeds=2 - len(values))
    std = max(found.std, resolution)
    if std == 0:
        return Judgement("inconclusive")
    width = half_width(std, found.n, confidence)
    low, high = found.mean - width, found.mean + width
    # As a distance: more than 0 is on the right side.
    distance = found.mean - limit if at_least else limit - found.mean
    if distance - width >= -_ROUNDING:
        return Judgement("pass", low, high)
    if distance + width < -_ROUNDING:
        return Judgement("fail", low, high)
    return Judgement(
        "inconclusive", low, high, more_seeds=_more_seeds(abs(distance), std, found.n, confidence)
    )


def _more_seeds(distance: float, std: float, n: int, confidence: float) -> int | None:
    """Seeds to add until a bound reaches the limit."""
    if half_width(std, MAX_SEEDS, confidence) > distance:
        return None
    too_few, enough = n, MAX_SEEDS
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        if half_width(std, middle, confidence) <= distance:
            enough = middle
        else:
            too_few = middle
    return enough - n
