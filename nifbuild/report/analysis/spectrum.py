"""Which frequencies a kernel passes: the mean of its spectrum over annuli."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

LOW_FREQUENCY = 0.25
"""Cycles per pixel, half of the highest frequency along an axis: below it is what is called low."""


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
