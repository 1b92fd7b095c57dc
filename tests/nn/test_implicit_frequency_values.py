"""Values and gradients against the published formula, computed by other means in float64."""

from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nifbuild.nn import ImplicitFrequencyConv2d
from tests.coverings import each_pair

SIZES = [(1, 1), (1, 6), (2, 2), (3, 2), (4, 4), (5, 8), (7, 7), (9, 12), (16, 16), (33, 31)]
CONFIGS: list[dict[str, Any]] = [
    {"out_channels": 6, "mixing": "separable"},
    {"out_channels": 2, "mixing": "separable", "bias": True},
    {"out_channels": 4, "mixing": "depthwise", "bias": True, "hidden": (5,)},
    {"out_channels": 8, "mixing": "depthwise", "activation": "gelu"},
    {"out_channels": 8, "groups": 4, "activation": "sine", "hidden": (3, 4, 5)},
    {"out_channels": 2, "groups": 2, "coordinates": "cycles_per_pixel"},
]


def published_spectrum(layer: ImplicitFrequencyConv2d, height: int, width: int) -> Tensor:
    """W on the full plane: the two small networks at signed frequencies, zero first."""
    activation = {"silu": F.silu, "gelu": F.gelu, "sine": torch.sin}
    unit = {"cycles_per_image": (1, 1), "cycles_per_pixel": (width, height)}[layer.coordinates]
    u, v = (torch.fft.fftfreq(n, 1 / n).round().double() for n in (width, height))
    points = torch.stack([u.repeat(height) / unit[0], v.repeat_interleave(width) / unit[1]], dim=1)
    parts = []
    for part in (0, 1):
        z = points
        for i, module in enumerate(layer.filter_network.layers):
            z = z if i == 0 else activation[layer.filter_network.activation](z)
            z = z @ module.weight[part].T + module.bias[part]
        parts.append(z.T.reshape(-1, height, width))
    return torch.complex(parts[0], parts[1])


def published_layer(layer: ImplicitFrequencyConv2d, x: Tensor) -> Tensor:
    """real(ifft2(W * fft2(x))) per channel, then the 1x1 and the bias, then the stride."""
    spectrum = published_spectrum(layer, *x.shape[-2:])
    x = x.repeat_interleave(spectrum.shape[0] // x.shape[1], dim=1)
    y = torch.fft.ifft2(spectrum * torch.fft.fft2(x)).real
    return finish(layer, y)


def spatial_layer(layer: ImplicitFrequencyConv2d, x: Tensor) -> Tensor:
    """An ordinary depthwise convolution with the kernel as large as the image."""
    height, width = x.shape[-2:]
    spectrum = published_spectrum(layer, height, width)
    kernel = torch.fft.ifft2(spectrum).real
    x = x.repeat_interleave(len(kernel) // x.shape[1], dim=1)
    padded = F.pad(x, (width - 1, 0, height - 1, 0), mode="circular") if height * width > 1 else x
    y = F.conv2d(padded, kernel.flip(-2, -1)[:, None], groups=len(kernel))
    return finish(layer, y)


def finish(layer: ImplicitFrequencyConv2d, y: Tensor) -> Tensor:
    if layer.pointwise is not None:
        y = F.conv2d(y, layer.pointwise.weight, groups=layer.groups)
    if layer.bias is not None:
        y = y + layer.bias[:, None, None]
    return y[:, :, :: layer.stride[0], :: layer.stride[1]]


def assert_same_with_gradients(
    layer: ImplicitFrequencyConv2d, size: tuple[int, int], batch: int = 2
) -> None:
    x = torch.randn(batch, layer.in_channels, *size, dtype=torch.float64, requires_grad=True)
    inputs = [x, *layer.parameters()]
    actual, expected = layer(x), published_layer(layer, x)
    assert actual.shape == expected.shape
    upstream = torch.randn_like(expected)
    found = torch.autograd.grad(actual, inputs, upstream)
    wanted = torch.autograd.grad(expected, inputs, upstream, materialize_grads=True)
    for a, b in zip([actual, *found], [expected, *wanted], strict=True):
        scale = max(1.0, b.abs().max().item()) if b.numel() else 1.0
        assert (a - b).abs().le(1e-12 * scale).all()


def make_layer(seed: int = 0, **arguments: Any) -> ImplicitFrequencyConv2d:
    """A float64 layer of 4 input channels, as published, with a bias that is not zero."""
    torch.manual_seed(seed)
    arguments = {"hidden": (8, 4), "coordinates": "cycles_per_image", **arguments}
    layer = ImplicitFrequencyConv2d(4, **arguments, dtype=torch.float64)
    if layer.bias is not None:
        torch.nn.init.normal_(layer.bias)
    return layer


@each_pair(size=SIZES, config=CONFIGS, memory=["recompute", "save"])
def test_values_and_all_gradients(
    size: tuple[int, int], config: dict[str, Any], memory: str
) -> None:
    assert_same_with_gradients(make_layer(**config, memory=memory), size)


@each_pair(
    size=[(1, 1), (6, 6), (8, 12), (7, 5), (12, 7), (2, 4)],
    config=CONFIGS[:4],
    stride=[2, 3, (1, 2), (4, 1)],
    memory=["recompute", "save"],
)
def test_stride_is_a_slice(
    size: tuple[int, int], config: dict[str, Any], stride: int | tuple[int, int], memory: str
) -> None:
    assert_same_with_gradients(make_layer(**config, stride=stride, memory=memory), size)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_is_a_spatial_convolution_with_circular_padding(size: tuple[int, int]) -> None:
    for config in CONFIGS:
        layer = make_layer(**config)
        x = torch.randn(2, 4, *size, dtype=torch.float64)
        torch.testing.assert_close(layer(x), spatial_layer(layer, x), atol=1e-11, rtol=1e-11)


@hypothesis.given(
    height=st.integers(1, 17),
    width=st.integers(1, 17),
    batch=st.integers(1, 3),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    config=st.sampled_from(CONFIGS),
    memory=st.sampled_from(["recompute", "save"]),
    seed=st.integers(0, 2**16),
)
@hypothesis.settings(max_examples=40)
def test_any_shape(
    height: int,
    width: int,
    batch: int,
    stride: tuple[int, int],
    config: dict[str, Any],
    memory: str,
    seed: int,
) -> None:
    layer = make_layer(seed, **config, stride=stride, memory=memory)
    assert_same_with_gradients(layer, (height, width), batch)


@pytest.mark.parametrize("size", [(6, 6), (5, 7)], ids=str)
def test_spectrum_and_kernel_say_what_the_layer_does(size: tuple[int, int]) -> None:
    layer = make_layer(out_channels=4, mixing="depthwise")
    full = published_spectrum(layer, *size)
    mirrored = torch.roll(full.flip(-2, -1), (1, 1), (-2, -1)).conj()
    hermitian = ((full + mirrored) / 2)[..., : size[1] // 2 + 1]
    torch.testing.assert_close(layer.spectrum(*size), hermitian, atol=1e-12, rtol=1e-12)

    impulse = torch.zeros(1, 4, *size, dtype=torch.float64)
    impulse[..., 0, 0] = 1
    kernel = layer.spatial_kernel(*size)
    torch.testing.assert_close(layer(impulse)[0], kernel, atol=1e-12, rtol=1e-12)
    centered = layer.spatial_kernel(*size, centered=True)
    assert torch.equal(centered[:, size[0] // 2, size[1] // 2], kernel[:, 0, 0])
    assert torch.equal(centered[:, size[0] // 2 + 1, size[1] // 2], kernel[:, 1, 0])


def test_first_coordinate_runs_along_the_width() -> None:
    layer = make_layer(out_channels=4, mixing="depthwise")
    with torch.no_grad():
        layer.filter_network.layers[0].weight[..., 1] = 0
    spectrum = layer.spectrum(5, 5)
    torch.testing.assert_close(spectrum[:, 1:], spectrum[:, :1].expand(-1, 4, -1))
    assert (spectrum[:, 0].diff() != 0).all()


def test_cycles_per_pixel_keep_their_width_in_pixels() -> None:
    """The spectrum at twice the size agrees where the frequencies in pixels coincide."""
    layer = make_layer(out_channels=4, mixing="depthwise", coordinates="cycles_per_pixel")
    small, large = layer.spectrum(9, 9), layer.spectrum(27, 27)
    torch.testing.assert_close(large[:, :13:3, :13:3], small[:, :5, :5])
    per_image = make_layer(out_channels=4, mixing="depthwise")
    torch.testing.assert_close(
        per_image.spectrum(27, 27)[:, :5, :5], per_image.spectrum(9, 9)[:, :5]
    )


@pytest.mark.parametrize(
    ("in_channels", "out_channels", "hidden", "expected"),
    [
        (64, 64, (8, 4), 2 * (2 * 8 + 8 + 8 * 4 + 4 + 4 * 64 + 64) + 64 * 64),
        (32, 48, (8,), 2 * (2 * 8 + 8 + 8 * 32 + 32) + 32 * 48),
    ],
)
def test_parameter_count_is_the_published_one(
    in_channels: int, out_channels: int, hidden: tuple[int, ...], expected: int
) -> None:
    layer = ImplicitFrequencyConv2d(
        in_channels, out_channels, hidden=hidden, coordinates="cycles_per_image"
    )
    assert sum(p.numel() for p in layer.parameters()) == expected
    assert not any(p.is_complex() for p in layer.parameters())
    assert not list(layer.buffers())


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("config", CONFIGS[:3], ids=str)
def test_gradcheck_and_double_backward(config: dict[str, Any], stride: int) -> None:
    layer = make_layer(**config, stride=stride)
    x = torch.randn(1, 4, 4, 6, dtype=torch.float64, requires_grad=True)
    names, weights = zip(*layer.named_parameters(), strict=True)

    def apply(x: Tensor, *weights: Tensor) -> Tensor:
        named = dict(zip(names, weights, strict=True))
        return torch.func.functional_call(layer, named, (x,))

    assert torch.autograd.gradcheck(apply, (x, *weights), fast_mode=True)
    assert torch.autograd.gradgradcheck(apply, (x, *weights), fast_mode=True)


def test_double_backward_of_the_input_alone() -> None:
    layer = make_layer(out_channels=2).requires_grad_(False)
    x = torch.randn(1, 4, 4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(layer, (x,), fast_mode=True)


def test_double_backward_needs_the_input() -> None:
    layer = make_layer(out_channels=4, memory="save")
    x = torch.randn(1, 4, 4, 4, dtype=torch.float64, requires_grad=True)
    with pytest.raises(RuntimeError, match="`memory` \\(='save'\\)"):
        torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
