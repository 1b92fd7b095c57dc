"""Mass in windows against closed forms."""

import math
from pathlib import Path

import pytest
import torch
from torch import nn

import nifbuild
from nifbuild.nn import FreeFrequencyConv2d
from nifbuild.report.filter_windows import (
    effective_size,
    layer_kernels,
    window_shares,
    window_sizes,
)

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("grid", "sizes"),
    [((1, 1), (1,)), ((2, 2), (1, 3)), ((5, 5), (1, 3, 5)), ((4, 7), (1, 3, 5, 7))],
)
def test_windows_grow_until_they_cover_the_grid(grid, sizes):
    assert window_sizes(*grid) == sizes


@pytest.mark.parametrize("grid", [(8, 8), (9, 9), (6, 11)])
def test_a_delta_lies_in_the_smallest_window(grid):
    kernel = torch.zeros(1, *grid)
    kernel[0, grid[0] // 2, grid[1] // 2] = -3
    assert torch.equal(window_shares(kernel), torch.ones(1, len(window_sizes(*grid))).double())
    assert effective_size(window_shares(kernel), 1.0).tolist() == [1]


@pytest.mark.parametrize("measure", ["mass", "energy"])
def test_a_constant_has_the_share_of_the_area(measure):
    shares = window_shares(torch.full((1, 9, 9), 2.0), measure)
    expected = torch.tensor([[(k / 9) ** 2 for k in (1, 3, 5, 7, 9)]], dtype=torch.float64)
    torch.testing.assert_close(shares, expected)
    assert effective_size(shares, 25 / 81).tolist() == [5]
    assert effective_size(shares, 0.5).tolist() == [7]


def test_an_even_grid_is_covered_by_the_window_one_larger():
    shares = window_shares(torch.ones(1, 4, 4))
    torch.testing.assert_close(shares, torch.tensor([[1 / 16, 9 / 16, 1.0]]).double())


@pytest.mark.parametrize("sigma", [0.8, 2.0, 5.0])
def test_a_gaussian_has_the_share_of_the_error_function(sigma):
    """Pixel sums of the density are differences of erf, so that the closed form is exact."""
    edges = torch.arange(-64, 66).double() - 0.5
    line = torch.erf(edges / (sigma * math.sqrt(2))).diff()
    shares = window_shares((line[:, None] * line)[None])[0]
    for index, share in enumerate(shares[:30]):
        half = (2 * index + 1) / 2
        assert share.item() == pytest.approx(math.erf(half / (sigma * math.sqrt(2))) ** 2, abs=1e-9)


def test_white_noise_has_the_share_of_the_area_on_average():
    noise = torch.randn(400, 32, 32, generator=torch.Generator().manual_seed(0))
    for measure in ("mass", "energy"):
        mean = window_shares(noise, measure).mean(0)
        area = torch.tensor([min(k * k, 1024) / 1024 for k in window_sizes(32, 32)]).double()
        area[-1] = 1.0
        torch.testing.assert_close(mean[:-1], area[:-1], atol=0.004, rtol=0.02)
        assert mean[-1] == 1


def test_a_zero_kernel_has_no_extent():
    assert effective_size(window_shares(torch.zeros(2, 5, 5)), 0.9).tolist() == [1, 1]


@pytest.mark.parametrize("share", [0.0, -0.1, 1.5])
def test_shares_out_of_range_are_refused(share):
    with pytest.raises(ValueError, match=r"`share` .* must be above 0"):
        effective_size(torch.ones(1, 3), share)


def test_kernels_are_those_of_the_grid_each_layer_sees():
    spec = nifbuild.load_spec(ROOT / "specs/resnet18_nif.yaml")
    model = nifbuild.build_model(spec).train()
    found = layer_kernels(model, (3, 24, 16))
    assert [kernels.path for kernels in found][:2] == ["layer1.0.conv1", "layer1.0.conv2"]
    assert found[0].grid == (24, 16)
    assert found[-1].grid == (3, 2)
    assert len(found) == 13
    assert all(module.training for module in model.modules())


def test_the_kernel_convolves_with_its_origin_at_the_centre():
    model = nn.Sequential(FreeFrequencyConv2d(1, 1, 7, mixing="depthwise"))
    (found,) = layer_kernels(model, (1, 7, 7))
    impulse = torch.zeros(1, 1, 7, 7)
    impulse[..., 3, 3] = 1
    torch.testing.assert_close(model(impulse)[0].detach(), found.kernels)
