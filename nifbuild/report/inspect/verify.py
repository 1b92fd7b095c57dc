"""Trains and infers for real, to hold the predicted memory against the measured one.

The steps are those of `nifbuild train`: what the prediction overlooks is not overlooked here.
"""

import gc
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import record_function

from nifbuild.compile import build_model
from nifbuild.nn.tracing import own_constants
from nifbuild.report.inspect.inspection import Inspection
from nifbuild.report.inspect.prediction import blends
from nifbuild.report.inspect.targets import HALF
from nifbuild.report.measure import profiled, running_peak
from nifbuild.spec.pixel_data import IGNORED
from nifbuild.spec.resolve import Resolved
from nifbuild.train.ema import Ema
from nifbuild.train.objective import Objective
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
    it is `torch.cuda.max_memory_allocated` beyond what was allocated before, cuBLAS's workspace
    among it. The first step makes the optimizer's state, the first inference the spectra that are
    kept.

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
    # Accelerate takes a second to load: `inspect` does without it otherwise.
    from nifbuild.machine.device import Placement, accelerator_on
    from nifbuild.train.step import TrainingStep

    resolved = inspection.resolved
    train = resolved.spec.train
    cuts = min(train.accumulate, 2)  # the third micro-batch is as the second
    train = train.model_copy(update={"accumulate": cuts, "optimizer": inspection.optimizer})
    device = torch.device(inspection.target.device)
    before = _allocated(device)
    model, images = _model(inspection), _images(inspection, batch_size)
    targets = _targets(resolved, batch_size, device)
    average = None if train.ema is None else Ema(model, train.ema)
    with (
        own_constants(),
        torch.random.fork_rng([device] if device.type == "cuda" else []),
        accelerator_on(
            device, precision=inspection.target.precision, accumulate=cuts
        ) as accelerator,
    ):
        model.train()
        prepared, optimizer = accelerator.prepare(model, build_optimizer(model, train.optimizer))
        step = TrainingStep(
            spec=train,
            accelerator=accelerator,
            module=model,
            model=prepared,
            ema=average,
            optimizer=optimizer,
            objective=Objective.of(model, resolved),
            augmentation=_Given(images, targets),
            place=Placement(device, train.channels_last, torch.nn.Identity()),
        )
        nothing = torch.empty(cuts, 0)
        batch = {"images": nothing, "labels": nothing}
        held = [images, targets, *_state(model), *(_state(average.module) if average else ())]
        return _peak_of_second(lambda: step(batch, 0, train.optimizer.lr), device, held) - before


@dataclass(frozen=True)
class _Given:
    """Always the same images, which are ready."""

    images: Tensor
    targets: Tensor

    def train(self, images: Tensor, labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """As `nifbuild.data.Preprocess.train` gives them."""
        return self.images, self.targets


def _targets(resolved: Resolved, batch_size: int, device: torch.device) -> Tensor:
    """Random ones, as training has them: classes, of images or of pixels, or shares of each."""
    output = resolved.graph.output_shape
    if output.is_image:
        sizes = (batch_size, *output.size)
        masks = torch.randint(min(output.channels, IGNORED), sizes, device=device)
        return masks.to(torch.uint8)
    num_classes = output.num_elements
    if blends(resolved):
        return torch.rand(batch_size, num_classes, device=device).softmax(dim=1)
    return torch.randint(num_classes, (batch_size,), device=device)


def measure_inference(inspection: Inspection, batch_size: int) -> int:
    """The most bytes allocated at once in the second of two inferences."""
    before = _allocated(torch.device(inspection.target.device))
    model, images = _model(inspection).eval(), _images(inspection, batch_size)

    def infer() -> None:
        with torch.no_grad(), _autocast(inspection):
            model(images)

    with own_constants():
        return _peak_of_second(infer, images.device, [images, *_state(model)]) - before


def _allocated(device: torch.device) -> int:
    """Bytes on a GPU that are not of what is measured: cuBLAS allocates once for the process."""
    if device.type != "cuda":
        return 0
    gc.collect()
    for dtype in (torch.float32, *HALF.values()):
        torch.ones(16, 16, dtype=dtype, device=device) @ torch.ones(
            16, 16, dtype=dtype, device=device
        )
    return torch.cuda.memory_allocated(device)


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


def _peak_of_second(step: Callable[[], object], device: torch.device, held: list[Tensor]) -> int:
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
