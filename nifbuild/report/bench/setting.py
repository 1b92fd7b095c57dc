"""On what, in which types and how often things are timed."""

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from nifbuild.errors import Mark, Problem, SpecError, suggestion
from nifbuild.runs.environment import describe_environment
from nifbuild.spec.resolve import Resolved


def require_images(resolved: Resolved, lacking: str) -> None:
    """Raises SpecError unless there are images with a class each: bare loops are for these.

    Args:
        resolved: The spec.
        lacking: What is missing in one without data, such as `no data to train on`.
    """
    if resolved.spec.data is None:
        what, fix = f"{resolved.name} has {lacking}", "name a spec with `data:`"
        raise SpecError(Problem(what, path="data", fix=fix, code="no-data"))
    if resolved.spec.data.per_pixel:
        what = "this is measured of data with a class for each image, and here each pixel has one"
        raise SpecError(Problem(what, path="data.source", fix="name other data", code="per-pixel"))


@dataclass(frozen=True, slots=True)
class Setting:
    """What all times of one report have in common.

    Attributes:
        device: Where everything runs.
        dtype: Of weights and inputs; with `autocast`, of what autocast computes in.
        autocast: Whether weights and inputs stay in float32 and autocast casts them.
        repeats: Of each measurement, at most.
        seconds: That one contender may take, after which it gets no more repeats.
        threads: Of the CPU.
    """

    device: torch.device
    dtype: torch.dtype = torch.float32
    autocast: bool = False
    repeats: int = 11
    seconds: float = 5.0
    threads: int = 1

    @property
    def stored_dtype(self) -> torch.dtype:
        """Of weights and inputs."""
        return torch.float32 if self.autocast else self.dtype

    @property
    def dtype_name(self) -> str:
        """`float32`, `bfloat16`, or `autocast to bfloat16`."""
        name = str(self.dtype).removeprefix("torch.")
        return f"autocast to {name}" if self.autocast else name

    def autocasting(self) -> AbstractContextManager[object]:
        """The context in which forward passes run."""
        return torch.autocast(self.device.type, dtype=self.dtype, enabled=self.autocast)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The process in this setting; afterwards as it was."""
        threads, search = torch.get_num_threads(), torch.backends.cudnn.benchmark
        torch.set_num_threads(self.threads)
        torch.backends.cudnn.benchmark = True  # the ordinary convolutions at their best
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            torch.backends.cudnn.benchmark = search

    def environment(self) -> dict[str, Any]:
        """The machine and the setting, for those who read the figures later."""
        limits = {"max_repeats": self.repeats, "max_seconds": self.seconds}
        return {**describe_environment(self.device, 1, self.dtype_name), **limits}


def device_named(name: str, problems: list[Problem]) -> torch.device:
    """The device; with what is wrong with its name added to the problems."""
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda" if gpus else "cpu")
    match = re.fullmatch(r"cpu|cuda(?::(\d+))?", name)
    if match is None:
        what = f"unknown device '{name}'"
        fix = suggestion(name, ["auto", "cpu", "cuda"], "devices: auto, cpu, cuda, cuda:1 ...")
    elif name != "cpu" and int(match[1] or 0) >= gpus:
        what = f"'{name}' is not available: there {'is 1 GPU' if gpus == 1 else f'are {gpus} GPUs'}"
        fix = "use --device auto or --device cpu"
    else:
        return torch.device(name)
    problems.append(Problem(what, Mark(f"--device {name}"), fix=fix, code="option"))
    return torch.device("cpu")


def first_line(error: Exception) -> str:
    """What PyTorch says went wrong, without the trace in C++ that follows."""
    return str(error).partition("\n")[0]
