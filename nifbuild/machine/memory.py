"""Models that do not fit into memory: told before they are built, or where an allocation fails."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from nifbuild.compile import build_skeleton
from nifbuild.errors import Problem, RunError
from nifbuild.machine.processes import local_processes, world_size
from nifbuild.machine.sharding import weights_are_shared
from nifbuild.spec.training import TrainSpec

if TYPE_CHECKING:
    from nifbuild.spec.resolve import Resolved

_FLOAT_BYTES = 4
_FAILURES = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "Storage size calculation overflowed",
    "integer multiplication overflow",
)
"""What the allocators' RuntimeErrors say; only CUDA's has a type of its own."""

_FEWER_PARAMETERS = "use fewer channels or layers"


class OutOfMemory(RunError):
    """An allocation failed.

    Attributes:
        resolved: The spec in use, for its data.
        images: How many passed through the model at once, over all processes.
        device: Where.
    """

    def __init__(
        self, problem: Problem, resolved: "Resolved", images: int, device: torch.device
    ) -> None:
        super().__init__(problem)
        self.resolved, self.images, self.device = resolved, images, device


def num_parameters(resolved: "Resolved") -> int | None:
    """The model's parameters, counted without allocating them; None beyond what torch can count."""
    try:
        return sum(parameter.numel() for parameter in build_skeleton(resolved).parameters())
    except RuntimeError as error:
        if not _is_out_of_memory(error):
            raise
        return None


def require_memory(resolved: "Resolved", device: torch.device) -> None:
    """Raises RunError where the device cannot hold what training keeps for each parameter.

    That is the weight, its gradient, the optimizer's means and the moving average. Activations come
    on top, so that more may be needed. Without this, Linux would end the process without a word.

    Processes on GPUs have one each; those on the CPU have the memory of the machine together. Each
    keeps all of it, unless FSDP shares it out.
    """
    parameters, memory = num_parameters(resolved), total_memory(device)
    if parameters is None:
        what = _described(parameters)
    else:
        kept = parameters * _FLOAT_BYTES * _copies(resolved.spec.train)
        shares = world_size() if weights_are_shared() else 1
        together = 1 if device.type == "cuda" else local_processes()
        needed = -(-kept * together // shares)
        if memory is None or needed <= memory:
            return
        whose = f" in {together} processes" if together > 1 else ""
        whose += f", shared out over {shares}" if shares > 1 else ""
        what = (
            f"{_described(parameters)}; to train it{whose} takes {_size(needed)} at least, and the "
            f"memory of {device} is {_size(memory)}"
        )
    raise RunError(Problem(what, path="model", fix=_FEWER_PARAMETERS, code="memory"))


@contextmanager
def explaining_lack_of_memory(
    resolved: "Resolved", images: int, device: torch.device, fix: str
) -> Iterator[None]:
    """Turns a failing allocation into one clear OutOfMemory.

    Args:
        resolved: Of the model in use.
        images: How many pass through the model at once.
        device: Where.
        fix: How to have fewer of them pass.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        what = f"out of memory with {images} images at once; {_described(num_parameters(resolved))}"
        problem = Problem(what, fix=f"{fix}\n{_FEWER_PARAMETERS}", code="memory")
        raise OutOfMemory(problem, resolved, images, device) from error


def _is_out_of_memory(error: Exception) -> bool:
    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return known or any(words in str(error) for words in _FAILURES)


def _copies(spec: TrainSpec) -> int:
    """Numbers that training keeps for each parameter."""
    return 2 + spec.optimizer.num_states + int(spec.ema is not None)


def _described(parameters: int | None) -> str:
    if parameters is None:
        return "the model has more parameters than torch can count"
    return f"the model has {parameters:,} parameters ({_size(parameters * _FLOAT_BYTES)})"


def _size(count: int) -> str:
    for power, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if count >> power:
            return f"{count / 2**power:,.1f} {unit}"
    return f"{count} bytes"


CONTAINER_FILES = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)
"""The limit and the use of a container's memory, in the two forms that Linux has."""


def total_memory(device: torch.device) -> int | None:
    """Bytes that the device has, or this container may use of it; None where unknown."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    if sys.platform == "win32":
        return None
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([physical, *(limit for limit, _ in _container())])


def free_memory(device: torch.device) -> int | None:
    """Bytes that this process may still allocate on the device; None where unknown."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        return torch.cuda.mem_get_info(device)[0]
    rooms = [limit - used for limit, used in (*_container(), *_address_space())]
    if (available := _available()) is not None:
        rooms.append(available)
    return max(0, min(rooms)) if rooms else None


def _available() -> int | None:
    """What Linux could hand out without swapping."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(found[0]) * 1024 if found else None


def _container() -> Iterator[tuple[int, int]]:
    for limit, used in CONTAINER_FILES:
        try:
            yield int(Path(limit).read_text()), int(Path(used).read_text())
        except (OSError, ValueError):  # another form, or `max`: no limit
            continue


def _address_space() -> Iterator[tuple[int, int]]:
    """The limit that `ulimit -v` sets, and what is mapped of it."""
    if sys.platform != "linux":
        return
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        yield limit, pages * os.sysconf("SC_PAGE_SIZE")
