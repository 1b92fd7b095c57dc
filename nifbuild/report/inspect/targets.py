"""What memory depends on besides the model: how a device computes, and what an optimizer keeps."""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from nifbuild.errors import Mark, Problem, SpecError
from nifbuild.nn.tracing import as_on_gpu, only_first_chunks, own_constants
from nifbuild.report.inspect.weightless import Trace
from nifbuild.report.inspect.workspace import cpu_workspace
from nifbuild.spec.optimizers import OPTIMIZERS, Alike, Optimizer
from nifbuild.spec.resolve import Resolved
from nifbuild.spec.training import Precision
from nifbuild.train.optim import Group

Device = Literal["cpu", "cuda"]

HALF: dict[Precision, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}

BOUND = 0.05
"""A predicted peak is off by less than this share of what torch's allocator hands out,"""

BOUND_BYTES = 128 * 2**10
"""or by less than this, where that is more: on a CPU, libraries' own part of small convolutions."""

_CUDA_BLOCK = 512  # CUDA's caching allocator rounds up to this


@dataclass(frozen=True, slots=True)
class Machine:
    """What the memory of a CPU's libraries depends on.

    Attributes:
        instruction_set: The largest that torch's own code uses.
        onednn_limit: What `ONEDNN_MAX_CPU_ISA` limits oneDNN to; None: nothing does.
        threads: That compute one operation.
    """

    instruction_set: str
    onednn_limit: str | None
    threads: int

    @classmethod
    def at_hand(cls) -> Self:
        """This one."""
        limits = (os.environ.get(f"{name}_MAX_CPU_ISA") for name in ("ONEDNN", "DNNL"))
        return cls(
            torch.backends.cpu.get_cpu_capability(),
            next((limit for limit in limits if limit), None),
            torch.get_num_threads(),
        )

    def __str__(self) -> str:
        limit = f", oneDNN with {self.onednn_limit} at most" if self.onednn_limit else ""
        return f"{self.instruction_set}{limit}, {self.threads} thread{'s'[: self.threads > 1]}"


@dataclass(frozen=True, slots=True)
class Target:
    """A device and a precision to predict for.

    Attributes:
        device: `cuda` is not needed to predict for it.
        precision: As in the spec: what autocast computes most activations in.
    """

    device: Device
    precision: Precision

    @classmethod
    def of(cls, resolved: Resolved) -> Self:
        """Where and how a spec trains; a GPU unless it says `cpu`."""
        train = resolved.spec.train
        return cls("cpu" if train.device == "cpu" else "cuda", train.precision)

    @classmethod
    def chosen(
        cls,
        device: Literal["auto", "cpu", "cuda"],
        precision: Precision | None,
        resolved: Resolved,
        *,
        verify: bool,
    ) -> Self:
        """What the options of `inspect` say, and where they do not the spec.

        Raises:
            SpecError: Nothing computes so, or what is to be verified is not on this machine.
        """
        own, has_gpu = cls.of(resolved), torch.cuda.is_available()
        if device == "cuda" and verify and not has_gpu:
            what = "there is no CUDA device on this machine to verify a prediction with"
            fix = "use --device cpu, or no --verify"
            raise SpecError(Problem(what, Mark("--verify"), fix=fix))
        if device == "auto":
            device = "cpu" if verify and not has_gpu else own.device
        precision = precision or own.precision
        if device == "cpu" and precision == "fp16":
            fix = "on a CPU use bf16 or fp32"
            raise SpecError(Problem("fp16 needs a GPU", path="train.precision", fix=fix))
        return cls(device, precision)

    @property
    def machine(self) -> Machine | None:
        """The machine that a prediction holds for; None on CUDA, where it depends on none."""
        return Machine.at_hand() if self.device == "cpu" else None

    def trace(self) -> Trace:
        """A trace that counts as the device's allocator does."""
        if self.device == "cuda":
            return Trace(_CUDA_BLOCK)
        return Trace(workspace=cpu_workspace)

    @contextmanager
    def autocast(self) -> Iterator[None]:
        """What training computes the model in."""
        with ExitStack() as stack:
            if self.precision in HALF:
                if self.device == "cuda":
                    stack.enter_context(_LikeCudaAutocast())
                stack.enter_context(torch.autocast("cpu", HALF[self.precision]))
            yield

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Layers compute in whole batches on a GPU; on a CPU two of many equal chunks will do."""
        with ExitStack() as stack:
            stack.enter_context(own_constants())
            if self.device == "cuda":
                stack.enter_context(_LikeCuda())
                stack.enter_context(as_on_gpu())
            else:
                stack.enter_context(only_first_chunks(2))
            yield


class _LikeCudaAutocast(TorchFunctionMode):
    """Computes in float32 what autocast does so on CUDA and not on a CPU.

    From the list `AT_FORALL_FP32` in torch's `ATen/autocast_mode.h`, those that ops use. What both
    compute in half precision (convolutions and products of matrices) is left to CPU autocast.
    """

    _IN_FLOAT32 = frozenset({F.layer_norm, F.group_norm, F.softplus, F.interpolate})

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Runs one function of torch."""
        if func in self._IN_FLOAT32:
            x, *rest = args
            args = (x.float(), *rest)
        return func(*args, **(kwargs or {}))


class _LikeCuda(TorchFunctionMode):
    """Takes the ways that torch takes on CUDA and not on a CPU."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Runs one function of torch."""
        if func is F.dropout:
            return _fused_dropout(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _fused_dropout(x: Tensor, p: float, training: bool, inplace: bool = False) -> Tensor:
    """Keeps a mask of bytes, not of numbers."""
    del inplace
    return torch.native_dropout(x, p, training)[0] if training and p > 0 else x


def optimizer_bytes(optimizer: Optimizer, groups: Sequence[Group]) -> int:
    """What it keeps from step to step, such as a momentum, or two moments and a count of steps."""
    return sum(optimizer.kept(_alike(group)) for group in groups)


def _alike(group: Group) -> Alike:
    shapes = [p.shape for p in group["params"]]
    return Alike(shapes, group["weight_decay"] > 0, group.get("use_muon", False))


def optimizer_workspace(optimizer: Optimizer, groups: Sequence[Group], device: Device) -> int:
    """What one step takes and gives back.

    On CUDA torch steps all parameters of a group at once, on a CPU one by one.

    Args:
        optimizer: Which one.
        groups: Its parameters.
        device: Where.
    """
    at_once = device == "cuda"
    return max(optimizer.workspace(_alike(group), at_once=at_once) for group in groups)


def optimizer_named(name: str | None, resolved: Resolved) -> Optimizer | None:
    """An optimizer with its usual settings; None where the spec's own is meant."""
    if name is None or name == resolved.spec.train.optimizer.name:
        return None
    return OPTIMIZERS[name].model_validate({"name": name})
