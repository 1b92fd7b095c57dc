"""How much memory a device has, and how much of it is free."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

_CGROUPS = (
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
    for limit, used in _CGROUPS:
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
