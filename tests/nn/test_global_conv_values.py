"""Every option of a layer against the sum over taps in float64; values and all gradients."""

from typing import Any

import hypothesis
import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor, nn

from nifbuild.nn import (
    FreeFrequencyConv2d,
    GlobalConv2d,
    ImplicitFrequencyConv2d,
    ImplicitSpatialConv2d,
)
from tests.coverings import each_pair
from tests.nn.oracle import convolved, low_passed

BOUNDARIES = ["circular", "zeros", "reflect", "replicate"]
MIXINGS: list[dict[str, Any]] = [
    {"mixing": "separable", "out_channels": 4},
    {"mixing": "separable", "out_channels": 2, "bias": True},
    {"mixing": "separable", "out_channels": 6, "groups": 2},
    {"mixing": "depthwise", "out_channels": 4, "bias": True},
    {"mixing": "depthwise", "out_channels": 8, "groups": 4},
    {"mixing": "full", "out_channels": 3, "bias": True},
    {"mixing": "full", "out_channels": 6, "groups": 2},
    {"mixing": "low_rank", "out_channels": 6, "bias": True},
    {"mixing": "low_rank", "out_channels": 2, "rank": 6, "groups": 2},
]


def make_layer(kind: str, size: tuple[int, int], **arguments: Any) -> GlobalConv2d:
    """A float64 layer of 4 input channels, in which no weight is zero."""
    layer: GlobalConv2d
    if kind == "free_frequency":
        layer = FreeFrequencyConv2d(4, size=size, dtype=torch.float64, **arguments)
    elif kind == "implicit_spatial":
        layer = ImplicitSpatialConv2d(4, hidden=(5, 3), dtype=torch.float64, **arguments)
    else:
        layer = ImplicitFrequencyConv2d(4, hidden=(5, 3), dtype=torch.float64, **arguments)
    if layer.bias is not None:
        nn.init.normal_(layer.bias)
    return layer


def kernels_of(layer: GlobalConv2d, height: int, width: int) -> Tensor:
    """The filters' taps by the formulas, from the weights; the origin at (H // 2, W // 2)."""
    if isinstance(layer, FreeFrequencyConv2d):
        return kernels_of_spectrum(layer.weight, height, width)
    dtype = torch.float64
    signed = [torch.arange(-(n // 2), n - n // 2, dtype=dtype) for n in (height, width)]
    points = torch.stack([signed[1].repeat(height), signed[0].repeat_interleave(width)], dim=1)
    if isinstance(layer, ImplicitSpatialConv2d):
        if layer.kernel_network.positions == "image":
            points = points / torch.tensor([width, height])
        values = network(layer.kernel_network.layers, points, 0)
        return values.reshape(-1, height, width) / (height * width) ** 0.5
    assert isinstance(layer, ImplicitFrequencyConv2d)
    if layer.coordinates != "cycles_per_image":
        points = points / torch.tensor([width, height])
    if layer.coordinates == "periodic":
        waves = [
            wave(2 * torch.pi * 2**h * points[:, axis])
            for h in range(layer.filter_network.harmonics)
            for axis in (0, 1)
            for wave in (torch.cos, torch.sin)
        ]
        points = torch.stack(waves, dim=1)
    parts = [network(layer.filter_network.layers, points, part) for part in (0, 1)]
    spectrum = torch.complex(*parts).reshape(-1, height, width)
    # real(sum over k of W(k) exp(2 pi i k n / N)) / N, term by term
    waves = [
        torch.exp(2j * torch.pi * s[:, None] * s / n)
        for s, n in zip(signed, (height, width), strict=True)
    ]
    return torch.einsum("fkl,kh,lw->fhw", spectrum, *waves).real / (height * width)


def network(layers: nn.Sequential, points: Tensor, part: int) -> Tensor:
    z = points
    for i, layer in enumerate(layers):
        z = z if i == 0 else F.silu(z)
        own = min(part, len(layer.weight) - 1)  # a shared layer has one part
        z = z @ layer.weight[own].T + layer.bias[own]
    return z.T


def kernels_of_spectrum(weight: Tensor, height: int, width: int) -> Tensor:
    """The sum of waves over the half plane, each with its mirror image, which is the conjugate."""
    n, m = (torch.arange(size).double() - size // 2 for size in (height, width))
    total = torch.zeros(weight.shape[1], height, width, dtype=torch.float64)
    for v in range(height):
        for u in range(width // 2 + 1):
            angle = 2 * torch.pi * (v * n[:, None] / height + u * m / width)
            twice = 1 if u == 0 or 2 * u == width else 2
            re, im = weight[0, :, v, u, None, None], weight[1, :, v, u, None, None]
            total = total + twice * (re * angle.cos() - im * angle.sin())
    return total / (height * width)


def expected_output(layer: GlobalConv2d, x: Tensor) -> Tensor:
    height, width = x.shape[-2:]
    kernels = kernels_of(layer, height, width)
    if layer.downsample == "low_pass":
        kernels = low_passed(kernels, layer.stride)
    places = []
    for axis, n in enumerate((height, width)):
        stride = layer.stride[axis]
        if layer.kernel_size is None:
            places.append(list(range(0, n, stride)))
            continue
        reach = layer.dilation[axis] * (layer.kernel_size[axis] - 1)
        padding = reach // 2 if layer.padding is None else layer.padding[axis]
        # The first tap of the ordinary convolution, as long as its last one is within the padding.
        firsts = range(-padding, n + padding - reach, stride)
        places.append([first + reach // 2 for first in firsts])
    pointwise = [layer.pointwise_in, layer.pointwise]
    return convolved(
        x,
        kernels,
        (places[0], places[1]),
        layer.boundary,
        mixing=layer.mixing,
        groups=layer.groups,
        matrices=[conv.weight.flatten(1) for conv in pointwise if conv is not None],
        bias=layer.bias,
    )


def assert_same_with_gradients(layer: GlobalConv2d, size: tuple[int, int], batch: int = 2) -> None:
    x = torch.randn(batch, 4, *size, dtype=torch.float64, requires_grad=True)
    inputs = [x, *layer.parameters()]
    actual, expected = layer(x), expected_output(layer, x)
    assert actual.shape == expected.shape
    assert actual.is_contiguous()
    upstream = torch.randn_like(expected)
    found = torch.autograd.grad(actual, inputs, upstream)
    wanted = torch.autograd.grad(expected, inputs, upstream, materialize_grads=True)
    for a, b in zip([actual, *found], [expected, *wanted], strict=True):
        scale = max(1.0, b.abs().max().item()) if b.numel() else 1.0
        assert (a - b).abs().le(1e-11 * scale).all()


@each_pair(
    size=[(6, 6), (5, 8), (12, 9), (1, 4), (2, 1)],
    mixing=MIXINGS,
    boundary=BOUNDARIES,
    memory=["recompute", "save"],
)
def test_mixings_at_every_boundary(
    size: tuple[int, int], mixing: dict[str, Any], boundary: str, memory: str
) -> None:
    torch.manual_seed(0)
    layer = make_layer("implicit_frequency", size, **mixing, boundary=boundary, memory=memory)
    assert_same_with_gradients(layer, size)


@each_pair(
    size=[(8, 12), (7, 5), (9, 4)],
    mixing=MIXINGS[:3] + MIXINGS[5:6],
    boundary=BOUNDARIES,
    stride=[2, 3, (4, 1), (1, 2)],
    downsample=["slice", "low_pass"],
)
def test_strides(
    size: tuple[int, int],
    mixing: dict[str, Any],
    boundary: str,
    stride: int | tuple[int, int],
    downsample: str,
) -> None:
    torch.manual_seed(0)
    layer = make_layer(
        "implicit_frequency",
        size,
        **mixing,
        boundary=boundary,
        stride=stride,
        downsample=downsample,
    )
    assert_same_with_gradients(layer, size)


@each_pair(
    size=[(6, 6), (5, 8), (1, 3)],
    mixing=MIXINGS,
    boundary=BOUNDARIES,
    kind=["free_frequency", "implicit_spatial"],
)
def test_comparators(
    size: tuple[int, int], mixing: dict[str, Any], boundary: str, kind: str
) -> None:
    torch.manual_seed(0)
    assert_same_with_gradients(make_layer(kind, size, **mixing, boundary=boundary), size)


@hypothesis.given(
    height=st.integers(1, 21),
    width=st.integers(1, 21),
    batch=st.integers(0, 2),
    kernel=st.none() | st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    padding=st.none() | st.tuples(st.integers(0, 6), st.integers(0, 6)),
    dilation=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    mixing=st.sampled_from(MIXINGS),
    options=st.fixed_dictionaries(
        {
            "boundary": st.sampled_from(BOUNDARIES),
            "downsample": st.sampled_from(["slice", "low_pass"]),
            "memory": st.sampled_from(["recompute", "save"]),
        }
    ),
    own=st.sampled_from(
        [
            ("implicit_frequency", {"coordinates": "cycles_per_pixel"}),
            ("implicit_frequency", {"coordinates": "cycles_per_image"}),
            ("implicit_frequency", {"harmonics": 3}),
            ("implicit_frequency", {"networks": "shared"}),
            ("implicit_spatial", {"positions": "pixels"}),
            ("implicit_spatial", {}),
        ]
    ),
    seed=st.integers(0, 2**16),
)
@hypothesis.settings(max_examples=100)
def test_any_combination(
    height: int,
    width: int,
    batch: int,
    kernel: tuple[int, int] | None,
    stride: tuple[int, int],
    padding: tuple[int, int] | None,
    dilation: tuple[int, int],
    mixing: dict[str, Any],
    options: dict[str, Any],
    own: tuple[str, dict[str, Any]],
    seed: int,
) -> None:
    torch.manual_seed(seed)
    window: dict[str, Any] = {}
    if kernel is not None:
        window = {"kernel_size": kernel, "padding": padding, "dilation": dilation}
    kind, fields = own
    size = (height, width)
    layer = make_layer(kind, size, **fields, **mixing, **options, **window, stride=stride)
    try:
        layer.output_size(*size)
    except ValueError:
        hypothesis.reject()
    assert_same_with_gradients(layer, size, batch)


@each_pair(
    kernel_size=[1, 2, 3, 4, 5],
    stride=[1, 2, 3, 4],
    padding=[0, 1, 2, 5],
    dilation=[1, 2, 3],
    groups=[1, 2, 4],
)
def test_is_conv2d_when_the_filter_is_an_ordinary_one(
    kernel_size: int, stride: int, padding: int, dilation: int, groups: int
) -> None:
    """With free frequencies, the filters can be set to those of any ordinary convolution."""
    torch.manual_seed(0)
    size = (14, 13)
    geometry: Any = {
        "kernel_size": kernel_size,
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        "groups": groups,
    }
    conv = nn.Conv2d(4, 8, **geometry, dtype=torch.float64)
    layer = FreeFrequencyConv2d(
        4, 8, size, **geometry, mixing="full", boundary="zeros", bias=True, dtype=torch.float64
    )
    taps = torch.zeros(8, 4 // groups, *size, dtype=torch.float64)
    middle = dilation * (kernel_size - 1) // 2
    for i in range(kernel_size):
        for j in range(kernel_size):
            row, column = middle - i * dilation, middle - j * dilation
            taps[..., row % size[0], column % size[1]] = conv.weight.detach()[..., i, j]
    spectrum = torch.fft.rfft2(taps).flatten(0, 1)
    with torch.no_grad():
        layer.weight.copy_(torch.stack([spectrum.real, spectrum.imag]))
        assert layer.bias is not None and conv.bias is not None
        layer.bias.copy_(conv.bias)
    x = torch.randn(2, 4, *size, dtype=torch.float64)
    torch.testing.assert_close(layer(x), conv(x), atol=1e-12, rtol=1e-12)
