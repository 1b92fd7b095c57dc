"""Measured sizes follow the size that a task needs: the example's study."""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

EXAMPLE = Path(__file__).parents[1] / "examples/distant_pair.py"


@pytest.fixture(scope="module")
def example() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("distant_pair", EXAMPLE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["distant_pair"] = module  # where its dataclass looks for its own module
    spec.loader.exec_module(module)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield module
    torch.set_num_threads(threads)
    del sys.modules["distant_pair"]


def test_filters_of_free_frequencies_become_as_wide_as_the_task_needs(example):
    small, large = (example.study("free frequency", d, epochs=8) for d in (2, 5))
    assert min(small.accuracy, large.accuracy) > 0.95
    assert small.initial_size == large.initial_size > 15  # white: most of 24 pixels
    assert small.size < large.size < large.initial_size
    assert small.size == pytest.approx(5, abs=1)
    assert large.size == pytest.approx(11, abs=1)


def test_a_convolution_that_sees_one_mark_only_is_at_chance(example):
    """Of 360 test images; three standard deviations of a coin are 8 points."""
    short = example.study("ordinary 3x3", 3, epochs=3)
    assert abs(short.accuracy - 0.5) < 0.08
    enough = example.study("ordinary 7x7", 3, epochs=4)
    assert enough.accuracy > 0.95
    assert enough.size is None
    rows = example.table([short, enough]).splitlines()
    assert rows[1].split()[:4] == ["ordinary", "3x3", "3", "7"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_filters_of_a_network_over_frequencies_become_as_wide_as_the_task_needs(example):
    small, large = (example.study("implicit frequency", d) for d in (2, 6))
    assert min(small.accuracy, large.accuracy) > 0.97
    assert small.initial_size == large.initial_size < small.size
    assert small.size == pytest.approx(5, abs=2)
    assert large.size == pytest.approx(13, abs=2)
    figure = example.plot([small, large])
    assert figure.axes[0].get_ylabel() == "window with half of\nthe energy (pixels)"
