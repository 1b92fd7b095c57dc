"""Initial filters: unit power gain at every size, different over channels, reproducible."""

from typing import Any

import pytest
import torch

from nifbuild.nn import ImplicitFrequencyConv2d

SIZES = [4, 7, 8, 14, 16, 28, 32, 56, 112, 224]


def power_gain(size: int, **arguments: Any) -> float:
    """Mean energy of the kernels, over 8 draws of 32 filters: the gain of white noise."""
    gains = []
    for seed in range(8):
        torch.manual_seed(seed)
        layer = ImplicitFrequencyConv2d(32, 32, mixing="depthwise", **arguments)
        with torch.no_grad():
            gains.append(layer.spatial_kernel(size, size).square().sum((1, 2)).mean())
    return torch.stack(gains).mean().item()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("coordinates", ["cycles_per_image", "cycles_per_pixel"])
def test_power_gain_is_about_one(size: int, coordinates: str) -> None:
    assert 0.7 < power_gain(size, coordinates=coordinates) < 1.4


@pytest.mark.parametrize("arguments", [{"activation": "gelu"}, {"activation": "sine"}])
@pytest.mark.parametrize("size", SIZES[::3])
def test_power_gain_of_other_activations(size: int, arguments: dict[str, Any]) -> None:
    assert 0.5 < power_gain(size, **arguments) < 2


@pytest.mark.parametrize(("in_channels", "out_channels"), [(32, 64), (64, 32)])
def test_variance_of_the_output_is_that_of_a_kaiming_convolution(
    in_channels: int, out_channels: int
) -> None:
    variances = []
    for seed in range(8):
        torch.manual_seed(seed)
        layer = ImplicitFrequencyConv2d(in_channels, out_channels)
        variances.append(layer(torch.randn(4, in_channels, 32, 32)).var().detach())
    expected = 2 * in_channels / out_channels
    assert 0.75 < torch.stack(variances).mean().item() / expected < 1.4


def test_filters_differ_and_are_not_trivial() -> None:
    torch.manual_seed(0)
    layer = ImplicitFrequencyConv2d(64, 64, mixing="depthwise")
    with torch.no_grad():
        kernels = layer.spatial_kernel(32, 32).flatten(1)
    power = torch.linalg.svdvals(kernels).square()
    share = power / power.sum()
    assert torch.exp(-(share * share.log()).sum()) > 3  # effective rank; 9 numbers span them all
    at_origin = kernels[:, 0].square() / kernels.square().sum(1)
    assert at_origin.mean() < 0.6


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
        assert 0.5 < layer.spatial_kernel(16, 16).square().sum((1, 2)).mean() < 2


@pytest.mark.parametrize("hidden", [(8,), (16, 128, 32), (1, 1)], ids=str)
def test_other_widths_have_finite_filters(hidden: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    layer = ImplicitFrequencyConv2d(8, 8, hidden=hidden, mixing="depthwise")
    with torch.no_grad():
        for size in SIZES:
            energy = layer.spatial_kernel(size, size).square().sum((1, 2)).mean()
            assert 0.05 < energy < 10
