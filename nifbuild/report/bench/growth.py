"""How the layer's time grows with the size of the image, and so with that of its filter."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from nifbuild.errors import RunError
from nifbuild.report.bench.contenders import LAYER, InputShape
from nifbuild.report.bench.prepared import Activations, Prepared
from nifbuild.report.bench.setting import Setting, first_line
from nifbuild.report.measure import (
    OnTurn,
    Quartiles,
    Sampler,
    WarmSampler,
    measure_in_turn,
    ratios,
)

SIZES = (32, 64, 128, 256, 512)
_CHANNELS_OF_LARGEST = 2


@dataclass(frozen=True, slots=True)
class SizeFigures:
    """One size of image.

    Attributes:
        size: Its height and width in pixels, and those of the filter.
        shape: Of the activations; all sizes have the same number of values.
        forward_backward_ms: As in `layers.Figures`.
        growth: Its time over that of the smallest size in the same repeat.
        n_log_n_growth: The same if the time of an image of N pixels went with N log N.
        floors: Its time over that of one read and one write of the activations.
    """

    size: int
    shape: InputShape
    forward_backward_ms: Quartiles
    growth: Quartiles
    n_log_n_growth: float
    floors: Quartiles


@dataclass(frozen=True, slots=True)
class GrowthReport:
    """The table over sizes."""

    environment: dict[str, Any]
    sizes: tuple[SizeFigures, ...]

    def document(self) -> dict[str, Any]:
        """Plain data for JSON."""
        sizes = [asdict(figures) for figures in self.sizes]
        return {"report": "growth", "environment": self.environment, "sizes": sizes}


@dataclass(frozen=True, slots=True)
class GrowthRequest:
    """Which sizes to time, from small to large.

    As the sizes double, the number of channels goes down by four: all transform the same number of
    values and move the same number of bytes, so that what grows is the work for each value.
    """

    setting: Setting
    batch: int = 32
    sizes: Sequence[int] = SIZES

    def shapes(self) -> dict[int, InputShape]:
        """The activations of each size."""
        largest = max(self.sizes)
        return {
            size: InputShape(self.batch, _CHANNELS_OF_LARGEST * (largest // size) ** 2, size, size)
            for size in self.sizes
        }

    def measure(self, on_turn: OnTurn = lambda text: None) -> GrowthReport:
        """Times the layer, forward and backward, on all sizes in turn.

        Raises:
            RunError: If the layer cannot be run here, for lack of memory for example.
        """
        with self.setting.applied():
            try:
                return self._measure(on_turn)
            except RuntimeError as error:
                raise RunError(f"the layer cannot be run: {first_line(error)}") from error

    def _measure(self, on_turn: OnTurn) -> GrowthReport:
        setting, device = self.setting, self.setting.device
        entries: dict[str, Mapping[str, Sampler]] = {}
        for size, shape in self.shapes().items():
            on_turn(f"warm-up: {shape}")
            activations = Activations(shape, setting)
            layer = Prepared(LAYER.build(shape), activations, setting)
            entries[str(size)] = {
                "floor": WarmSampler(activations.copy, device),
                "forward_backward": WarmSampler(layer.forward_backward, device, setting.seconds),
            }
        smallest = str(min(self.sizes))
        times = measure_in_turn(
            entries,
            reference=smallest,
            repeats=setting.repeats,
            seconds=setting.seconds,
            on_turn=on_turn,
        )
        reference = times[smallest]["forward_backward"]
        return GrowthReport(
            setting.environment(),
            tuple(
                SizeFigures(
                    size=size,
                    shape=shape,
                    forward_backward_ms=Quartiles.of(times[str(size)]["forward_backward"], 1e3),
                    growth=Quartiles.of(ratios(times[str(size)]["forward_backward"], reference)),
                    n_log_n_growth=math.log(size) / math.log(min(self.sizes)),
                    floors=Quartiles.of(
                        ratios(times[str(size)]["forward_backward"], times[str(size)]["floor"])
                    ),
                )
                for size, shape in self.shapes().items()
            ),
        )
