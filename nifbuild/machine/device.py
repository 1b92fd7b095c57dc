"""The device of a run, the Accelerator on it, and how tensors lie there."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from accelerate import Accelerator, DataLoaderConfiguration
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import GradientAccumulationPlugin
from torch import Tensor, nn

from nifbuild.errors import Problem, RunError, SpecError, suggestion
from nifbuild.machine.processes import local_processes, require_consistent, world_size
from nifbuild.machine.seeds import derive_seed
from nifbuild.machine.sharding import share_out
from nifbuild.spec.training import Precision

_MIXED_PRECISION = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}


_OTHERWISE = "have it auto or cpu: --device, or train.device in the spec or study"


def resolve_device(name: str) -> torch.device:
    """The device that `train.device` names, once it is known to be there.

    Raises:
        SpecError: If this machine does not have it.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    mps = torch.backends.mps.is_available()
    if name == "auto":
        name = "cuda" if gpus else "mps" if mps else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda", "mps"):
        names = ["auto", "cpu", "cuda", "mps"]
        _refuse(f"'{name}' is no device", suggestion(name, names, "devices: auto, cpu, cuda, mps"))
    if device.type == "cuda" and not gpus:
        built = torch.backends.cuda.is_built()
        why = "no GPU was found" if built else "this PyTorch is built without CUDA"
        _refuse(f"'{name}' is not available: {why}", _OTHERWISE)
    if device.type == "cuda" and (device.index or 0) >= gpus:
        _refuse(f"'{name}' is not available", f"there are: {_listed(gpus)}")
    if device.type == "mps" and not mps:
        _refuse("'mps' is not available on this machine", _OTHERWISE)
    _check_processes(device, gpus)
    return device


def _check_processes(device: torch.device, gpus: int) -> None:
    local = local_processes()
    if local == 1:
        return
    if device.type == "mps":
        _refuse("several processes cannot share 'mps'", "use --device cpu or --processes 1")
    if device.index is not None:
        _refuse(
            f"'{device}' is one GPU, but there are {local} processes",
            "use --device cuda; the environment variable CUDA_VISIBLE_DEVICES chooses among GPUs",
        )
    if device.type == "cuda" and local > gpus:
        _refuse(
            f"{local} processes, but {gpus} GPU{'s' if gpus > 1 else ''}: each needs its own",
            f"use --processes {gpus}, or --device cpu",
        )


def _listed(gpus: int) -> str:
    return ", ".join(f"cuda:{i}" for i in range(gpus))


def _refuse(what: str, fix: str) -> None:
    raise SpecError(Problem(what, path="train.device", fix=fix, code="device"))


def lacks(device: torch.device, precision: Precision) -> SpecError | None:
    """Why a device does not compute in a precision; None if it does."""
    if precision == "fp16" and device.type == "cpu":
        what = "fp16 needs a GPU"
        fix = "on a CPU use bf16 (slower there without AMX or AVX-512 BF16) or fp32"
    elif precision == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        what, fix = "this GPU has no bf16", "use fp16"
    else:
        return None
    return SpecError(Problem(what, path="train.precision", fix=fix, code="precision"))


@contextmanager
def accelerator_on(
    device: torch.device, *, precision: Precision, accumulate: int = 1, seed: int = 0
) -> Iterator[Accelerator]:
    """An Accelerator for one run; afterwards the process can have another one.

    Args:
        device: As from `resolve_device`.
        precision: As in the spec.
        accumulate: Micro-batches for each optimizer step.
        seed: Of the order of training images.

    Raises:
        SpecError: The device does not compute in that precision.
    """
    if (refusal := lacks(device, precision)) is not None:
        raise refusal  # Accelerate would silently train in float32
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)
    _forget_accelerator()
    with _meeting():
        accelerator = Accelerator(
            cpu=device.type == "cpu",
            mixed_precision=_MIXED_PRECISION[precision],
            dataloader_config=DataLoaderConfiguration(
                split_batches=True,
                use_seedable_sampler=True,
                data_seed=derive_seed(seed, "order"),
                non_blocking=device.type == "cuda",
            ),
            # The last batch of an epoch is cut into micro-batches like any other.
            gradient_accumulation_plugin=GradientAccumulationPlugin(
                num_steps=accumulate, sync_with_dataloader=False
            ),
        )
        share_out(accelerator)
    try:
        yield accelerator
    finally:
        # Also closes the process group; without that, gloo sometimes aborts at exit.
        accelerator.end_training()
        _forget_accelerator()


@contextmanager
def _meeting() -> Iterator[None]:
    """Where processes cannot meet, or Accelerate cannot read its environment, one clear error."""
    require_consistent()
    try:
        yield
    except (ImportError, NotImplementedError, OSError, RuntimeError, ValueError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        place = ":".join(os.environ.get(name, "") for name in ("MASTER_ADDR", "MASTER_PORT"))
        meets = f", or meet the other processes at {place}" if world_size() > 1 else ""
        what = f"Accelerate cannot start{meets}: {reason}"
        fix = "is one of the environment variables ACCELERATE_*, MASTER_* or OMP_* to blame?"
        raise RunError(Problem(what, fix=fix, code="launcher")) from error


def _forget_accelerator() -> None:
    """Accelerate keeps one state for the process, which refuses another precision or device."""
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


@contextmanager
def determinism(enabled: bool) -> Iterator[None]:
    """Allows only deterministic operations while entered, where enabled."""
    if not enabled:
        yield
        return
    # cuBLAS reads it when its first handle is made, and is deterministic only with it.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]


class Placement:
    """Puts models and images where a run wants them.

    Args:
        device: The device.
        channels_last: Whether images and filters have their channels innermost.
        normalize: Bytes to the model's input, without augmentation.
    """

    def __init__(
        self, device: torch.device, channels_last: bool, normalize: Callable[[Tensor], Tensor]
    ) -> None:
        self.device = device
        self._normalize = normalize
        self._format = torch.channels_last if channels_last else torch.contiguous_format

    def module(self, module: nn.Module) -> nn.Module:
        """The module, moved in place."""
        return module.to(device=self.device, memory_format=self._format)  # type: ignore[call-overload,no-any-return]

    def input(self, images: Tensor) -> Tensor:
        """Images [batch, channels, height, width] in the memory format of the filters."""
        return images.contiguous(memory_format=self._format)

    def evaluation_input(self, images: Tensor) -> Tensor:
        """The model's input for images as bytes."""
        return self.input(self._normalize(images))

    def peak_memory(self) -> int:
        """Bytes that tensors took at most on a GPU; 0 elsewhere."""
        return torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else 0


def share_from_first(tensors: Iterable[Tensor]) -> None:
    """Gives every process the first one's values, in place."""
    if dist.is_initialized() and dist.get_world_size() > 1:
        for tensor in tensors:
            value = tensor.detach().contiguous()  # collectives refuse channels-last tensors
            dist.broadcast(value, src=0)
            with torch.no_grad():
                tensor.copy_(value)
