"""What those may ask of the layers who look at shapes and memory alone, on tensors without values.

Nothing here changes a result outside of these contexts.
"""

import sys
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.fx import Proxy
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


def on_gpu(x: Tensor) -> bool:
    """Whether what a CUDA device can do is done, or is looked at as if it were."""
    return x.device.type == "cuda" or (not torch.compiler.is_compiling() and _as_on_gpu.get())


def has_values(x: Tensor) -> bool:
    """Whether something can be computed from a tensor now: it is not one of shapes alone."""
    if torch.compiler.is_compiling():
        return False
    return type(x) in (Tensor, nn.Parameter) and not x.is_meta


def in_jit_trace() -> bool:
    """Whether `torch.jit.trace` records what is done."""
    tracing: bool = torch.jit.is_tracing()  # type: ignore[attr-defined]
    return tracing


def in_cuda_graph() -> bool:
    """Whether a CUDA graph records what is done, to be done again later with other values."""
    if torch.compiler.is_compiling():
        return False
    return torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()


def is_recorded() -> bool:
    """Whether what is done is recorded, to be done again later with other values."""
    return torch.compiler.is_compiling() or in_jit_trace() or in_cuda_graph()


def in_torch_func() -> bool:
    """Whether a transform of `torch.func`, such as `vmap` or `grad`, is at work."""
    active: bool = torch._C._are_functorch_transforms_active()
    return active


def is_batched(tensor: Tensor) -> bool:
    """Whether a tensor stands for several, which tensors that stand for one have no room for.

    As upstream gradients do in `torch.func.vmap`, and with `is_grads_batched` and `vectorize`.
    """
    if torch.compiler.is_compiling():
        return False
    old_way: bool = torch._C._functorch.is_legacy_batchedtensor(tensor)  # knows few functions
    return old_way or in_torch_func()


def takes_single_steps(*tensors: Tensor | None) -> bool:
    """Whether torch itself has to see each step: to transform, derive or record it."""
    if in_jit_trace() or in_torch_func():
        return True
    return any(t is not None and has_tangent(t) for t in tensors)


def has_tangent(tensor: Tensor) -> bool:
    """Whether a derivative goes along with the tensor, in forward mode."""
    return forward_ad.unpack_dual(tensor).tangent is not None


def max_chunks() -> int:
    """How many chunks of a batch are worked on: but for a trace, however many there are."""
    return _chunk_limit.get()


def fixed_sizes() -> AbstractContextManager[object]:
    """Within it, `torch.jit.trace` does not warn that sizes become constants."""
    return _quiet_trace() if in_jit_trace() else nullcontext()


@contextmanager
def _quiet_trace() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
        yield


def as_leaf(module: nn.Module, x: object) -> Any:
    """A call of the module as one node of a graph, if `torch.fx` is tracing; otherwise None.

    Raises:
        RuntimeError: The graph is the module's own.
    """
    if not isinstance(x, Proxy):
        return None
    tracer: Any = x.tracer
    path = tracer.path_of_module(module)
    if not path:
        name = type(module).__name__
        raise RuntimeError(f"torch.fx does not look into {name}: trace nn.Sequential(layer)")
    return tracer.create_proxy("call_module", path, (x,), {})


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
