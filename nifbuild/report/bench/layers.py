"""The layer and its contenders over a list of shapes: time, memory, bytes kept for backward."""

import re
import statistics
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

from nifbuild.errors import Mark, Problem, RunError
from nifbuild.report.bench.contenders import (
    DEFAULT_CONTENDERS,
    LAYER,
    THIS_LAYER,
    Contender,
    InputShape,
    Mixing,
)
from nifbuild.report.bench.crossover import Crossover, measure_crossover
from nifbuild.report.bench.prepared import Activations, Prepared
from nifbuild.report.bench.setting import Setting, first_line
from nifbuild.report.measure import (
    OnTurn,
    Quartiles,
    Sampler,
    Times,
    WarmSampler,
    measure_in_turn,
    measure_peak_bytes,
    measure_saved_bytes,
    ratios,
)

IMAGENET_STAGES = tuple(InputShape(32, 64 << i, 56 >> i, 56 >> i) for i in range(4))
"""The four stages of a ResNet-18 on 224 x 224 pixels."""
CIFAR_STAGES = tuple(InputShape(128, 64 << i, 32 >> i, 32 >> i) for i in range(4))
"""Those of the same network on 32 x 32 pixels, with a stem that keeps the size."""

_FLOOR = "floor"


def default_shapes(batch: int | None) -> list[InputShape]:
    """Those stages, with another batch where one is given."""
    shapes = [*IMAGENET_STAGES, *CIFAR_STAGES]
    return [replace(shape, batch=batch or shape.batch) for shape in shapes]


def shapes_of(texts: Sequence[str], batch: int | None, problems: list[Problem]) -> list[InputShape]:
    """Shapes such as `32x64x56x56`, each once, with another batch where one is given.

    What is no shape is added to the problems.
    """
    found = []
    for text in texts:
        if re.fullmatch(r"[1-9]\d*(x[1-9]\d*){3}", text) is None:
            fix = "batch x channels x height x width, such as 32x64x56x56"
            mark = Mark(f"--shape {text}")
            problems.append(Problem(f"'{text}' is no shape", mark, fix=fix, code="option"))
            continue
        own_batch, channels, height, width = map(int, text.split("x"))
        found.append(InputShape(batch or own_batch, channels, height, width))
    return list(dict.fromkeys(found))


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured of one module on one shape.

    Attributes:
        name: Of the contender.
        label: The same for tables, with the kernel's size.
        num_parameters: Weights and biases.
        forward_ms: In eval mode without gradients, as in deployment.
        forward_backward_ms: Forward and backward in training mode, with the gradients of input and
            parameters.
        forward_ratio: Its time over that of this layer in the same repeat.
        forward_backward_ratio: Likewise.
        forward_floors: Its time over that of one read and one write of the activations.
        forward_backward_floors: Likewise.
        peak_bytes: The most that was allocated at once, beyond the input and the output's gradient,
            during forward and backward: output, gradients, temporaries.
        saved_bytes: What the forward keeps for the backward, the input included, parameters not.
    """

    name: str
    label: str
    num_parameters: int
    forward_ms: Quartiles
    forward_backward_ms: Quartiles
    forward_ratio: Quartiles
    forward_backward_ratio: Quartiles
    forward_floors: Quartiles
    forward_backward_floors: Quartiles
    peak_bytes: int
    saved_bytes: int


@dataclass(frozen=True, slots=True)
class Failure:
    """Something that could not be run here, and why."""

    name: str
    label: str
    reason: str


@dataclass(frozen=True, slots=True)
class ShapeFigures:
    """All that was measured on one shape.

    Attributes:
        shape: Of the activations.
        floor_ms: One read and one write of the activations: a copy into a tensor that is there.
        contenders: The layer first.
        failures: Contenders that could not be run.
        crossover: Against depthwise convolutions; None where these could not be run.
    """

    shape: InputShape
    floor_ms: Quartiles
    contenders: tuple[Figures, ...]
    failures: tuple[Failure, ...]
    crossover: Crossover | None


@dataclass(frozen=True, slots=True)
class LayersReport:
    """The table over shapes."""

    environment: dict[str, Any]
    mixing: Mixing
    shapes: tuple[ShapeFigures, ...]

    def overall_ratios(self) -> dict[str, list[float]]:
        """By contender: its median ratio, forward and backward, on each shape that it ran on."""
        found: dict[str, list[float]] = {}
        for shape in self.shapes:
            for figures in shape.contenders:
                ratio = figures.forward_backward_ratio.median
                found.setdefault(figures.name, []).append(ratio)
        return found

    def document(self) -> dict[str, Any]:
        """Plain data for JSON."""
        overall = {
            name: {
                "geometric_mean": statistics.geometric_mean(medians),
                "min": min(medians),
                "max": max(medians),
                "num_shapes": len(medians),
            }
            for name, medians in self.overall_ratios().items()
        }
        return {
            "report": "layers",
            "environment": self.environment,
            "mixing": self.mixing,
            "shapes": [asdict(shape) for shape in self.shapes],
            "forward_backward_ratio": overall,
        }


@dataclass(frozen=True, slots=True)
class LayersRequest:
    """What to compare, on which shapes."""

    setting: Setting
    shapes: Sequence[InputShape] = IMAGENET_STAGES + CIFAR_STAGES
    contenders: Sequence[Contender] = DEFAULT_CONTENDERS
    mixing: Mixing = "depthwise"

    def measure(self, on_turn: OnTurn = lambda text: None) -> LayersReport:
        """Measures all of it; see `measure_shape`.

        Raises:
            RunError: If the layer itself cannot be run here, for lack of memory for example.
        """
        with self.setting.applied():
            environment = self.setting.environment()
            shapes = tuple(self._measure(index, on_turn) for index in range(len(self.shapes)))
        return LayersReport(environment, self.mixing, shapes)

    def _measure(self, index: int, on_turn: OnTurn) -> ShapeFigures:
        shape = self.shapes[index]
        where = f"{shape} ({index + 1} of {len(self.shapes)})"

        def tell(text: str) -> None:
            on_turn(f"{where}  {text}")

        try:
            return measure_shape(shape, self.contenders, self.mixing, self.setting, tell)
        except RuntimeError as error:
            raise RunError(f"{shape} cannot be measured: {first_line(error)}") from error


def measure_shape(
    shape: InputShape,
    contenders: Sequence[Contender],
    mixing: Mixing,
    setting: Setting,
    on_turn: OnTurn,
) -> ShapeFigures:
    """Measures the layer and its contenders on one shape, in turn and in pairs.

    Raises:
        RuntimeError: PyTorch cannot run the layer itself here.
    """
    layouts = {False: Activations(shape, setting)}
    if any(contender.channels_last for contender in contenders):
        layouts[True] = Activations(shape, setting, channels_last=True)
    activations = layouts[False]
    ready: dict[str, _Ready] = {}
    failures: list[Failure] = []
    for contender in (LAYER, *contenders):
        on_turn(f"warm-up and memory: {contender.name}")
        try:
            module = contender.build(shape, mixing)
            one = Prepared(module, layouts[contender.channels_last], setting)
            ready[contender.name] = _Ready.of(contender, one)
        except RuntimeError as error:  # out of memory, or a dtype that an operation does not have
            if contender is LAYER:
                raise
            failures.append(Failure(contender.name, contender.label(shape), first_line(error)))
    floor: dict[str, Sampler] = {"copy": WarmSampler(activations.copy, setting.device)}
    times = measure_in_turn(
        {_FLOOR: floor} | {name: one.samplers for name, one in ready.items()},
        reference=THIS_LAYER,
        repeats=setting.repeats,
        seconds=setting.seconds,
        on_turn=on_turn,
    )
    crossover: Crossover | None = None
    # Where PyTorch has no such convolution, its contenders are among the failures already.
    with suppress(RuntimeError):
        layer = ready[THIS_LAYER].prepared
        crossover = measure_crossover(layer, shape, activations, mixing, setting, on_turn)
    return ShapeFigures(
        shape=shape,
        floor_ms=Quartiles.of(times[_FLOOR]["copy"], 1e3),
        contenders=tuple(_figures(one, shape, times) for one in ready.values()),
        failures=tuple(failures),
        crossover=crossover,
    )


@dataclass(frozen=True, slots=True)
class _Ready:
    """A contender that has run, forward and backward, and whose memory is known."""

    contender: Contender
    prepared: Prepared
    samplers: dict[str, Sampler]
    peak_bytes: int
    saved_bytes: int

    @classmethod
    def of(cls, contender: Contender, one: Prepared) -> "_Ready":
        device, seconds = one.setting.device, one.setting.seconds
        forward = WarmSampler(one.infer, device, seconds)
        training = WarmSampler(one.forward_backward, device, seconds - forward.seconds)
        return cls(
            contender,
            one,
            {"forward": forward, "forward_backward": training},
            measure_peak_bytes(one.forward_backward, device),
            measure_saved_bytes(one.forward, one.module.parameters()),
        )


def _figures(one: _Ready, shape: InputShape, times: Times) -> Figures:
    own, layer, floor = times[one.contender.name], times[THIS_LAYER], times[_FLOOR]["copy"]
    return Figures(
        name=one.contender.name,
        label=one.contender.label(shape),
        num_parameters=sum(p.numel() for p in one.prepared.module.parameters()),
        forward_ms=Quartiles.of(own["forward"], 1e3),
        forward_backward_ms=Quartiles.of(own["forward_backward"], 1e3),
        forward_ratio=Quartiles.of(ratios(own["forward"], layer["forward"])),
        forward_backward_ratio=Quartiles.of(
            ratios(own["forward_backward"], layer["forward_backward"])
        ),
        forward_floors=Quartiles.of(ratios(own["forward"], floor)),
        forward_backward_floors=Quartiles.of(ratios(own["forward_backward"], floor)),
        peak_bytes=one.peak_bytes,
        saved_bytes=one.saved_bytes,
    )
