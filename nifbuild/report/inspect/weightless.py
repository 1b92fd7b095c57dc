"""Tensors that take up no memory, in a trace that knows how much they would.

A `Weightless` tensor has shape, dtype and a history for autograd, and says that it is on a CPU.
What happens to it happens to a tensor on torch's meta device, which holds no values.
`FakeTensorMode` does the same for compilers, at several times the cost of each operation.
"""

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_map_only

from nifbuild.report.inspect.on_meta import run_on_meta


@dataclass(frozen=True, slots=True)
class Extra:
    """Bytes that an operation takes beside its result, and gives back.

    Attributes:
        most: No more than these.
        measure: How many exactly; it may take its time.
    """

    most: int
    measure: Callable[[], int]

    @classmethod
    def known(cls, num_bytes: int) -> Self:
        """So many."""
        return cls(num_bytes, lambda: num_bytes)


Workspace = Callable[[Any, tuple[Any, ...], Any], Extra | None]
"""What an operation takes for a moment: from the operation, arguments and result."""


class Weightless(Tensor):
    """A tensor without values.

    Attributes:
        meta: What stands for it on the meta device; views share its storage.
        per_image: Whether it was computed from the images: whether its size depends on the batch.
    """

    meta: Tensor
    per_image: bool

    @staticmethod
    def __new__(cls, meta: Tensor, per_image: bool = False) -> "Weightless":
        """Wraps a tensor of the meta device."""
        tensor: Weightless = Tensor._make_wrapper_subclass(
            cls,
            meta.shape,
            strides=meta.stride(),
            storage_offset=meta.storage_offset(),
            dtype=meta.dtype,
            device=torch.device("cpu"),
            requires_grad=meta.requires_grad,
        )
        tensor.meta, tensor.per_image = meta, per_image
        return tensor

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Runs an operation that no trace looks at."""
        return _run(func, args, kwargs or {})[0]

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"Weightless({list(self.shape)}, {self.dtype})"


class Trace(TorchDispatchMode):
    """Runs everything on weightless tensors and adds up the bytes that would be allocated.

    Args:
        granularity: What the allocator rounds each tensor up to, in bytes.
        workspace: What operations take beside their results.

    Attributes:
        current: Bytes alive now.
    """

    def __init__(self, granularity: int = 1, workspace: Workspace | None = None) -> None:
        super().__init__()
        self.current = self._peak = 0
        self._open: list[tuple[int, Extra]] = []
        self._granularity = granularity
        self._workspace = workspace
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Runs one operation."""
        result, made = _run(func, args, kwargs or {})
        for tensor in made:
            self.hold(tensor)
        if self._workspace is not None:
            extra = self._workspace(func, args, result)
            if extra is not None and self.current + extra.most > self._peak:
                self._open.append((self.current, extra))
        return result

    @property
    def peak(self) -> int:
        """The largest number of bytes so far, or since it was last set."""
        # Those that may take the most come first: then few have to be measured.
        for current, extra in sorted(self._open, key=lambda at: -at[0] - at[1].most):
            if current + extra.most <= self._peak:
                break
            with _disable_current_modes():  # it runs on real tensors
                self._peak = max(self._peak, current + extra.measure())
        self._open.clear()
        return self._peak

    @peak.setter
    def peak(self, value: int) -> None:
        self._open.clear()
        self._peak = value

    def hold(self, tensor: Weightless) -> None:
        """Counts the tensor's memory, once, until it is freed."""
        storage = tensor.meta.untyped_storage()
        key = storage._cdata
        if key in self._known:
            return
        self._known.add(key)
        size = -(-storage.nbytes() // self._granularity) * self._granularity
        weakref.finalize(storage, self._free, key, size)
        self.current += size
        self._peak = max(self._peak, self.current)

    def _free(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.current -= size

    def add(self, num_bytes: int) -> None:
        """Counts memory that no tensor of the trace stands for."""
        self.current += num_bytes
        self._peak = max(self._peak, self.current)


def _run(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, list[Weightless]]:
    """The result of an operation, and the tensors in it that are new."""
    per_image = False

    def unwrap(tensor: Weightless) -> Tensor:
        nonlocal per_image
        per_image = per_image or tensor.per_image
        return tensor.meta

    inner_args = tree_map_only(Weightless, unwrap, args)
    inner_kwargs = tree_map_only(Weightless, unwrap, kwargs)
    if "device" in inner_kwargs:
        inner_kwargs["device"] = torch.device("meta")
    made: list[Weightless] = []

    def wrap(tensor: Tensor) -> Tensor:
        if not tensor.is_meta:
            tensor = tensor.to("meta")
        made.append(Weightless(tensor, per_image))
        return made[-1]

    if func._schema.is_mutable:
        return kwargs.get("out", args[0]), made  # what is written to keeps its shape
    result = run_on_meta(func, inner_args, inner_kwargs)
    return tree_map_only(Tensor, wrap, result), made


def weightless_module(module: nn.Module) -> nn.Module:
    """Replaces parameters and buffers on the meta device by weightless ones, in place."""
    for child in module.modules():
        for name, parameter in child._parameters.items():
            if parameter is not None:
                own = nn.Parameter(Weightless(parameter.detach()), parameter.requires_grad)
                child._parameters[name] = own
        for name, buffer in child._buffers.items():
            if buffer is not None:
                child._buffers[name] = Weightless(buffer)
    return module
