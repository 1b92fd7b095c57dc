"""The layer as products with matrices, against the layer itself."""

import pytest
import torch

from nifbuild.nn import FreeFrequencyConv2d, ImplicitFrequencyConv2d
from nifbuild.nn.matrix_conv import MatrixConv2d

SIZES = [(8, 8), (7, 10), (1, 6)]
FIELDS = [
    {},
    {"stride": 2, "bias": True},
    {"stride": (1, 3), "kernel_size": 3},
    {"kernel_size": (2, 4), "padding": (3, 0)},
    {"kernel_size": 3, "padding": 9, "dilation": 2},
    {"mixing": "depthwise", "out_channels": 8},
    {"mixing": "full", "groups": 2, "stride": 2, "downsample": "low_pass"},
    {"mixing": "low_rank", "rank": 2, "groups": 2},
]


@pytest.mark.parametrize("boundary", ["circular", "zeros", "reflect", "replicate"])
def test_computes_what_the_layer_does(boundary):
    torch.manual_seed(0)
    tried = 0
    for fields in FIELDS:
        arguments = {"out_channels": 6, **fields, "boundary": boundary}
        layers = [(ImplicitFrequencyConv2d(4, **arguments), size) for size in SIZES]
        layers.append((FreeFrequencyConv2d(4, size=(6, 5), **arguments), (6, 5)))
        for layer, size in layers:
            if layer.kernel_size is not None and layer.kernel_size[1] > size[1]:
                continue
            x = torch.randn(3, 4, *size)
            with torch.no_grad():
                if layer.bias is not None:
                    layer.bias.normal_()
                expected, found = layer.eval()(x), MatrixConv2d(layer, size)(x)
            error = (found - expected).abs().max() / expected.abs().max()
            assert found.shape == expected.shape and error < 1e-5, (fields, size)
            tried += 1
    assert tried == 32


def test_its_filters_are_constants():
    layer = ImplicitFrequencyConv2d(3, 5, bias=True).eval()
    x = torch.randn(2, 3, 6, 6)
    with torch.no_grad():
        expected, matrices = layer(x), MatrixConv2d(layer, (6, 6))
        layer.reset_parameters()
        torch.testing.assert_close(matrices(x), expected)
        assert (layer(x) - expected).abs().max() > 0.1
    assert {name.split(".")[0] for name, _ in matrices.named_parameters()} == {"pointwise", "bias"}
