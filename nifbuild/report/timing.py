"""Times that can be compared on a machine that others use too: taken in turn, judged in pairs."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

Call = Callable[[], object]
OnTurn = Callable[[str], None]
"""Hears what is about to be measured; called between the times that are taken."""
Times = dict[str, dict[str, list[float]]]
"""Seconds by entry, figure and repeat."""

_MIN_SAMPLE_SECONDS = 0.01
_MAX_CALLS = 1000


@dataclass(frozen=True, slots=True)
class Quartiles:
    """The median of `count` values, and the quartiles that half of them lie between."""

    median: float
    first: float
    third: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float], scale: float = 1.0) -> "Quartiles":
        """The quartiles of the values times `scale`, interpolated between neighbours."""
        first, median, third = (float(q) for q in np.percentile(values, [25, 50, 75]) * scale)
        return cls(median, first, third, len(values))


def ratios(times: Sequence[float], reference: Sequence[float]) -> list[float]:
    """Each time over that of `reference` in the same repeat, for the repeats that both have.

    What slows the machine down for a while then slows both, and cancels.
    """
    return [a / b for a, b in zip(times, reference, strict=False)]


def time_calls(call: Call, calls: int, device: torch.device) -> float:
    """Mean seconds of one of `calls` calls in a row.

    On CUDA the time is the GPU's own, between two events: it has the gaps in which the GPU waits
    for the CPU to launch, and nothing of work queued before.
    """
    if device.type == "cuda":
        with torch.cuda.device(device):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            torch.cuda.synchronize(device)
            start.record()
            for _ in range(calls):
                call()
            end.record()
            end.synchronize()
            milliseconds: float = start.elapsed_time(end)
        return milliseconds / 1e3 / calls
    started = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - started) / calls


class Sampler(Protocol):
    """Times one thing, once more each time it is asked."""

    calls: int
    """How often it runs for one sample."""

    def sample(self) -> float:
        """Mean seconds of one run."""


class WarmSampler:
    """Times a call that has run before, often enough at once for the clock to be exact.

    Args:
        call: What is timed. It runs twice here, so that caches are filled, libraries have chosen
            their algorithms, and its speed is known.
        device: Where it runs.
        patience: Seconds for that; where they are spent the call runs no more, and without any it
            does not run. So slow a call does not change when it is run again.

    Attributes:
        seconds: What that took.
    """

    def __init__(self, call: Call, device: torch.device, patience: float = math.inf) -> None:
        self._call, self._device = call, device
        self.calls, self.seconds = 1, 0.0
        for _ in range(2):
            if self.seconds >= patience:
                break
            started = time.perf_counter()
            duration = time_calls(call, 1, device)
            self.seconds += time.perf_counter() - started
            self.calls = min(_MAX_CALLS, math.ceil(_MIN_SAMPLE_SECONDS / max(duration, 1e-9)))

    def sample(self) -> float:
        """Mean seconds of one call."""
        return time_calls(self._call, self.calls, self._device)


def measure_in_turn(
    entries: Mapping[str, Mapping[str, Sampler]],
    *,
    reference: str,
    repeats: int,
    seconds: float,
    on_turn: OnTurn = lambda text: None,
) -> Times:
    """Times all entries once in each repeat, in an order that is rotated from repeat to repeat.

    An entry that has spent its `seconds` is left out of the repeats that follow, and all end with
    the reference, so that index i of every list is repeat i.

    Args:
        entries: For each entry what is timed of it, by name.
        reference: The entry that others are divided by.
        repeats: At most so many.
        seconds: For each entry; the first repeat is measured whatever it takes.
        on_turn: Called before each turn.
    """
    times: Times = {name: {figure: [] for figure in entries[name]} for name in entries}
    spent = dict.fromkeys(entries, 0.0)
    order = list(entries)
    for repeat in range(repeats):
        if spent[reference] > seconds:
            break
        start = repeat % len(order)
        for name in order[start:] + order[:start]:
            if spent[name] > seconds:
                continue
            on_turn(f"repeat {repeat + 1} of {repeats}: {name}")
            for figure, sampler in entries[name].items():
                sample = sampler.sample()
                times[name][figure].append(sample)
                spent[name] += sample * sampler.calls
    return times
