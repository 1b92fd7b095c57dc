"""Single layers cut to windows: exact on the whole grid, and else within the bound."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nifbuild import build_model
from nifbuild.errors import SpecError
from nifbuild.nn import FreeFrequencyConv2d
from nifbuild.report.filter_windows import LayerKernels, layer_kernels
from nifbuild.report.shrink.changes import change_bounds
from nifbuild.report.shrink.ordinary import as_ordinary, ordinary_model
from nifbuild.report.shrink.windows import LayerWindows, critical_masses
from nifbuild.spec.resolve import load_text

CHANNELS = 4
WHOLE = 99
FIELDS = [
    "",
    "stride: 2",
    "stride: [1, 3], bias: false",
    "kernel_size: 5, padding: 0",
    "kernel_size: [2, 4]",
    "kernel_size: [2, 4], padding: [3, 0], stride: 2",
    "kernel_size: 3, dilation: 2, padding: 1",
    "groups: 2",
    "groups: depthwise, out_channels: 8",
    "mixing: full",
    "mixing: full, groups: 2, stride: 2, downsample: low_pass",
    "mixing: low_rank, rank: 2, groups: 2",
]


def one_layer(kind="implicit_frequency", size=(8, 8), boundary="circular", fields="", seed=0):
    """The spec and the model of one layer, its bias drawn, and its kernels."""
    outputs = "" if "out_channels" in fields else ", out_channels: 6"
    text = f"""
        version: 1
        name: one
        input: {{channels: {CHANNELS}, size: {list(size)}}}
        model: [{{op: conv, kind: {kind}, padding_mode: {boundary}{outputs}, {fields}}}]
    """
    resolved = load_text(text, "one")
    torch.manual_seed(seed)
    model = build_model(resolved).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    (kernels,) = layer_kernels(model, (CHANNELS, *size))
    return resolved, model, kernels


def cut(resolved, model, kernels, window, boundary=None):
    boundary = boundary or kernels.layer.boundary
    ordinary = as_ordinary(kernels, resolved.graph.nodes[0].op, window, boundary)
    return ordinary_model(model, resolved, {kernels.path: ordinary}, "cut")[1]


@torch.no_grad()
def error(model, other, size):
    x = torch.randn(3, CHANNELS, *size)
    expected, found = model(x), other(x)
    assert found.shape == expected.shape
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("boundary", ["circular", "zeros", "reflect", "replicate"])
def test_the_whole_grid_is_exact(boundary):
    for fields in FIELDS:
        for size in ((8, 8), (7, 10)):
            layer = one_layer(size=size, boundary=boundary, fields=fields)
            shrunk = cut(*layer, WHOLE)
            assert error(layer[1], shrunk, size) < 1e-5, (fields, size)
            convs = [m for m in shrunk.modules() if type(m) is nn.Conv2d]
            assert convs and boundary in {conv.padding_mode for conv in convs}
            others = [m for m in shrunk.modules() if not list(m.children())]
            assert others == convs


@pytest.mark.parametrize("kind", ["free_frequency", "implicit_spatial"])
def test_every_kind_can_be_cut(kind):
    layer = one_layer(kind, (5, 8))
    assert error(layer[1], cut(*layer, WHOLE), (5, 8)) < 1e-5


def test_borders_beyond_an_ordinary_padding_are_refused():
    layer = one_layer(size=(4, 4), fields="kernel_size: 1, padding: 3")
    with pytest.raises(SpecError, match=r"conv: its outputs lie so far .* 5 pixels .* to 4 by"):
        cut(*layer, WHOLE)
    assert error(layer[1], cut(*layer, 3), (4, 4)) > 0  # a smaller window reaches less far
    layer = one_layer(size=(4, 4), boundary="zeros", fields="kernel_size: 1, padding: 3")
    assert error(layer[1], cut(*layer, WHOLE), (4, 4)) < 1e-5


def put_kernels(layer: FreeFrequencyConv2d, kernels: torch.Tensor) -> None:
    """Gives a layer these filters, their origin at index (0, 0)."""
    spectrum = torch.fft.rfft2(kernels)
    with torch.no_grad():
        layer.weight.copy_(torch.stack([spectrum.real, spectrum.imag]))


def test_a_delta_shrinks_to_1x1():
    resolved, model, kernels = one_layer("free_frequency", (8, 6))
    delta = torch.zeros_like(kernels.kernels)
    delta[:, 0, 0] = torch.tensor([1.0, -2.0, 3.0, 0.0])
    put_kernels(kernels.layer, delta)
    (kernels,) = layer_kernels(model, (CHANNELS, 8, 6))
    window = LayerWindows.of(kernels).smallest(0.999)
    assert window == 1
    shrunk = cut(resolved, model, kernels, window)
    assert shrunk.conv.depthwise.weight.shape == (4, 1, 1, 1)
    torch.testing.assert_close(
        shrunk.conv.depthwise.weight.flatten(), torch.tensor([1.0, -2.0, 3.0, 0.0])
    )
    assert error(model, shrunk, (8, 6)) < 1e-5


def test_a_kernel_is_turned_for_the_correlation():
    """One tap a pixel to the right of the origin moves the image to the right."""
    resolved, model, kernels = one_layer(
        "free_frequency", (5, 5), fields="mixing: depthwise, out_channels: 4"
    )
    shift = torch.zeros_like(kernels.kernels)
    shift[:, 0, 1] = 1
    put_kernels(kernels.layer, shift)
    (kernels,) = layer_kernels(model, (CHANNELS, 5, 5))
    shrunk = cut(resolved, model, kernels, 3)
    x = torch.randn(1, CHANNELS, 5, 5)
    bias = model.conv.bias[:, None, None]
    torch.testing.assert_close(shrunk(x), x.roll(1, -1) + bias, atol=1e-5, rtol=0)
    assert shrunk.conv.weight.shape[-2:] == (3, 3)


@settings(max_examples=40)
@given(
    size=st.tuples(st.integers(3, 9), st.integers(4, 9)),
    half=st.integers(0, 4),
    fields=st.sampled_from([f for f in FIELDS if "dilation" not in f and "5" not in f]),
    boundary=st.sampled_from(["circular", "zeros", "reflect", "replicate"]),
    other=st.sampled_from([None, "circular", "zeros"]),
    seed=st.integers(0, 2**16),
)
def test_the_bound_holds(size, half, fields, boundary, other, seed):
    resolved, model, kernels = one_layer("free_frequency", size, boundary, fields, seed)
    windows = LayerWindows.of(kernels)
    window = windows.within(2 * half + 1)
    other = other or boundary
    try:
        shrunk = cut(resolved, model, kernels, window, other)
    except SpecError:  # an image of 3 pixels cannot be continued by 4
        return
    x = torch.randn(3, CHANNELS, *size)
    with torch.no_grad():
        change = (shrunk(x) - model(x)).abs().flatten(1).amax(1)
        what = windows.cut(window, resolved.graph.nodes[0].op, other)
        bound = change_bounds(kernels.layer, what, x)
        scale = float(model(x).abs().max())
    assert (change <= bound + 1e-5 * scale).all()
    if window == windows.sizes[-1] and other == boundary:
        assert bound.max() <= 1e-5 * scale


def test_the_bound_is_reached():
    """By an image that has at each removed tap the sign which makes the change largest."""
    resolved, model, kernels = one_layer(
        "free_frequency", (5, 5), fields="mixing: depthwise, out_channels: 4"
    )
    windows = LayerWindows.of(kernels)
    what = windows.cut(3, resolved.graph.nodes[0].op, "circular")
    flipped = kernels.layer.spatial_kernel(5, 5).detach().sign().flip(-2, -1).roll((1, 1), (-2, -1))
    with torch.no_grad():
        shrunk = cut(resolved, model, kernels, 3)
        change = (shrunk(flipped[None]) - model(flipped[None]))[0, :, 0, 0].abs()
    torch.testing.assert_close(change.double(), what.removed, atol=1e-4, rtol=0)


def gaussian(width: float) -> LayerKernels:
    distance = (torch.arange(15.0) - 7) / width
    line = (-distance.square() / 2).exp()
    return LayerKernels("a", None, (line[:, None] * line)[None].repeat(2, 1, 1))


def test_windows_keep_the_share_of_all_filters():
    layer = LayerWindows.of(gaussian(1.5))
    inside = [gaussian(1.5).kernels[0, 7 - r : 8 + r, 7 - r : 8 + r].sum() for r in range(8)]
    expected = [float(x / inside[-1]) for x in inside]
    assert layer.kept == pytest.approx(expected)
    assert layer.smallest(expected[2] - 1e-6) == 5
    assert layer.smallest(expected[2] + 1e-6) == 7
    assert layer.smallest(1) == 15 and layer.within(99) == 15
    # A filter that is all but zero has no say.
    kernels = gaussian(0.2).kernels.clone()
    kernels[1] = 1e-9
    assert LayerWindows.of(LayerKernels("a", None, kernels)).smallest(0.99) == 1
    assert set(LayerWindows.of(LayerKernels("a", None, 0 * kernels)).kept) == {1.0}


def test_a_search_needs_the_critical_shares_only():
    layers = [LayerWindows.of(gaussian(width)) for width in (1.0, 2.5)]
    masses = critical_masses(layers)
    assert masses == sorted(masses) and len(masses) <= 16

    def windows(mass):
        return [layer.smallest(mass) for layer in layers]

    fine = {tuple(windows(i / 2000)) for i in range(1, 2000)}
    assert fine <= {tuple(windows(mass)) for mass in masses}
