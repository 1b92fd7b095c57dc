"""Trains and infers for real, to hold the predicted memory against the measured one.

The steps here are written out once more, as `nifbuild.train.loop` takes them: what the prediction
has overlooked must not be overlooked here.
"""

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
from nifbuild.report.measure import profiled, running_peak
from nifbuild.train.ema import Ema
from nifbuild.train.kernel_spread import KernelSpread
from nifbuild.train.optim import build_optimizer

_SECOND = "nifbuild second step"


@dataclass(frozen=True, slots=True)
class Verified:
    """Bytes of a training step and of inference, predicted and measured."""

    device: str
    batch_size: int
    predicted_peak_bytes: int
    measured_peak_bytes: int
    predicted_inference_bytes: int
    measured_inference_bytes: int

    @property
    def error(self) -> float:
        """The relative error of the prediction for training."""
        return self.predicted_peak_bytes / self.measured_peak_bytes - 1

    @property
    def inference_error(self) -> float:
        """The relative error of the prediction for inference."""
        return self.predicted_inference_bytes / self.measured_inference_bytes - 1

    def document(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "device": self.device,
            "batch_size": self.batch_size,
            "predicted_peak_bytes": self.predicted_peak_bytes,
            "measured_peak_bytes": self.measured_peak_bytes,
            "error": self.error,
            "predicted_inference_bytes": self.predicted_inference_bytes,
            "measured_inference_bytes": self.measured_inference_bytes,
            "inference_error": self.inference_error,
        }


def verify(inspection: Inspection) -> list[Verified]:
    """Trains on random images for two steps and measures the second, for each batch size.

    The same for inference. On a CPU the allocations that torch's profiler saw are added up, on CUDA
    it is `torch.cuda.max_memory_allocated`. The first step makes the optimizer's state, the first
    inference the spectra that are kept.

    Raises:
        RuntimeError: The device is not there, or its memory does not suffice.
    """
    return [
        Verified(
            inspection.target.device,
            prediction.batch_size,
            prediction.memory.train_peak_bytes,
            measure_training(inspection, prediction.batch_size),
            prediction.memory.inference_peak_bytes,
            measure_inference(inspection, prediction.batch_size),
        )
        for prediction in inspection.predictions
    ]


def measure_training(inspection: Inspection, batch_size: int) -> int:
    """The most bytes allocated at once in the second of two training steps."""
    train = inspection.resolved.spec.train
    model, images = _model(inspection), _images(inspection, batch_size)
    average = None if train.ema is None else Ema(model, train.ema)
    optimizer = build_optimizer(model, inspection.optimizer)
    num_classes = inspection.resolved.graph.output_shape.num_elements
    labels = torch.randint(num_classes, (batch_size,), device=images.device)
    spread = KernelSpread(model, inspection.resolved) if train.kernel_spread else None

    def step() -> None:
        for _ in range(min(train.accumulate, 2)):  # the third micro-batch is as the second
            with _autocast(inspection):
                logits = model(images).float()
            logits = logits.flatten(1)
            loss = F.cross_entropy(logits, labels, label_smoothing=train.label_smoothing)
            if spread is not None:
                loss = loss + train.kernel_spread * spread()
            loss.backward()
        if train.clip_norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), train.clip_norm)
        optimizer.step()
        optimizer.zero_grad()
        if average is not None:
            average.update(model, 1)

    held = [images, labels, *_state(model), *(_state(average.module) if average else ())]
    return _peak_of_second(step, images.device, held)


def measure_inference(inspection: Inspection, batch_size: int) -> int:
    """The most bytes allocated at once in the second of two inferences."""
    model, images = _model(inspection).eval(), _images(inspection, batch_size)

    def infer() -> None:
        with torch.no_grad(), _autocast(inspection):
            model(images)

    return _peak_of_second(infer, images.device, [images, *_state(model)])


def _layout(inspection: Inspection) -> torch.memory_format:
    channels_last = inspection.resolved.spec.train.channels_last
    return torch.channels_last if channels_last else torch.contiguous_format


def _model(inspection: Inspection) -> nn.Module:
    model = build_model(inspection.resolved)
    model.to(device=inspection.target.device, memory_format=_layout(inspection))  # type: ignore[call-overload]
    return model


def _images(inspection: Inspection, batch_size: int) -> Tensor:
    shape = inspection.resolved.graph.input_shape
    sizes = (batch_size, shape.channels, *shape.size)
    images = torch.randn(sizes, device=inspection.target.device)
    return images.contiguous(memory_format=_layout(inspection))


def _autocast(inspection: Inspection) -> AbstractContextManager[object]:
    dtype = HALF.get(inspection.target.precision)
    return nullcontext() if dtype is None else torch.autocast(inspection.target.device, dtype)


def _state(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]


def _peak_of_second(step: Callable[[], None], device: torch.device, held: list[Tensor]) -> int:
    """What the second of two steps takes at most, with the tensors held before the first."""
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
    return running_peak(events, before=sum(t.nbytes for t in held), since_ns=start)
