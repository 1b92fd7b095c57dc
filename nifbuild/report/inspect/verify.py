"""Runs a real training step, to hold the predicted memory against the measured one."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.profiler import record_function

from nifbuild.compile import build_model
from nifbuild.report.inspect.inspection import Inspection
from nifbuild.report.inspect.targets import HALF
from nifbuild.report.memory import profiled, running_peak
from nifbuild.train.ema import Ema
from nifbuild.train.kernel_spread import KernelSpread
from nifbuild.train.optim import build_optimizer

_SECOND = "nifbuild second step"


@dataclass(frozen=True, slots=True)
class Verified:
    """Bytes of a training step, predicted and measured."""

    device: str
    batch_size: int
    predicted_peak_bytes: int
    measured_peak_bytes: int

    @property
    def error(self) -> float:
        """The prediction's relative error."""
        return self.predicted_peak_bytes / self.measured_peak_bytes - 1

    def document(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "device": self.device,
            "batch_size": self.batch_size,
            "predicted_peak_bytes": self.predicted_peak_bytes,
            "measured_peak_bytes": self.measured_peak_bytes,
            "error": self.error,
        }


def verify(inspection: Inspection) -> list[Verified]:
    """Trains on random images for two steps and measures the second, for each batch size.

    On a CPU the allocations that torch's profiler saw are added up, on CUDA it is
    `torch.cuda.max_memory_allocated`. The first step makes the optimizer's state.

    Raises:
        RuntimeError: The device is not there, or its memory does not suffice.
    """
    return [
        Verified(
            inspection.target.device,
            prediction.batch_size,
            prediction.memory.train_peak_bytes,
            measure_peak(inspection, prediction.batch_size),
        )
        for prediction in inspection.predictions
    ]


def measure_peak(inspection: Inspection, batch_size: int) -> int:
    """The most bytes allocated at once in the second of two training steps."""
    device = torch.device(inspection.target.device)
    train = inspection.resolved.spec.train
    layout = torch.channels_last if train.channels_last else torch.contiguous_format
    model = build_model(inspection.resolved).to(device=device, memory_format=layout)  # type: ignore[call-overload]
    average = None if train.ema is None else Ema(model, train.ema)
    optimizer = build_optimizer(model, inspection.optimizer)
    shape = inspection.resolved.graph.input_shape
    images = torch.randn(batch_size, shape.channels, *shape.size, device=device)
    images = images.contiguous(memory_format=layout)
    num_classes = inspection.resolved.graph.output_shape.num_elements
    labels = torch.randint(num_classes, (batch_size,), device=device)
    spread = KernelSpread(model, inspection.resolved) if train.kernel_spread else None

    def step() -> None:
        for _ in range(min(train.accumulate, 2)):  # the third micro-batch is as the second
            with _autocast(inspection, device):
                outputs = model(images)
            logits = outputs.float().flatten(1)
            del outputs
            loss = F.cross_entropy(logits, labels, label_smoothing=train.label_smoothing)
            if spread is not None:
                loss = loss + train.kernel_spread * spread()
            del logits
            loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    held = [images, labels, *_state(model), *(_state(average.module) if average else ())]
    return _peak_of_second(step, device, sum(t.nbytes for t in held))


def _autocast(inspection: Inspection, device: torch.device) -> AbstractContextManager[object]:
    dtype = HALF.get(inspection.target.precision)
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype)


def _state(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]


def _peak_of_second(step: Callable[[], None], device: torch.device, held_bytes: int) -> int:
    if device.type == "cuda":
        step()
        torch.cuda.reset_peak_memory_stats(device)
        step()
        return torch.cuda.max_memory_allocated(device)

    def two_steps() -> None:
        step()
        with record_function(_SECOND):
            step()

    events = profiled(two_steps)
    start = next(event.start_ns() for event in events if event.name() == _SECOND)
    return running_peak(events, before=held_bytes, since_ns=start)
