"""Work on a batch in chunks: each stays in a CPU's cache, and each core has its own.

Torch splits every single operation over the cores and waits for all of them at its end. A chain of
short operations waits often, and on a machine with other work to do for long. Here a whole chain
runs on one core, and the cores take different images.
"""

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

Result = TypeVar("Result")


def chunks(batch: int, image_bytes: int, budget_bytes: int) -> list[slice]:
    """Slices of a batch that take up about `budget_bytes`, at least one image each."""
    size = max(1, budget_bytes // max(1, image_bytes))
    return [slice(start, min(start + size, batch)) for start in range(0, batch, size)]


def map_chunks(
    work: Callable[[slice], Result], parts: Sequence[slice], like: Tensor
) -> Iterator[Result]:
    """The results of `work` for each part, in their order, computed on several cores.

    Args:
        work: Needs no gradient, and writes to memory of its part alone.
        parts: Slices of the batch.
        like: A tensor that the work is about: it tells the device.
    """
    if len(parts) < 2 or torch.get_num_threads() < 2 or not _may_leave_this_thread(like):
        return map(work, parts)
    inference = torch.is_inference_mode_enabled()

    def quietly(part: slice) -> Result:
        # Whether gradients are recorded is a matter of each thread.
        with torch.inference_mode(inference), torch.no_grad():
            return work(part)

    return _pool(os.getpid(), torch.get_num_threads()).map(quietly, parts)


def _may_leave_this_thread(like: Tensor) -> bool:
    """Not where somebody looks on: what counts or profiles operations is bound to a thread."""
    return (
        like.device.type == "cpu"
        and type(like) is Tensor
        and torch._C._len_torch_dispatch_stack() == 0
        and not torch._C._autograd._profiler_enabled()
    )


@functools.lru_cache(maxsize=1)
def _pool(pid: int, threads: int) -> ThreadPoolExecutor:
    """Threads in which torch uses one core each. A forked process has none of them left."""
    del pid
    pool = ThreadPoolExecutor(threads, "nifbuild", initializer=torch.set_num_threads, initargs=(1,))
    list(pool.map(lambda _: None, range(threads)))
    torch.set_num_threads(threads)  # what threads to come will start with
    return pool
