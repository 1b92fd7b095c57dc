"""What a filter becomes at another resolution, in each unit of frequency or position."""

import pytest
import torch
from torch import Tensor

from nifbuild.nn import FreeFrequencyConv2d, ImplicitFrequencyConv2d, ImplicitSpatialConv2d
from nifbuild.nn.free_frequency import hermitian_columns


def gaussian(size: int, sigma: tuple[float, float], offset: tuple[float, float]) -> Tensor:
    """A blur of unit sum, its middle at an offset in pixels from (size // 2, size // 2)."""
    n = torch.arange(size) - size // 2
    rows, columns = (
        torch.exp(-((n - o) ** 2) / (2 * s * s)) for o, s in zip(offset, sigma, strict=True)
    )
    kernel = rows[:, None] * columns
    return kernel / kernel.sum()


@pytest.fixture(scope="module")
def trained() -> ImplicitFrequencyConv2d:
    """A layer that has learned four blurs at 32 pixels."""
    torch.manual_seed(0)
    layer = ImplicitFrequencyConv2d(
        4, 4, mixing="depthwise", hidden=(24, 16), coordinates="periodic"
    )
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.02)
    wanted = blurs(32)
    for _ in range(1200):
        optimizer.zero_grad()
        loss = (layer.spatial_kernel(32, 32, centered=True) - wanted).square().sum()
        loss.backward()
        optimizer.step()
    assert loss < 0.05 * wanted.square().sum()
    return layer


def blurs(size: int) -> Tensor:
    shapes = [((1.5, 1.5), (0, 0)), ((2, 3), (0, 0)), ((1.5, 2), (2, 1)), ((3, 1.5), (-1, 2))]
    return torch.stack([gaussian(size, sigma, offset) for sigma, offset in shapes])


@pytest.mark.parametrize("size", [48, 64])
def test_periodic_coordinates_keep_a_trained_kernel_in_pixels(
    trained: ImplicitFrequencyConv2d, size: int
) -> None:
    with torch.no_grad():
        small = trained.spatial_kernel(32, 32, centered=True)
        large = trained.spatial_kernel(size, size, centered=True)
    border = (size - 32) // 2
    middle = large[:, border:-border, border:-border]
    distance = (middle - small).flatten(1).norm(dim=1) / small.flatten(1).norm(dim=1)
    assert distance.max() < 0.05
    assert (large - blurs(size)).norm() < 0.25 * blurs(size).norm()  # what was learned, still there
    beyond = large.flatten(1).square().sum(1) - middle.flatten(1).square().sum(1)
    assert (beyond < 0.01 * large.flatten(1).square().sum(1)).all()


def test_periodic_coordinates_are_exact_where_frequencies_coincide(
    trained: ImplicitFrequencyConv2d,
) -> None:
    """The kernel at 33 pixels is that at 99, its three periods added up."""
    trained = trained.double()
    small, large = (trained.spatial_kernel(size, size) for size in (33, 99))
    wrapped = large.reshape(4, 3, 33, 3, 33).sum((1, 3))
    torch.testing.assert_close(wrapped, small, atol=1e-12, rtol=1e-9)


def test_per_image_a_kernel_grows_with_the_image() -> None:
    torch.manual_seed(0)
    spatial = ImplicitSpatialConv2d(4, 4, mixing="depthwise", dtype=torch.float64)
    small, large = (
        spatial.spatial_kernel(size, size, centered=True) * size for size in (32, 64)
    )  # at every second pixel, the same function of the position
    torch.testing.assert_close(large[:, ::2, ::2], small)
    frequency = ImplicitFrequencyConv2d(
        4, 4, mixing="depthwise", coordinates="cycles_per_image", dtype=torch.float64
    )
    rows = [*range(16), *range(-15, 0)]  # the same waves, and more that only 64 pixels can hold
    small_f, large_f = (frequency.spectrum(size, size)[:, rows, :16] for size in (32, 64))
    torch.testing.assert_close(large_f, small_f)


def test_positions_in_pixels_keep_the_taps() -> None:
    layer = ImplicitSpatialConv2d(4, 4, mixing="depthwise", positions="pixels")
    small, large = (layer.spatial_kernel(size, size, centered=True) * size for size in (16, 24))
    torch.testing.assert_close(large[:, 4:-4, 4:-4], small, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("old", [(8, 8), (7, 10)], ids=str)
@pytest.mark.parametrize("new", [(12, 12), (13, 7), (5, 4), (8, 8)], ids=str)
def test_free_frequencies_per_pixel_keep_the_taps(
    old: tuple[int, int], new: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    layer = FreeFrequencyConv2d(2, 2, old, mixing="depthwise", coordinates="cycles_per_pixel")
    before = layer.spatial_kernel(*old, centered=True)
    after = layer.spatial_kernel(*new, centered=True)
    expected = torch.zeros(2, *new)
    for i in range(new[0]):
        for j in range(new[1]):
            row, column = i - new[0] // 2 + old[0] // 2, j - new[1] // 2 + old[1] // 2
            if 0 <= row < old[0] and 0 <= column < old[1]:
                expected[:, i, j] = before[:, row, column]
    torch.testing.assert_close(after, expected, atol=1e-6, rtol=1e-5)


def test_free_frequencies_per_image_keep_the_waves() -> None:
    """A kernel without its highest frequencies, sampled twice as densely."""
    torch.manual_seed(0)
    layer = FreeFrequencyConv2d(2, 2, 9, mixing="depthwise", dtype=torch.float64)
    small, large = (layer.spatial_kernel(size, size) * size**2 for size in (9, 18))
    torch.testing.assert_close(large[:, ::2, ::2], small)
    spectrum = layer.spectrum(18, 18)
    assert not spectrum[:, 5:14].any() and not spectrum[..., 5:].any()
    torch.testing.assert_close(
        layer.spectrum(5, 5), hermitian_columns(layer.spectrum(9, 9)[:, [0, 1, 2, 7, 8], :3], 5)
    )


def test_spread_is_that_of_the_definition() -> None:
    layer = FreeFrequencyConv2d(2, 2, (6, 8), mixing="depthwise", dtype=torch.float64)
    taps = torch.zeros(2, 6, 8, dtype=torch.float64)
    taps[0, 0, 0] = -2  # at the centre: no spread
    taps[1, 0, 0], taps[1, -2, 3] = 1, -3  # 2 of 3 halves up, 3 of 4 halves right
    spectrum = torch.fft.rfft2(taps)
    with torch.no_grad():
        layer.weight.copy_(torch.stack([spectrum.real, spectrum.imag]))
    expected = (0 + 3 * ((2 / 3) ** 2 + (3 / 4) ** 2) / 4) / 2
    assert layer.kernel_spread(6, 8).item() == pytest.approx(expected)
