"""What `analyze` measures, against closed forms and direct definitions."""

import json
import math

import numpy as np
import pytest
import torch
from torch import nn

import nifbuild
from nifbuild.nn import FreeFrequencyConv2d
from nifbuild.report.analysis.components import choose_samples, crop, measure_components
from nifbuild.report.analysis.filters import Spread, measure_filters, radial_spectra
from nifbuild.report.analysis.receptive_field import measure_receptive_fields, stage_ends
from nifbuild.report.filter_windows import LayerKernels


def layer(path: str, kernels: torch.Tensor) -> LayerKernels:
    return LayerKernels(path, FreeFrequencyConv2d(1, 1, 1), kernels)


def delta(height: int, width: int, row: int = 0, column: int = 0) -> torch.Tensor:
    kernel = torch.zeros(height, width)
    kernel[height // 2 + row, width // 2 + column] = 1
    return kernel


@pytest.mark.parametrize("shape", [(1,), (2,), (7, 3), (4, 2, 5)])
def test_spread_is_numpys(shape):
    values = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    found = Spread.over_filters(values)
    array = values.double().numpy()
    np.testing.assert_allclose(found.mean, array.mean(0))
    np.testing.assert_allclose(found.std, array.std(0))
    quartiles = np.percentile(array, [25, 50, 75], axis=0)
    np.testing.assert_allclose(torch.stack([found.first, found.median, found.third]), quartiles)
    document = json.loads(json.dumps(found.as_document()))
    np.testing.assert_allclose(document["quartiles"], quartiles)


@pytest.mark.parametrize("grid", [(16, 16), (9, 12)])
def test_a_delta_passes_all_frequencies_alike(grid):
    found = radial_spectra(delta(*grid, 2, -1)[None])
    torch.testing.assert_close(found.magnitude, torch.ones_like(found.magnitude))
    assert found.low_share.item() == pytest.approx(found.white_low_share)
    assert found.cycles_per_pixel[0] == 0


def test_white_low_share_tends_to_the_area_of_the_disc():
    found = radial_spectra(delta(256, 256)[None])
    assert found.white_low_share == pytest.approx(math.pi / 16, rel=0.01)


def test_a_gaussian_has_the_spectrum_of_a_gaussian():
    sigma, size = 2.0, 64
    line = torch.exp(-((torch.arange(size) - size // 2) ** 2) / (2 * sigma**2))
    found = radial_spectra((line[:, None] * line)[None])
    radius = found.cycles_per_pixel
    expected = torch.exp(-2 * (math.pi * sigma * radius) ** 2)
    shape = found.magnitude[0] / found.magnitude[0, 0]
    # Over an annulus the radius varies by half a bin each way.
    torch.testing.assert_close(shape[:12], expected[:12], atol=0.02, rtol=0)
    inside = 1 - math.exp(-4 * (math.pi * sigma * 0.25) ** 2)
    assert found.low_share.item() == pytest.approx(inside, abs=1e-3)


def test_magnitude_is_the_mean_over_each_annulus():
    """Frequency by frequency, with loops, on a grid that is not square."""
    kernel = torch.randn(6, 10, generator=torch.Generator().manual_seed(1))
    plane = np.abs(np.fft.fft2(kernel.double().numpy()))
    plane /= np.sqrt((plane**2).mean())
    rings: dict[int, list[float]] = {}
    for v in range(6):
        for u in range(10):
            fv, fu = (v + 3) % 6 - 3, (u + 5) % 10 - 5
            rings.setdefault(round(math.hypot(fv / 6, fu / 10) * 10), []).append(plane[v, u])
    found = radial_spectra(kernel[None])
    assert found.cycles_per_pixel.tolist() == pytest.approx([r / 10 for r in sorted(rings)])
    expected = [np.mean(rings[r]) for r in sorted(rings)]
    np.testing.assert_allclose(found.magnitude[0], expected, rtol=1e-5)


def test_a_zero_kernel_has_a_zero_spectrum():
    found = radial_spectra(torch.zeros(1, 4, 4))
    assert found.magnitude.abs().max() == found.low_share.item() == 0


def test_layers_and_grids():
    layers = [
        layer("a", torch.stack([delta(9, 9), delta(9, 9, 3), delta(9, 9, 0, -1)])),
        layer("b", delta(4, 4)[None]),
        layer("c", torch.stack([torch.ones(9, 9)])),
    ]
    each, grids = measure_filters(layers, (0.5, 1.0))
    assert [figures.paths for figures in each] == [("a",), ("b",), ("c",)]
    a, _, c = each
    assert a.mass_sizes[0.5].mean.item() == pytest.approx((1 + 7 + 3) / 3)
    assert a.energy_sizes[1.0].median.item() == 3
    assert a.mass.mean.tolist() == pytest.approx([1 / 3, 2 / 3, 2 / 3, 1, 1])
    assert c.mass_sizes[0.5].mean.item() == 7
    assert c.energy_sizes[1.0].mean.item() == 9
    assert [(grid.grid, grid.paths) for grid in grids] == [((9, 9), ("a", "c")), ((4, 4), ("b",))]
    assert grids[0].num_filters == 4
    assert grids[0].mass_sizes[0.5].median.item() == 5  # of 1, 3, 7, 7


def test_components_are_those_of_a_singular_value_decomposition():
    kernels = torch.randn(12, 5, 7, generator=torch.Generator().manual_seed(2)) * 3
    (found,) = measure_components([layer("a", kernels[:8]), layer("b", kernels[8:])])
    rows = kernels.flatten(1).double()
    rows = rows / rows.norm(dim=1, keepdim=True)
    _, values, components = torch.linalg.svd(rows - rows.mean(0), full_matrices=False)
    expected = (values**2 / (values**2).sum())[:6]
    assert found.explained == pytest.approx(expected.tolist())
    overlap = (found.images.flatten(1) * components[:6]).sum(1).abs()
    torch.testing.assert_close(overlap, torch.ones_like(overlap))
    assert (found.num_filters, found.num_used) == (12, 12)
    largest = found.images.flatten(1).gather(1, found.images.flatten(1).abs().argmax(1)[:, None])
    assert (largest > 0).all()


def test_two_shapes_need_one_component_and_equal_ones_none():
    shapes = torch.stack([delta(5, 5), delta(5, 5, 1), 7 * delta(5, 5)])
    (found,) = measure_components([layer("a", shapes)])
    assert found.explained == pytest.approx((1.0,))
    (alike,) = measure_components([layer("a", torch.stack([delta(5, 5), 2 * delta(5, 5)]))])
    assert alike.explained == () and len(alike.images) == 0


def test_no_more_kernels_than_a_thousand_are_decomposed():
    (found,) = measure_components([layer("a", torch.randn(1500, 3, 3))])
    assert (found.num_filters, found.num_used) == (1500, 1000)


def test_samples_go_from_small_to_large_and_show_what_there_is():
    kernels = torch.stack([delta(16, 16, n) for n in range(7, -1, -1)] * 2)
    (sample,) = choose_samples([layer("a", kernels)])
    assert sample.kernels.shape == (8, 15, 15)
    reach = [int(torch.nonzero(k)[0, 0]) - 7 for k in sample.kernels]
    assert reach == sorted(reach) and reach[0] == 0 and reach[-1] == 7
    assert torch.equal(crop(kernels, 17), kernels)


@pytest.fixture(scope="module")
def linear() -> nn.Sequential:
    """Two convolutions without activations: the gradient is a kernel, whatever the image."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"),
        nn.Conv2d(3, 5, (1, 5), padding=(0, 2), padding_mode="circular"),
    ).eval()


def test_the_receptive_field_of_linear_layers_is_their_jacobian(linear):
    """Estimated with random signs over many images; here known by the whole Jacobian."""
    images = torch.randn(400, 2, 8, 9)
    (found,) = measure_receptive_fields(linear, ["1"], images.split(100), (0.5, 1.0))
    jacobian = torch.func.jacrev(lambda x: linear(x[None])[0, :, 4, 4])(images[0])
    expected = jacobian.square().sum((0, 1)).sqrt().double()
    torch.testing.assert_close(found.gradient, expected, rtol=0.25, atol=0.02)
    outside = torch.ones(8, 9, dtype=torch.bool)
    outside[3:6, 1:8] = False
    assert found.gradient[outside].abs().max() < 1e-6
    assert found.energy_sizes[1.0] == 7
    assert (found.stage_size, found.num_images) == ((8, 9), 400)


def test_the_receptive_field_of_a_stage_within_does_not_see_what_follows(linear):
    fields = measure_receptive_fields(linear, ["0", "1"], [torch.randn(4, 2, 8, 9)], (1.0,))
    assert [field.energy_sizes[1.0] for field in fields] == [3, 7]


def test_the_receptive_field_is_centred_where_it_lies():
    """A filter that looks five pixels to the left, around the border of a circle."""
    shift = nn.Conv2d(1, 1, (1, 11), padding=(0, 5), padding_mode="circular", bias=False)
    nn.init.zeros_(shift.weight)
    with torch.no_grad():
        shift.weight[..., 0, :2] = 1  # offsets -5 and -4 from the centre, 4
    model = nn.Sequential(shift).eval().requires_grad_(True)
    (field,) = measure_receptive_fields(model, ["0"], [torch.randn(2, 1, 6, 8)], (1.0,))
    assert field.gradient[3].nonzero().flatten().tolist() in ([3, 4], [4, 5])
    assert field.energy_sizes[1.0] == 3
    assert all(parameter.requires_grad for parameter in model.parameters())


STAGES = """
version: 1
input: {channels: 3, size: 16}
blocks:
  bottleneck:
    args: {out_channels: int, stride: 1}
    body:
      - op: residual
        shortcut: auto
        then: relu
        body:
          - {op: conv, out_channels: 4, kernel_size: 1}
          - {op: conv, out_channels: $out_channels, kernel_size: 3, stride: $stride}
model:
  - {id: stem, op: conv, out_channels: 8, kernel_size: 3}
  - {id: layer1, op: bottleneck, out_channels: 8}
  - {id: layer2, op: bottleneck, out_channels: 8, stride: 2}
  - {id: layer3, op: bottleneck, out_channels: 8, stride: 2}
  - global_avg_pool
  - flatten
  - {op: linear, out_features: 2}
"""


def test_a_stage_ends_where_all_paths_meet(tmp_path):
    """Not in the first 1x1 of the next block, which still has the size of this one."""
    path = tmp_path / "stages.yaml"
    path.write_text(STAGES)
    graph = nifbuild.load_spec(path).graph
    assert stage_ends(graph) == ("layer1.relu", "layer2.relu", "layer3.relu")
