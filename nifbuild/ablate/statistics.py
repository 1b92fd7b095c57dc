"""Means over seeds, and what can be said of them with confidence.

Differences are taken seed by seed and are held to be normally distributed: Student's t bounds the
mean of n of them by mean -+ t(confidence, n - 1) std / sqrt(n). The bound is as rarely wrong as its
confidence says only where n was fixed before the figures were seen; so the number of seeds is
chosen by its power (`seeds_for_power`), and not by whether the bound has reached a limit yet.
"""

import bisect
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

MAX_SEEDS = 10_000
"""Largest number of seeds that is worth telling."""

POWER = 0.8
"""Chance of showing what is so that a planned number of seeds is to have."""

_SPREADS = 64
"""Values that stand for the distribution of a standard deviation that a pilot left uncertain."""

_FOUND_SPREADS = 2000
"""Values that stand for the distribution of the standard deviation that is found."""

_ROUNDING = 1e-12
Verdict = Literal["pass", "fail", "inconclusive"]
Range = tuple[float, float]
ANY: Range = (-math.inf, math.inf)


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
    """Mean and standard deviation; None of no values, or where one is not finite."""
    if not values or not all(map(math.isfinite, values)):
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


def interval(
    values: Sequence[float], confidence: float = 0.95, within: Range = ANY
) -> tuple[float, float] | None:
    """The two-sided confidence interval of the mean; None of fewer than two values.

    Args:
        values: One for each seed.
        confidence: Of both sides together.
        within: What the mean can be at all.
    """
    found = summarize(values)
    if found is None or found.std is None:
        return None
    width = half_width(found.std, found.n, (1 + confidence) / 2)
    return clipped(found.mean - width, within), clipped(found.mean + width, within)


def clipped(value: float, within: Range) -> float:
    """The value, or the end of the range that it is beyond."""
    return min(max(value, within[0]), within[1])


def image_half_width(shares: Sequence[float], num_images: int, confidence: float) -> float:
    """What the sampling of test images bounds an accuracy by, or a difference of accuracies.

    By the normal distribution, on one side, with an image of each outcome added, so that a share of
    0 or 1 is not held to be certain (Agresti and Caffo, The American Statistician 54, 2000). Of a
    difference, as if both were of images of their own: on the same images networks mostly err
    alike, which makes it smaller.

    Args:
        shares: The accuracy; or both.
        num_images: That each is of.
        confidence: Of the bound.
    """
    added = [(share * num_images + 1) / (num_images + 2) for share in shares]
    variance = sum(share * (1 - share) for share in added) / (num_images + 2)
    return statistics.NormalDist().inv_cdf(confidence) * math.sqrt(variance)


@dataclass(frozen=True, slots=True)
class Judgement:
    """Whether a mean is on the right side of a limit.

    Attributes:
        verdict: `pass`: shown to be. `fail`: shown not to be. `inconclusive`: neither.
        low: One-sided lower bound of the mean; None where nothing bounds it.
        high: One-sided upper bound.
    """

    verdict: Verdict
    low: float | None = None
    high: float | None = None


def judge(
    values: Sequence[float],
    limit: float,
    *,
    at_least: bool,
    confidence: float,
    resolution: float = 0.0,
    within: Range = ANY,
) -> Judgement:
    """Compares the mean of a few figures with a limit.

    Figures that are all equal, of a metric without a resolution, are what they are: no spread is
    left to be uncertain of, and the figure itself is compared.

    Args:
        values: One for each seed; their number must not depend on what they are.
        limit: What the mean is to be at least, or at most.
        at_least: Which of the two.
        confidence: Of each one-sided bound.
        resolution: The step in which figures come, such as one test image. The standard deviation
            is taken to be no smaller: counts that happen to be equal do not prove that they always
            are.
        within: What the mean can be at all; bounds do not go beyond it.
    """
    found = summarize(values)
    if found is None or found.std is None:
        return Judgement("inconclusive")
    width = half_width(max(found.std, resolution), found.n, confidence)
    low, high = clipped(found.mean - width, within), clipped(found.mean + width, within)
    # As distances: more than 0 is on the right side.
    worst, best = (low - limit, high - limit) if at_least else (limit - high, limit - low)
    if worst >= -_ROUNDING:
        return Judgement("pass", low, high)
    return Judgement("fail" if best < -_ROUNDING else "inconclusive", low, high)


@cache
def power(
    n: int,
    distance: float,
    std: float,
    confidence: float,
    pilot_seeds: int | None = None,
    resolution: float = 0.0,
) -> float:
    """Chance that n seeds show a mean to be on the right side of a limit, as `judge` has it.

    Args:
        n: Number of seeds, at least 2.
        distance: From the limit to the true mean, on the right side.
        std: Standard deviation over seeds.
        confidence: Of the one-sided bound.
        pilot_seeds: How many `std` was estimated from: the chance is then the mean over what it may
            be in truth. None: it is taken to be true.
        resolution: As in `judge`.
    """
    import numpy as np
    from scipy import special, stats

    if distance <= 0:
        return 0.0
    if std == 0:
        return float(half_width(resolution, n, confidence) <= distance)
    stds = np.array([std])
    if pilot_seeds is not None:
        degrees = pilot_seeds - 1
        shares = (np.arange(_SPREADS) + 0.5) / _SPREADS
        stds = std * np.sqrt(degrees / stats.chi2.ppf(shares, degrees))
    shift = math.sqrt(n) * distance / stds
    if resolution:
        # The mean and the standard deviation that is found are independent of each other.
        places = (np.arange(_FOUND_SPREADS) + 0.5) / _FOUND_SPREADS
        found = stds * np.sqrt(stats.chi2.ppf(places, n - 1) / (n - 1))[:, None]
        bounds = t_quantile(confidence, n - 1) * np.maximum(found, resolution) / stds
        return float(np.mean(special.ndtr(shift - bounds)))
    shown = stats.nct.sf(t_quantile(confidence, n - 1), n - 1, shift)
    # Where the shift is so large that the quantile cannot be computed, all is shown.
    return float(np.mean(np.nan_to_num(shown, nan=1.0)))


@cache
def seeds_for_power(
    distance: float,
    std: float,
    confidence: float,
    pilot_seeds: int | None = None,
    resolution: float = 0.0,
) -> int | None:
    """The fewest seeds with a power of 80 %; None where that takes more than are worth telling.

    Args:
        distance: As in `power`.
        std: As in `power`.
        confidence: As in `power`.
        pilot_seeds: As in `power`.
        resolution: As in `judge`.
    """

    def enough(n: int) -> bool:
        return power(n, distance, std, confidence, pilot_seeds, resolution) >= POWER

    if not enough(MAX_SEEDS):
        return None
    return bisect.bisect_left(range(MAX_SEEDS), True, lo=2, key=enough)


@cache
def spread_for_power(
    n: int, distance: float, confidence: float, resolution: float = 0.0
) -> float | None:
    """The largest standard deviation over seeds with which n seeds have a power of 80 %.

    None where the resolution, as in `judge`, leaves them none with any.
    """
    if not power(n, distance, 0.0, confidence, None, resolution):
        return None
    low, high = 0.0, 4 * distance * math.sqrt(n)
    for _ in range(50):
        middle = (low + high) / 2
        if power(n, distance, middle, confidence, None, resolution) >= POWER:
            low = middle
        else:
            high = middle
    return low
