"""What of the kernels is shown: the principal components of a grid, and samples of each layer.

Source of the components: Grabinski, Keuper, Keuper (arXiv 2307.10001), figure 1: those of all
kernels of a stage, with the share of the variance that each explains.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from nifbuild.report.filter_windows import LayerKernels, effective_size, window_shares

NUM_COMPONENTS = 6
_MAX_FILTERS = 1000
NUM_SAMPLES = 8
_SHOWN_ENERGY = 0.95


@dataclass(frozen=True, slots=True)
class Components:
    """The principal components of a set of kernels.

    Each kernel is divided by the root of its energy first, so that strong ones count no more than
    weak ones, and the mean of all is subtracted.

    Attributes:
        grid: Height and width in pixels.
        num_filters: How many kernels there are.
        num_used: How many the components are those of: at most 1000, evenly chosen.
        explained: The share of the variance for each component, the largest first.
        images: The components, with their origin at (height // 2, width // 2); of energy 1, their
            largest value positive.
    """

    grid: tuple[int, int]
    num_filters: int
    num_used: int
    explained: tuple[float, ...]
    images: Float[Tensor, "components height width"]

    def as_document(self) -> dict[str, Any]:
        """Plain data for JSON; the components themselves are in the plot."""
        return {
            "grid": list(self.grid),
            "num_filters": self.num_filters,
            "num_used": self.num_used,
            "explained_variance": list(self.explained),
        }


def measure_components(layers: Sequence[LayerKernels]) -> tuple[Components, ...]:
    """The first `NUM_COMPONENTS` of each grid, in the order in which layers see the grids.

    There are fewer where so many do not exist, and none where all kernels are alike.
    """
    grids: dict[tuple[int, int], list[Tensor]] = {}
    for layer in layers:
        grids.setdefault(layer.grid, []).append(layer.kernels)
    return tuple(_components(grid, torch.cat(kernels)) for grid, kernels in grids.items())


def _components(
    grid: tuple[int, int], kernels: Float[Tensor, "filters height width"]
) -> Components:
    used = min(len(kernels), _MAX_FILTERS)
    chosen = torch.linspace(0, len(kernels) - 1, used).round().long()
    rows = kernels[chosen].flatten(1).double()
    rows = rows / rows.norm(dim=1, keepdim=True).clamp_min(torch.finfo(rows.dtype).tiny)
    rows = rows - rows.mean(0)
    # Of the Gram matrix: a thousand kernels of a large image have fifty thousand pixels each.
    variances, weights = torch.linalg.eigh(rows @ rows.T)
    variances, weights = variances.flip(0).clamp_min(0), weights.flip(1)
    total = variances.sum().item()
    shares = (variances / total).tolist() if total > 1e-12 * used else []
    kept = [share for share in shares[:NUM_COMPONENTS] if share > 1e-9]
    images = (weights[:, : len(kept)].T @ rows).unflatten(1, grid)
    return Components(grid, len(kernels), used, tuple(kept), _normalized(images))


def _normalized(images: Tensor) -> Tensor:
    """Of energy 1; of the two signs the one that makes the largest value positive."""
    if not len(images):
        return images
    flat = images.flatten(1)
    largest = flat.gather(1, flat.abs().argmax(1, keepdim=True))
    flat = flat / flat.norm(dim=1, keepdim=True) * largest.sign()
    normalized: Tensor = flat.reshape(images.shape)
    return normalized


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
