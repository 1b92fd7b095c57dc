import math
import time

import pytest
import torch

from nifbuild.report.measure import Quartiles, WarmSampler, measure_in_turn, ratios, time_calls

CPU = torch.device("cpu")


class Scripted:
    """A sampler that takes the times it is given, and notes when it was asked."""

    def __init__(self, name, times, log, calls=1):
        self.name, self.times, self.log, self.calls = name, iter(times), log, calls

    def sample(self):
        self.log.append(self.name)
        return next(self.times)


def test_quartiles_by_hand():
    assert Quartiles.of([4, 1, 3, 2, 5]) == Quartiles(3, 2, 4, 5)
    assert Quartiles.of([1, 2, 3, 4], scale=10) == Quartiles(25, 17.5, 32.5, 4)
    assert Quartiles.of([7.0]) == Quartiles(7, 7, 7, 1)


def test_what_slows_the_machine_cancels():
    """A is twice as slow as B; the machine is up to nine times slower than at its best."""
    slowdown = [1, 9, 1, 3, 5, 1, 1]
    a, b = [2.0 * s for s in slowdown], [1.0 * s for s in slowdown]
    assert Quartiles.of(ratios(a, b)) == Quartiles(2, 2, 2, 7)


def test_ratios_pair_the_repeats_that_both_have():
    assert ratios([10, 20], [5, 5, 5]) == [2, 4]
    assert ratios([10, 20, 30], [5]) == [2]


def test_each_entry_has_its_turn_in_each_repeat_and_the_order_rotates():
    log = []
    entries = {name: {"f": Scripted(name, [1.0] * 4, log)} for name in "abc"}
    times = measure_in_turn(entries, reference="a", repeats=4, seconds=math.inf)
    assert "".join(log) == "abc" + "bca" + "cab" + "abc"
    assert times == {name: {"f": [1.0] * 4} for name in "abc"}


def test_a_slow_entry_drops_out_and_pairs_with_the_first_repeats():
    log = []
    entries = {
        "layer": {"f": Scripted("l", [0.1, 0.2, 0.3, 0.4], log)},
        "slow": {"f": Scripted("s", [2.0, 6.0], log), "g": Scripted("g", [1.0, 1.0], log)},
    }
    times = measure_in_turn(entries, reference="layer", repeats=4, seconds=5.0)
    assert times["slow"] == {"f": [2.0, 6.0], "g": [1.0, 1.0]}
    assert len(times["layer"]["f"]) == 4
    assert ratios(times["slow"]["f"], times["layer"]["f"]) == pytest.approx([20, 30])


def test_all_calls_of_a_sample_count_towards_the_limit():
    entries = {"layer": {"f": Scripted("l", [1.0] * 9, [], calls=3)}}
    times = measure_in_turn(entries, reference="layer", repeats=9, seconds=5.0)
    assert len(times["layer"]["f"]) == 2


def test_nothing_runs_without_the_reference():
    entries = {
        "other": {"f": Scripted("o", [1.0] * 9, [])},
        "layer": {"f": Scripted("l", [9.0] * 9, [])},
    }
    times = measure_in_turn(entries, reference="layer", repeats=9, seconds=0.0)
    assert times == {"other": {"f": [1.0]}, "layer": {"f": [9.0]}}


def test_turns_are_announced():
    heard = []
    entries = {"a": {"f": Scripted("a", [1.0] * 2, [])}}
    measure_in_turn(entries, reference="a", repeats=2, seconds=9.0, on_turn=heard.append)
    assert heard == ["repeat 1 of 2: a", "repeat 2 of 2: a"]


def test_time_is_that_of_one_call():
    assert 0.02 <= time_calls(lambda: time.sleep(0.02), 3, CPU) < 0.2


def test_fast_calls_are_timed_many_at_once():
    calls = []
    sampler = WarmSampler(lambda: calls.append(1), CPU)
    assert len(calls) == 2
    assert sampler.calls == 1000
    sampler.sample()
    assert len(calls) == 1002


@pytest.mark.parametrize(("patience", "warm_ups"), [(9.0, 2), (0.001, 1), (0.0, 0), (-1.0, 0)])
def test_warm_up_ends_with_the_patience(patience, warm_ups):
    calls = []

    def slow():
        calls.append(1)
        time.sleep(0.02)

    sampler = WarmSampler(slow, CPU, patience)
    assert len(calls) == warm_ups
    assert sampler.calls == 1
    assert sampler.seconds >= 0.02 * warm_ups
    assert sampler.sample() >= 0.02
