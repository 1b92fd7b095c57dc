"""The figures of filters: of each layer, and of all layers that see the same grid.

Sizes and spectra, and how they are spread over the filters.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nifbuild.report.filter_windows import LayerKernels, effective_size, window_shares, window_sizes

LOW_FREQUENCY = 0.25
"""Cycles per pixel, half of the highest frequency along an axis: below it is what is called low."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Mean, standard deviation and quartiles over filters; one value, or one for each window.

    Attributes:
        mean: Float64, as all of them.
        std: That of these filters, not an estimate for others: 0 for a single one.
        first: A quarter of the filters lie below.
        median: Half of them do.
        third: Three quarters do.
    """

    mean: Float[Tensor, " *shape"]
    std: Float[Tensor, " *shape"]
    first: Float[Tensor, " *shape"]
    median: Float[Tensor, " *shape"]
    third: Float[Tensor, " *shape"]

    @classmethod
    def over_filters(cls, values: Float[Tensor, "filters ..."]) -> "Spread":
        """That of values which belong to the filters."""
        values = values.double()
        # `torch.quantile` refuses more than 16 million values; sorting has no such limit.
        ordered = values.sort(0).values
        first, median, third = (_quantile(ordered, share) for share in (0.25, 0.5, 0.75))
        return cls(values.mean(0), values.std(0, correction=0), first, median, third)

    def as_document(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "mean": self.mean.tolist(),
            "std": self.std.tolist(),
            "quartiles": [value.tolist() for value in (self.first, self.median, self.third)],
        }


def _quantile(ordered: Tensor, share: float) -> Tensor:
    """Interpolated between neighbours."""
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return torch.lerp(ordered[below], ordered[above], place - below)


@dataclass(frozen=True, slots=True)
class RadialSpectra:
    """The spectra of kernels, as a function of the distance from zero frequency.

    Attributes:
        cycles_per_pixel: The middle of each annulus. Those beyond 1/2 lie in the plane's corners.
        magnitude: Mean |K| over each annulus, over the root mean square of |K| over the plane: 1
            where a kernel passes as much as it does on average.
        low_share: The share of sum |K|^2 below `LOW_FREQUENCY`.
        white_low_share: The same of a kernel that passes all frequencies alike.
    """

    cycles_per_pixel: Float[Tensor, " annuli"]
    magnitude: Float[Tensor, "filters annuli"]
    low_share: Float[Tensor, " filters"]
    white_low_share: float


def radial_spectra(kernels: Float[Tensor, "filters height width"]) -> RadialSpectra:
    """The radial spectra of kernels; of one that is zero everywhere, zeros.

    Annuli are as wide as the frequencies of the longer side are apart; one that no frequency of the
    grid falls into is left out.
    """
    height, width = kernels.shape[-2:]
    power = torch.fft.fft2(kernels).abs().double().square()
    total = power.sum((1, 2))
    radius = torch.hypot(
        torch.fft.fftfreq(height, dtype=torch.float64)[:, None],
        torch.fft.fftfreq(width, dtype=torch.float64),
    )
    magnitude = (power / _positive(total / (height * width))[:, None, None]).sqrt()
    annulus, counts = _annuli(radius, max(height, width))
    sums = magnitude.new_zeros(len(kernels), len(counts))
    sums.index_add_(1, annulus.flatten(), magnitude.flatten(1))
    filled = counts > 0
    low = radius < LOW_FREQUENCY
    return RadialSpectra(
        (torch.arange(len(counts)).double() / max(height, width))[filled],
        (sums / counts.clamp_min(1))[:, filled],
        power[:, low].sum(1) / _positive(total),
        low.double().mean().item(),
    )


def _annuli(radius: Tensor, size: int) -> tuple[Int[Tensor, "height width"], Int[Tensor, " _"]]:
    annulus = (radius * size).round().long()
    return annulus, torch.bincount(annulus.flatten())


def _positive(values: Tensor) -> Tensor:
    return values.clamp_min(torch.finfo(values.dtype).tiny)


@dataclass(frozen=True, slots=True)
class FilterFigures:
    """How large the filters are that see one grid, and what they pass.

    Attributes:
        paths: Their layers.
        grid: Height and width in pixels.
        num_filters: How many there are.
        windows: Widths of the odd windows, in pixels.
        mass: Share of sum |k| in each window.
        energy: Share of sum k^2 in each window.
        mass_sizes: By share, the width in pixels of the smallest odd window with that share of the
            mass.
        energy_sizes: The same of the energy.
        cycles_per_pixel: Distances from zero frequency.
        magnitude: Mean |K| at these, over the root mean square of |K|.
        low_share: Share of the energy below 1/4 cycle per pixel.
        white_low_share: The same of white filters.
    """

    paths: tuple[str, ...]
    grid: tuple[int, int]
    num_filters: int
    windows: tuple[int, ...]
    mass: Spread
    energy: Spread
    mass_sizes: dict[float, Spread]
    energy_sizes: dict[float, Spread]
    cycles_per_pixel: tuple[float, ...]
    magnitude: Spread
    low_share: Spread
    white_low_share: float

    def as_document(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "grid": list(self.grid),
            "num_filters": self.num_filters,
            "windows": list(self.windows),
            "mass": self.mass.as_document(),
            "energy": self.energy.as_document(),
            "effective_size": {
                name: {f"{share:g}": size.as_document() for share, size in sizes.items()}
                for name, sizes in (("mass", self.mass_sizes), ("energy", self.energy_sizes))
            },
            "spectrum": {
                "cycles_per_pixel": list(self.cycles_per_pixel),
                "magnitude": self.magnitude.as_document(),
                "low_share": self.low_share.as_document(),
                "white_low_share": self.white_low_share,
            },
        }


@dataclass(frozen=True, slots=True)
class _Values:
    """What is known of each filter of a layer."""

    path: str
    grid: tuple[int, int]
    mass: Float[Tensor, "filters windows"]
    energy: Float[Tensor, "filters windows"]
    spectra: RadialSpectra


def measure_filters(
    layers: Sequence[LayerKernels], shares: Sequence[float]
) -> tuple[tuple[FilterFigures, ...], tuple[FilterFigures, ...]]:
    """The figures of each layer, in order; and of each grid, all its filters taken together.

    Grids come in the order in which layers see them first.

    Args:
        layers: From `layer_kernels`.
        shares: For which to give effective sizes; above 0, at most 1.
    """
    values = [
        _Values(
            layer.path,
            layer.grid,
            window_shares(layer.kernels, "mass"),
            window_shares(layer.kernels, "energy"),
            radial_spectra(layer.kernels),
        )
        for layer in layers
    ]
    grids: dict[tuple[int, int], list[_Values]] = {}
    for value in values:
        grids.setdefault(value.grid, []).append(value)
    return (
        tuple(_figures([value], shares) for value in values),
        tuple(_figures(group, shares) for group in grids.values()),
    )


def _figures(values: list[_Values], shares: Sequence[float]) -> FilterFigures:
    first = values[0]
    mass = torch.cat([value.mass for value in values])
    energy = torch.cat([value.energy for value in values])
    return FilterFigures(
        paths=tuple(value.path for value in values),
        grid=first.grid,
        num_filters=len(mass),
        windows=window_sizes(*first.grid),
        mass=Spread.over_filters(mass),
        energy=Spread.over_filters(energy),
        mass_sizes={s: Spread.over_filters(effective_size(mass, s)) for s in shares},
        energy_sizes={s: Spread.over_filters(effective_size(energy, s)) for s in shares},
        cycles_per_pixel=tuple(first.spectra.cycles_per_pixel.tolist()),
        magnitude=Spread.over_filters(torch.cat([value.spectra.magnitude for value in values])),
        low_share=Spread.over_filters(torch.cat([value.spectra.low_share for value in values])),
        white_low_share=first.spectra.white_low_share,
    )
