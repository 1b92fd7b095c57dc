"""Which kernels of a layer to show."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from nifbuild.report.kernels import LayerKernels, effective_size, window_shares

NUM_SAMPLES = 8
_SHOWN_ENERGY = 0.95


@dataclass(frozen=True, slots=True)
class Sample:
    """Some kernels of a layer, from the smallest to the largest.

    Attributes:
        path: The layer.
        grid: Height and width of the whole kernels.
        kernels: Cut to the smallest odd window that holds 95 % of the energy of each of them, or
            whole where that is larger than the grid.
    """

    path: str
    grid: tuple[int, int]
    kernels: Float[Tensor, "samples height width"]


def choose_samples(layers: Sequence[LayerKernels]) -> tuple[Sample, ...]:
    """At most `NUM_SAMPLES` kernels of each layer, evenly chosen by their size."""
    return tuple(_sample(layer) for layer in layers)


def _sample(layer: LayerKernels) -> Sample:
    shares = window_shares(layer.kernels, "energy")
    # By the mean over windows: a size in whole pixels would leave many in no order.
    order = shares.mean(1).argsort(descending=True, stable=True)
    number = min(NUM_SAMPLES, len(order))
    chosen = order[torch.linspace(0, len(order) - 1, number).round().long()]
    window = int(effective_size(shares[chosen], _SHOWN_ENERGY).max())
    return Sample(layer.path, layer.grid, crop(layer.kernels[chosen], window))


def crop(
    kernels: Float[Tensor, "*batch height width"], window: int
) -> Float[Tensor, "*batch crop_height crop_width"]:
    """The odd window around the origin, as far as the grid has it."""
    for dim in (-2, -1):
        size = kernels.shape[dim]
        first = max(0, size // 2 - window // 2)
        last = min(size, size // 2 + window // 2 + 1)
        kernels = kernels.narrow(dim, first, last - first)
    return kernels
