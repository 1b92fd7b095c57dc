"""Bounds against tabulated and closed-form quantiles, and against simulation."""

import math
import random
import statistics

import pytest

from nifbuild.ablate.statistics import half_width, interval, judge, summarize, t_quantile


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
    for values, more in (([], 2), ([0.9], 1)):
        found = judge(values, 0.0, at_least=True, confidence=0.95)
        assert found.verdict == "inconclusive" and found.more_seeds == more


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


def test_equal_figures_prove_nothing_finer_than_their_resolution():
    same = [0.0, 0.0, 0.0]
    assert judge(same, -0.5, at_least=True, confidence=0.95).verdict == "inconclusive"
    # With a spread of one image in 100: 2.92 * 0.01 / sqrt(3) = 0.01686.
    for limit, verdict in ((-0.0169, "pass"), (-0.0168, "inconclusive"), (0.0169, "fail")):
        found = judge(same, limit, at_least=True, confidence=0.95, resolution=0.01)
        assert found.verdict == verdict


def test_rounding_does_not_spoil_an_exact_limit():
    values = [0.3 - 0.1 - 0.2 + d for d in (-1e-3, 0, 1e-3)]
    limit = -half_width(1e-3, 3, 0.95)
    assert judge(values, limit, at_least=True, confidence=0.95).verdict == "pass"


@pytest.mark.parametrize("limit", [-0.0015, 0.0008, 0.0016])
def test_seeds_still_needed_settle_it_if_mean_and_spread_stay(limit):
    found = judge(SPREAD, limit, at_least=True, confidence=0.95)
    needed = len(SPREAD) + found.more_seeds
    widths = [t_quantile(0.95, n - 1) * 0.001 / math.sqrt(n) for n in (needed - 1, needed)]
    assert widths[0] > abs(limit) >= widths[1]


def test_a_mean_at_the_limit_is_never_settled():
    found = judge(SPREAD, 0.0, at_least=True, confidence=0.95)
    assert found.verdict == "inconclusive" and found.more_seeds is None


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
