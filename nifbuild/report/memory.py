"""Bytes that a computation allocates, and those that it keeps for its backward pass."""

import os
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.profiler import profile


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
    with profile(profile_memory=True) as recorded:
        result = call()
        del result
    # `recorded.function_events` only has sums for each operation; the allocations in their order
    # are one level below.
    assert recorded.kineto_results is not None
    return list(recorded.kineto_results.events())


def running_peak(events: Iterable[Any], *, before: int = 0, since_ns: int = 0) -> int:
    """The most bytes allocated at once.

    Args:
        events: From `profiled`; positive where memory was taken, negative where it was given back.
        before: Bytes that were there before the first event.
        since_ns: The peaks until then do not count.
    """
    changes = [(event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]"]
    allocated = peak = before
    for time, change in sorted(changes, key=lambda at: at[0]):
        allocated += change
        if time >= since_ns:
            peak = max(peak, allocated)
    return peak
