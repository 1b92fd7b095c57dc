"""Bounds against tabulated and closed-form quantiles, and against simulation."""

import math
import random
import statistics

import numpy as np
import pytest
from scipy import stats

from nifbuild.ablate.statistics import (
    half_width,
    image_half_width,
    interval,
    judge,
    power,
    seeds_for_power,
    spread_for_power,
    summarize,
    t_quantile,
)


@pytest.mark.parametrize(
    ("probability", "degrees", "value"),
    [
        # For 1 and 2 degrees of freedom the quantile has a closed form.
        (0.95, 1, math.tan(math.pi * 0.45)),
        (0.95, 2, 0.9 / math.sqrt(2 * 0.95 * 0.05)),
        (0.975, 2, 0.95 / math.sqrt(2 * 0.975 * 0.025)),
        # Student's table.
        (0.95, 9, 1.833113),
        (0.975, 4, 2.776445),
        (0.99, 30, 2.457262),
    ],
)
def test_quantiles(probability, degrees, value):
    assert t_quantile(probability, degrees) == pytest.approx(value, rel=1e-6)


def test_interval_of_a_textbook_sample():
    """Student's own example: the additional sleep of ten patients (Biometrika 6, 1908)."""
    slept = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]
    low, high = interval(slept)
    assert (low, high) == pytest.approx((0.7001, 2.4599), abs=5e-5)  # R's t.test(sleep)
    assert summarize(slept).mean == pytest.approx(1.58)
    assert summarize(slept).std == pytest.approx(1.2300, abs=5e-5)


def test_what_one_or_no_figure_says():
    assert summarize([]) is None and interval([]) is None
    assert summarize([0.5]).std is None and interval([0.5]) is None
    for values in ([], [0.9], [0.9, math.nan], [0.9, math.inf, 0.8]):
        found = judge(values, 0.0, at_least=True, confidence=0.95)
        assert (found.verdict, found.low, found.high) == ("inconclusive", None, None)


SPREAD = [-0.001, 0.0, 0.001]  # mean 0, std 0.001: bounded by 2.919986 * 0.001 / sqrt(3)
BOUND = 2.919986 * 0.001 / math.sqrt(3)


@pytest.mark.parametrize(
    ("limit", "verdict"),
    [
        (-BOUND - 1e-6, "pass"),
        (-BOUND + 1e-6, "inconclusive"),
        (BOUND - 1e-6, "inconclusive"),
        (BOUND + 1e-6, "fail"),
    ],
)
def test_verdicts_at_the_bounds(limit, verdict):
    found = judge(SPREAD, limit, at_least=True, confidence=0.95)
    assert found.verdict == verdict
    assert (found.low, found.high) == pytest.approx((-BOUND, BOUND), abs=1e-9)
    assert judge(SPREAD, -limit, at_least=False, confidence=0.95).verdict == verdict


def test_equal_counts_prove_nothing_finer_than_their_resolution():
    same = [0.0, 0.0, 0.0]
    # With a spread of one image in 100: 2.92 * 0.01 / sqrt(3) = 0.01686.
    for limit, verdict in ((-0.0169, "pass"), (-0.0168, "inconclusive"), (0.0169, "fail")):
        found = judge(same, limit, at_least=True, confidence=0.95, resolution=0.01)
        assert found.verdict == verdict


@pytest.mark.parametrize(("limit", "verdict"), [(0.69, "pass"), (0.7, "pass"), (0.71, "fail")])
def test_figures_without_a_spread_decide_themselves(limit, verdict):
    found = judge([0.7, 0.7], limit, at_least=True, confidence=0.95)
    assert found.verdict == verdict and found.low == found.high == pytest.approx(0.7)
    other = judge([-0.7, -0.7], -limit, at_least=False, confidence=0.95)
    assert other.verdict == verdict


def test_bounds_stay_where_the_mean_can_be():
    found = judge([0.99, 0.90], 0.5, at_least=True, confidence=0.95, within=(0, 1))
    # 0.945 + 6.314 * 0.045 is above 1.
    assert found.high == 1 and found.low == pytest.approx(0.945 - math.tan(math.pi * 0.45) * 0.045)
    assert interval([1.0, -0.9], within=(-1, 1)) == (-1, 1)


def test_rounding_does_not_spoil_an_exact_limit():
    values = [0.3 - 0.1 - 0.2 + d for d in (-1e-3, 0, 1e-3)]
    limit = -half_width(1e-3, 3, 0.95)
    assert judge(values, limit, at_least=True, confidence=0.95).verdict == "pass"


def test_errors_are_as_rare_as_the_confidence_says():
    """Where the true mean is the limit, 1 in 20 passes, and 1 in 20 fails."""
    draw = random.Random(0)
    verdicts = [
        judge(
            [draw.gauss(-0.005, 0.002) for _ in range(4)], -0.005, at_least=True, confidence=0.95
        ).verdict
        for _ in range(2000)
    ]
    for verdict in ("pass", "fail"):
        assert 0.035 < verdicts.count(verdict) / len(verdicts) < 0.065
    assert statistics.mode(verdicts) == "inconclusive"


def simulated_power(n, distance, std, draws=20_000):
    """The share of t-tests that reject, without any formula for power."""
    sample = np.random.default_rng(n).normal(distance, std, (draws, n))
    return (stats.ttest_1samp(sample, 0, axis=1, alternative="greater").pvalue < 0.05).mean()


@pytest.mark.parametrize(("distance", "std"), [(0.005, 0.003), (0.005, 0.01), (0.01, 0.0025)])
def test_the_seeds_that_are_named_have_the_power(distance, std):
    needed = seeds_for_power(distance, std, 0.95)
    assert simulated_power(needed, distance, std) == pytest.approx(
        power(needed, distance, std, 0.95), abs=0.012
    )
    assert power(needed - 1, distance, std, 0.95) < 0.8 <= power(needed, distance, std, 0.95)
    largest = spread_for_power(needed, distance, 0.95)
    assert largest >= std and power(needed, distance, largest, 0.95) == pytest.approx(0.8)


@pytest.mark.parametrize("std", [0.002, 0.01, 0.03])
@pytest.mark.parametrize(("n", "distance"), [(2, 0.05), (3, 0.05), (6, 0.02), (6, 0.006)])
def test_power_where_figures_come_in_steps(n, distance, std):
    """As `judge` has it: a standard deviation below the step counts as the step."""
    step = 0.01
    sample = np.random.default_rng(n).normal(distance, std, (40_000, n))
    found = np.maximum(sample.std(axis=1, ddof=1), step)
    passes = sample.mean(axis=1) >= stats.t.ppf(0.95, n - 1) * found / n**0.5
    told = power(n, distance, std, 0.95, None, step)
    assert told == pytest.approx(passes.mean(), abs=0.01)
    verdicts = [
        judge(each.tolist(), 0.0, at_least=True, confidence=0.95, resolution=step).verdict
        for each in sample[:300]
    ]
    assert [verdict == "pass" for verdict in verdicts] == passes[:300].tolist()


def test_a_step_may_leave_seeds_without_any_power():
    # 2.015 = t(0.95, 5): 2.015 * 0.05 / sqrt(6) is more than 0.02
    assert spread_for_power(6, 0.02, 0.95, 0.05) is None
    assert max(power(6, 0.02, std, 0.95, None, 0.05) for std in (0, 0.001, 0.05, 0.2)) < 0.5
    fewest = seeds_for_power(0.02, 0.0, 0.95, None, 0.05)
    bounds = [stats.t.ppf(0.95, n - 1) * 0.05 / n**0.5 for n in (fewest - 1, fewest)]
    assert bounds[0] > 0.02 >= bounds[1]
    largest = spread_for_power(fewest + 5, 0.02, 0.95, 0.05)
    assert power(fewest + 5, 0.02, largest, 0.95, None, 0.05) == pytest.approx(0.8, abs=1e-3)
    assert spread_for_power(6, 0.02, 0.95, 1e-9) == pytest.approx(
        spread_for_power(6, 0.02, 0.95), rel=0.01
    )


def test_where_no_number_of_seeds_is_enough():
    assert seeds_for_power(-0.01, 0.01, 0.95) is None is seeds_for_power(1e-6, 0.01, 0.95)
    assert seeds_for_power(0.01, 0.0, 0.95) == 2
    assert power(2, 1e9, 1e-9, 0.95) == 1 == power(10_000, 1e3, 1e-9, 0.95, 3)


@pytest.mark.parametrize(("pilot_seeds", "std"), [(3, 1.0), (5, 2.0)])
def test_whoever_does_as_told_errs_as_rarely_as_the_confidence_says(pilot_seeds, std):
    """A pilot gives the number of seeds; so many others are run, and judged once."""
    draw = np.random.default_rng(0)
    pilots = draw.normal(0, std, (3000, pilot_seeds)).std(axis=1, ddof=1).round(1)
    # A margin of 1; the truth is at the margin, or as good as what it is compared with.
    told = {s: seeds_for_power(1.0, s, 0.95, pilot_seeds) for s in set(pilots[pilots > 0])}
    passes = {-1.0: 0, 0.0: 0}
    for spread in pilots:
        seeds = told.get(spread, 2)
        for truth in passes:
            found = draw.normal(truth, std, seeds)
            verdict = judge(found.tolist(), -1.0, at_least=True, confidence=0.95).verdict
            passes[truth] += verdict == "pass"
    assert passes[-1.0] / len(pilots) < 0.05 + 3 * math.sqrt(0.05 * 0.95 / len(pilots))
    assert 0.77 < passes[0.0] / len(pilots) < 0.87


def test_bounds_over_images_cover_the_truth():
    """Of two networks on the same 500 images, whose errors are mostly the same."""
    draw = np.random.default_rng(0)
    wrong_both, wrong_one, wrong_other = 0.04, 0.01, 0.03
    outcomes = draw.multinomial(500, [wrong_both, wrong_one, wrong_other, 0.92], 4000) / 500
    covered = 0
    for both, one, other, _ in outcomes:
        width = image_half_width([1 - both - one, 1 - both - other], 500, 0.95)
        covered += other - one - width <= wrong_other - wrong_one
    assert covered / len(outcomes) > 0.95
    # By hand: (96 + 1) of (100 + 2), once: 1.644854 * sqrt(0.95098 * 0.04902 / 102).
    assert image_half_width([0.96], 100, 0.95) == pytest.approx(0.03516, abs=5e-5)
    assert image_half_width([1.0], 100, 0.95) > 0.01
