"""Whole training steps of one spec, or of two in pairs."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nifbuild.compile import build_model
from nifbuild.errors import Problem, RunError, SpecError
from nifbuild.report.bench.setting import Setting, first_line
from nifbuild.report.measure import (
    OnTurn,
    Quartiles,
    Sampler,
    WarmSampler,
    measure_in_turn,
    measure_peak_bytes,
    measure_saved_bytes,
    ratios,
)
from nifbuild.spec.image_size import size_overrides
from nifbuild.spec.images_at_once import too_few_images
from nifbuild.spec.resolve import Resolved, load_spec
from nifbuild.train.objective import Objective

_FIGURE = "step"


@dataclass(frozen=True, slots=True)
class StepFigures:
    """Training steps of one spec.

    Attributes:
        name: Of the spec.
        spec: Its file.
        input_shape: Channels, height and width.
        num_parameters: Of the model.
        step_ms: Forward, loss, backward, and an update by SGD with momentum.
        ratio: Its time over that of the first spec in the same repeat.
        peak_bytes: The most that was allocated at once during a step, beyond weights, momentum,
            images and labels: activations, gradients, temporaries.
        saved_bytes: What the forward keeps for the backward, the images included.
    """

    name: str
    spec: str
    input_shape: tuple[int, ...]
    num_parameters: int
    step_ms: Quartiles
    ratio: Quartiles
    peak_bytes: int
    saved_bytes: int


@dataclass(frozen=True, slots=True)
class StepReport:
    """Training steps of the spec, and of the one it is compared with."""

    environment: dict[str, Any]
    batch: int
    specs: tuple[StepFigures, ...]
    compiled: bool = False

    def document(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "report": "step",
            "environment": self.environment,
            "batch_size": self.batch,
            "compiled": self.compiled,
            "specs": [asdict(figures) for figures in self.specs],
        }


class NoiseStep:
    """A model, its optimizer, and a batch of noise with random labels.

    Args:
        resolved: The spec. Its own optimizer and augmentation play no part: specs that are compared
            differ in their models only.
        batch: Images in a step.
        setting: In which it runs.
        compiles: Whether `torch.compile` makes its kernels.
    """

    def __init__(
        self, resolved: Resolved, batch: int, setting: Setting, *, compiles: bool = False
    ) -> None:
        graph, self.setting = resolved.graph, setting
        self.model: nn.Module = build_model(resolved).to(setting.device, setting.stored_dtype)
        self.model.train()
        if compiles:
            self.model.compile()
        self.objective = Objective(head_weights=tuple(head.weight for head in graph.heads))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-3, momentum=0.9)
        image = (graph.input_shape.channels, *graph.input_shape.size)
        self.images = torch.randn(batch, *image, device=setting.device, dtype=setting.stored_dtype)
        classes = graph.output_shape.channels
        self.labels = torch.randint(classes, (batch,), device=setting.device)

    def loss(self) -> Tensor:
        """Forward and loss."""
        batch = (self.images, self.labels)
        found = self.objective(self.model, *batch, self.setting.autocasting)
        return found.loss + found.penalty

    def step(self) -> None:
        """All of it; begins and ends without gradients."""
        self.loss().backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


@dataclass(frozen=True, slots=True)
class StepRequest:
    """Which specs to train a few steps of.

    Attributes:
        spec: The spec.
        against: The one to compare it with, if any.
        batch: Images in a step.
        size: Height and width of the images; None: as the spec says.
        compiles: Whether the models are compiled, as by `train.compile`.
    """

    setting: Setting
    spec: Path
    against: Path | None = None
    batch: int = 32
    size: tuple[int, int] | None = None
    compiles: bool = False

    def measure(self, on_turn: OnTurn = lambda text: None) -> StepReport:
        """Times both in turn; the ratio is above 1 where the spec is faster than the other one.

        Raises:
            SpecError: If a spec is wrong, or no classifier.
            RunError: If a step cannot be run here.
        """
        paths = [self.spec] + ([self.against] if self.against is not None else [])
        resolved = [load_at_size(path, self.size) for path in paths]
        with self.setting.applied():
            try:
                found = self._measure(paths, resolved, on_turn)
                environment = self.setting.environment()
            except RuntimeError as error:
                raise RunError(f"a training step cannot be run: {first_line(error)}") from error
        return StepReport(environment, self.batch, found, self.compiles)

    def _measure(
        self, paths: list[Path], resolved: list[Resolved], on_turn: OnTurn
    ) -> tuple[StepFigures, ...]:
        setting = self.setting
        steps = []
        entries: dict[str, Mapping[str, Sampler]] = {}
        for index, (path, spec) in enumerate(zip(paths, resolved, strict=True)):
            problem = too_few_images(spec.graph, self.batch, spec.tree)
            if problem is not None:
                raise SpecError(problem)
            entry = f"{path} (spec {index + 1})"  # a spec may be compared with itself
            on_turn(f"warm-up: {entry}")
            steps.append(NoiseStep(spec, self.batch, setting, compiles=self.compiles))
            sampler = WarmSampler(steps[-1].step, setting.device, setting.seconds)
            entries[entry] = {_FIGURE: sampler}
        all_times = measure_in_turn(
            entries,
            reference=next(iter(entries)),
            repeats=setting.repeats,
            seconds=setting.seconds,
            on_turn=on_turn,
        )
        times = [all_times[entry][_FIGURE] for entry in entries]
        return tuple(
            StepFigures(
                name=spec.name,
                spec=str(path),
                input_shape=tuple(step.images.shape[1:]),
                num_parameters=sum(p.numel() for p in step.model.parameters()),
                step_ms=Quartiles.of(own, 1e3),
                ratio=Quartiles.of(ratios(own, times[0])),
                peak_bytes=measure_peak_bytes(step.step, setting.device),
                saved_bytes=measure_saved_bytes(step.loss, step.model.parameters()),
            )
            for path, spec, step, own in zip(paths, resolved, steps, times, strict=True)
        )


def load_at_size(path: Path, size: tuple[int, int] | None) -> Resolved:
    """The spec for images of this size, whatever it says itself.

    Raises:
        SpecError: If it is wrong, also at that size, or if its model is no classifier.
    """
    resolved = load_spec(path)
    if size is not None:
        # Data may want a size, too, and then has to agree.
        wanted = size_overrides(size, has_data=resolved.spec.data is not None)
        resolved = load_spec(path, overrides=wanted)
    shape = resolved.graph.output_shape
    if shape.is_image:
        what = f"the model ends in an image of {shape}, and a training step needs classes"
        fix = "end it with global_avg_pool, flatten and linear"
        raise SpecError(Problem(what, resolved.mark("model"), "model", fix, "output"))
    return resolved
