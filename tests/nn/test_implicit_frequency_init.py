"""Initial filters: of the wanted power, as diverse as ordinary ones, quick to learn any 3x3."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from nifbuild.nn import FreeFrequencyConv2d, ImplicitFrequencyConv2d, ImplicitSpatialConv2d

STAGES = [(16, 32), (32, 16), (64, 8), (128, 4)]
"""Channels and pixels of the stages of a ResNet-18 of width 16 on images of 32 pixels."""

VARIANTS: list[dict[str, Any]] = [
    {},
    {"harmonics": 3},
    {"coordinates": "cycles_per_pixel"},
    {"coordinates": "cycles_per_image", "hidden": (8, 4)},
    {"networks": "shared"},
    {"activation": "gelu"},
    {"activation": "sine"},
    {"activation": "sine", "coordinates": "cycles_per_image", "hidden": (4,)},
]


def kernels(size: int, filters: int = 32, seed: int = 0, **arguments: Any) -> Tensor:
    """Initial kernels for images of this size, [filters, size, size], with a centred origin."""
    torch.manual_seed(seed)
    layer = ImplicitFrequencyConv2d(
        filters, filters, mixing="depthwise", init_size=size, **arguments
    )
    with torch.no_grad():
        return layer.spatial_kernel(size, size, centered=True)


def effective_rank(kernels: Tensor) -> float:
    share = torch.linalg.svdvals(kernels.flatten(1)).square()
    share = share / share.sum()
    return math.exp(-torch.special.xlogy(share, share).sum())


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
@pytest.mark.parametrize("size", [1, 2, 4, 7, 16, 33, 56])
def test_every_filter_has_the_energy_of_one(variant: dict[str, Any], size: int) -> None:
    energy = kernels(size, **variant).square().sum((1, 2))
    torch.testing.assert_close(energy, torch.ones_like(energy), atol=2e-3, rtol=0)


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
@pytest.mark.parametrize(("filters", "size"), STAGES)
def test_filters_are_as_diverse_as_ordinary_ones(
    variant: dict[str, Any], filters: int, size: int
) -> None:
    """For each seed. Random 3x3 filters have a rank of 9 at most, and 1/9 in the centre.

    Networks of 8 and 4 units span no more than that, and a draw of theirs somewhat less.
    """
    for seed in range(4):
        k = kernels(size, filters, seed, **variant)
        assert effective_rank(k) > (4.5 if "hidden" in variant else 7.5)
        share = k.square() / k.square().sum((1, 2), keepdim=True)
        assert share.mean(0).max() < 1 / 3


def test_filters_do_not_start_small() -> None:
    """Of 32x32 pixels, 3x3 have half of the energy or less in most, and 15x15 have nearly all."""
    for seed in range(4):
        k = kernels(32, 64, seed).square()
        small, large = (
            k[:, 16 - n : 17 + n, 16 - n : 17 + n].sum((1, 2)) / k.sum((1, 2)) for n in (1, 7)
        )
        assert small.median() < 0.65 and small.min() < 0.3 and large.min() > 0.9


@pytest.mark.parametrize("size", [(4, 4), (8, 12), (32, 32)], ids=str)
def test_in_cycles_per_pixel_at_other_sizes(size: tuple[int, int]) -> None:
    """A periodic filter is the same in pixels: its power holds wherever it fits."""
    torch.manual_seed(0)
    layer = ImplicitFrequencyConv2d(32, 32, mixing="depthwise", init_size=16)
    with torch.no_grad():
        energy = layer.spatial_kernel(*size).square().sum((1, 2))
    assert 0.7 < energy.mean() < 1.4


def test_periodic_spectra_have_no_jump() -> None:
    """On a fine grid, neighbours differ across Nyquist as they differ elsewhere."""
    steps = {}
    for coordinates in ("periodic", "cycles_per_pixel"):
        torch.manual_seed(0)
        layer = ImplicitFrequencyConv2d(
            64, 64, mixing="depthwise", coordinates=coordinates, init_size=16
        )
        with torch.no_grad():
            spectrum = layer.spectrum(255, 255)  # odd: the highest frequencies are +-127
        across = (spectrum[:, 127] - spectrum[:, 128]).abs().mean()
        inside = spectrum[:, :127].diff(dim=1).abs().mean()
        steps[coordinates] = (across / inside).item()
    assert steps["periodic"] < 3 < 10 < steps["cycles_per_pixel"]


def test_sine_units_over_plain_frequencies_start_as_taps() -> None:
    """With 4 units every filter is an ordinary 3x3, with 12 an ordinary 5x5."""
    for units, reach in ((4, 1), (12, 2)):
        for coordinates in ("cycles_per_image", "cycles_per_pixel"):
            k = kernels(9, activation="sine", hidden=(units,), coordinates=coordinates)
            beyond = k.clone()
            beyond[:, 4 - reach : 5 + reach, 4 - reach : 5 + reach] = 0
            assert beyond.abs().max() < 1e-5
            assert effective_rank(k) > 0.6 * (2 * reach + 1) ** 2


@pytest.mark.parametrize("kind", ["implicit_frequency", "free_frequency", "taps"])
@pytest.mark.parametrize("size", [size for _, size in STAGES])
def test_learns_any_filter_of_3x3(kind: str, size: int) -> None:
    """Adam, at five times 1e-3, on sum |k - target|^2 for targets of unit energy."""
    torch.manual_seed(0)
    filters = 16
    layer: FreeFrequencyConv2d | ImplicitFrequencyConv2d
    if kind == "free_frequency":
        layer = FreeFrequencyConv2d(filters, filters, size, mixing="depthwise")
    else:
        own: dict[str, Any] = {"activation": "sine", "hidden": (4,)}
        own["coordinates"] = "cycles_per_pixel"
        layer = ImplicitFrequencyConv2d(
            filters, filters, mixing="depthwise", init_size=size, **own if kind == "taps" else {}
        )
    target = torch.zeros(filters, size, size)
    target[:, :3, :3] = torch.randn(filters, 3, 3)
    target = target.roll((-1, -1), (1, 2)) / target.flatten(1).norm(dim=1)[:, None, None]
    optimizer = torch.optim.Adam(layer.filter_weights(), lr=5e-3)
    residuals = []
    for _ in range(1500):
        optimizer.zero_grad()
        residual = (layer.spatial_kernel(size, size) - target).square().sum((1, 2)).mean()
        residual.backward()
        optimizer.step()
        residuals.append(residual.item())
        if residuals[-1] < 0.02:
            break
    assert 1.5 < residuals[0] < 2.5
    assert residuals[-1] < 0.02


@pytest.mark.parametrize("positions", ["image", "pixels"])
@pytest.mark.parametrize("size", [4, 7, 16, 56])
def test_functions_of_position_blow_up_no_image(size: int, positions: Any) -> None:
    """No frequency passes with a gain beyond 1, and in each filter one passes with that."""
    torch.manual_seed(0)
    layer = ImplicitSpatialConv2d(64, 64, mixing="depthwise", positions=positions, init_size=size)
    with torch.no_grad():
        gain = layer.spectrum(size, size).abs().amax((1, 2))
    torch.testing.assert_close(gain, torch.ones(64), atol=1e-4, rtol=0)


def test_is_reproducible_and_redrawn() -> None:
    torch.manual_seed(1)
    first = ImplicitFrequencyConv2d(4, 4, bias=True)
    torch.manual_seed(1)
    second = ImplicitFrequencyConv2d(4, 4, bias=True)
    torch.manual_seed(1)
    third = ImplicitFrequencyConv2d(4, 4, bias=True)
    torch.manual_seed(1)
    third.reset_parameters()
    assert all(map(torch.equal, first.parameters(), second.parameters()))
    assert first.bias is not None and not first.bias.any()
    before = [p.clone() for p in second.parameters() if p is not second.bias]
    second.reset_parameters()
    after = [p for p in second.parameters() if p is not second.bias]
    assert not any(map(torch.equal, before, after))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_in_another_dtype(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    layer = ImplicitFrequencyConv2d(16, 16, mixing="depthwise", dtype=dtype)
    with torch.no_grad():
        assert 0.5 < layer.spatial_kernel(32, 32).square().sum((1, 2)).mean() < 2


@pytest.mark.parametrize("hidden", [(8,), (16, 128, 32), (1, 1)], ids=str)
def test_other_widths_have_finite_filters(hidden: tuple[int, ...]) -> None:
    for size in (1, 7, 32):
        energy = kernels(size, 8, hidden=hidden).square().sum((1, 2))
        assert energy.isfinite().all() and 0.5 < energy.mean() < 1.5
