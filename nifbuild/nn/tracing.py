"""What those may ask of the layers who look at shapes and memory alone, on tensors without values.

Nothing here changes a result outside of these contexts.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

own_cache: ContextVar[dict[Any, tuple[Tensor, ...]] | None] = ContextVar("own_cache", default=None)
"""Where constants are kept instead of in the cache of all."""

_chunk_limit: ContextVar[int] = ContextVar("_chunk_limit", default=sys.maxsize)
_as_on_gpu: ContextVar[bool] = ContextVar("_as_on_gpu", default=False)


def takes_cpu_ways(x: Tensor) -> bool:
    """Whether what suits a CPU is done: batches in chunks, small transforms by a matrix."""
    if torch.compiler.is_compiling():  # the compiler cannot look into a ContextVar
        return False
    return x.device.type == "cpu" and not _as_on_gpu.get()


def max_chunks() -> int:
    """How many chunks of a batch are worked on: but for a trace, however many there are."""
    return _chunk_limit.get()


@contextmanager
def as_on_gpu() -> Iterator[None]:
    """Layers do to tensors on a CPU what they do to those on a GPU."""
    token = _as_on_gpu.set(True)
    try:
        yield
    finally:
        _as_on_gpu.reset(token)


@contextmanager
def only_first_chunks(count: int) -> Iterator[None]:
    """Leaves out all chunks of a batch but the first ones: each one's memory is the last one's.

    Results are wrong.
    """
    token = _chunk_limit.set(count)
    try:
        yield
    finally:
        _chunk_limit.reset(token)


@contextmanager
def own_constants() -> Iterator[None]:
    """Keeps constants in a cache of their own, which starts empty, and goes.

    It takes tensors without values, too, which must not outlive their mode.
    """
    token = own_cache.set({})
    try:
        yield
    finally:
        own_cache.reset(token)


class Undrawn(TorchFunctionMode):
    """Draws no initial weights, for models without values.

    On the meta device there is nothing to draw, and torch's way to find that out loads its compiler
    first, which takes over a second.
    """

    _DRAW = frozenset({Tensor.normal_, Tensor.uniform_})

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Runs one function of torch."""
        return args[0] if func in self._DRAW else func(*args, **(kwargs or {}))
