"""What is measured of steps: their figures, read as seldom as possible, and how fast they are."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor

from nifbuild.runs.directory import RunDirectory
from nifbuild.train.divergence import Diverged

_READ_EVERY = 16
"""On a GPU, reading a value waits for all work queued there."""


class StepFigures:
    """Takes each step's figures as a tensor; gives them as numbers, averaged over the processes.

    Attributes:
        last: The last loss read; NaN before the first.
    """

    def __init__(self, accelerator: Accelerator, directory: RunDirectory) -> None:
        self.last = math.nan
        self._directory = directory
        self._accelerator = accelerator
        self._every = 1 if accelerator.device.type == "cpu" else _READ_EVERY
        self._pending: list[Tensor] = []
        self._step = 0

    def add(self, step: int, figures: Tensor) -> list[tuple[float, float]]:
        """Takes loss and accuracy [2] of optimizer step `step` (from 1); returns those read now."""
        self._step = step
        self._pending.append(figures)
        return self.read() if len(self._pending) >= self._every else []

    def read(self) -> list[tuple[float, float]]:
        """Reads what is pending; every process has to call it.

        Raises:
            Diverged: At a loss that is not a finite number.
        """
        if not self._pending:
            return []
        first = self._step - len(self._pending) + 1
        mean = self._accelerator.reduce(torch.stack(self._pending), reduction="mean")
        self._pending.clear()
        pairs = [(loss, top1) for loss, top1 in mean.tolist()]
        for step, (loss, _) in enumerate(pairs, start=first):
            if not math.isfinite(loss):
                raise Diverged(f"the loss is {loss} at step {step}", step, self._directory)
        self.last = pairs[-1][0]
        return pairs


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast the steps of an epoch were done.

    Attributes:
        images_per_second: Over all processes.
        data_wait_share: Share of the time in which this process waited for the next batch: to be
            read, decoded and brought to the device. Augmentation is work of the device.
    """

    images_per_second: float
    data_wait_share: float


class Timed:
    """Goes over batches, and adds up how long each was waited for.

    Attributes:
        seconds: So far.
    """

    def __init__(self, batches: Iterator[dict[str, Tensor]]) -> None:
        self.seconds = 0.0
        self._batches = batches

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        while True:
            asked = time.monotonic()
            batch = next(self._batches, None)
            self.seconds += time.monotonic() - asked
            if batch is None:
                return
            yield batch
