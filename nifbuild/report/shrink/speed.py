"""Inference before and after, on this machine."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nifbuild.report.measure import Quartiles, WarmSampler, measure_in_turn, ratios

_REPEATS = 11
_SECONDS = 10.0


@dataclass(frozen=True)
class Speed:
    """Forward passes of a batch.

    Attributes:
        batch: Images in it.
        before_ms: Of the model with filters as large as the image; their spectra are kept.
        after_ms: Of the one with ordinary convolutions.
        ratio: Time before over time after, of the same repeat: above 1 where it became faster.
    """

    batch: int
    before_ms: Quartiles
    after_ms: Quartiles
    ratio: Quartiles


def compare_speed(before: nn.Module, after: nn.Module, images: Tensor) -> Speed:
    """Times both in turn, in eval mode, on the device where models and images lie."""

    def passing(model: nn.Module) -> Callable[[], object]:
        def run() -> object:
            with torch.inference_mode():
                return model(images)

        return run

    models = {"before": before.eval(), "after": after.eval()}
    entries = {
        name: {"forward": WarmSampler(passing(model), images.device)}
        for name, model in models.items()
    }
    times = measure_in_turn(entries, reference="after", repeats=_REPEATS, seconds=_SECONDS)
    old, new = times["before"]["forward"], times["after"]["forward"]
    return Speed(
        len(images), Quartiles.of(old, 1e3), Quartiles.of(new, 1e3), Quartiles.of(ratios(old, new))
    )
