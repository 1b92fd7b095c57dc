"""What a computation takes, measured: time, memory at its peak, memory kept for the backward pass.

Times can be compared on a machine that others use too: they are taken in turn and judged in pairs.
"""

import gc
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.autograd.profiler import profile

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


def measure_saved_bytes(forward: Callable[[], object], parameters: Iterable[Tensor]) -> int:
    """Bytes that `forward` keeps for its backward pass, its input included where it is kept.

    Each storage counts once and whole, however many operations keep it or parts of it. Parameters
    do not count: they are there anyway.

    Args:
        forward: Returns the output; must not free it.
        parameters: The model's.
    """
    of_parameters = {parameter.untyped_storage().data_ptr() for parameter in parameters}
    storages: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in of_parameters:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        # While the output lives, all that was saved does, and no address is used twice.
        output = forward()
    del output
    return sum(storages.values())


def measure_peak_bytes(call: Callable[[], object], device: torch.device) -> int:
    """The most bytes allocated at once during `call`, beyond what was there before.

    Counts what PyTorch's allocator gives out on the device: outputs, gradients and temporaries, but
    not what a library such as MKL takes from the system itself. Call it once before: a first run
    fills caches that stay.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        with _no_collection():
            result = call()
        torch.cuda.synchronize(device)
        peak = torch.cuda.max_memory_allocated(device) - before
        del result
        return peak
    return running_peak(profiled(call))


def profiled(call: Callable[[], object]) -> list[Any]:
    """The profiler's events of a call on the CPU, its allocations among them."""
    # The profiler's library tells people on stderr when it starts and stops, unless told not to.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    # Of torch's two ways to ask it, `torch.profiler` first loads the compiler, for seconds.
    with _no_collection(), profile(profile_memory=True) as recorded:
        result = call()
        del result
    # `recorded.function_events` only has sums for each operation; the allocations in their order
    # are one level below.
    assert recorded.kineto_results is not None
    return list(recorded.kineto_results.events())


@contextmanager
def _no_collection() -> Iterator[None]:
    """Python frees no garbage in cycles: tensors from before would count as given back."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def running_peak(events: Iterable[Any], *, before: int = 0, since_ns: int = 0) -> int:
    """The most bytes allocated at once.

    Args:
        events: From `profiled`; positive where memory was taken, negative where it was given back.
        before: Bytes that were there before the first event.
        since_ns: The peaks until then do not count.
    """
    changes = [(event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]"]
    allocated = peak = before
    for moment, change in sorted(changes, key=lambda at: at[0]):
        allocated += change
        if moment >= since_ns:
            peak = max(peak, allocated)
    return peak
