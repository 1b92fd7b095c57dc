"""The layer when parts of it are pruned, hooked, parametrized, exchanged or replicated."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from nifbuild.nn import GlobalConv2d, ImplicitFrequencyConv2d
from tests.nn.test_global_conv_values import expected_output, make_layer

SIZE = (5, 6)
X = torch.linspace(-1, 1, 2 * 4 * 30, dtype=torch.float64).sin().reshape(2, 4, *SIZE)
VARIANTS: list[dict[str, Any]] = [
    {"mixing": "separable", "out_channels": 3, "boundary": "zeros"},
    {"mixing": "low_rank", "out_channels": 6, "rank": 2, "groups": 2},
]


@pytest.fixture(params=VARIANTS, ids=str)
def layer(request: pytest.FixtureRequest) -> GlobalConv2d:
    torch.manual_seed(0)
    return make_layer("implicit_frequency", SIZE, **request.param, bias=True).eval()


def check(layer: GlobalConv2d, expected: Tensor, **tolerance: float) -> None:
    tolerance = tolerance or {"atol": 1e-11, "rtol": 1e-9}
    for grad in (False, True):
        with torch.set_grad_enabled(grad):
            torch.testing.assert_close(layer(X).detach(), expected.detach(), **tolerance)


def test_pruned_weights_are_followed(layer: GlobalConv2d) -> None:
    assert layer.pointwise is not None
    prune.l1_unstructured(layer.pointwise, "weight", amount=0.5)
    check(layer, expected_output(layer, X))
    with torch.no_grad():
        layer.pointwise.weight_orig.mul_(2)  # nothing tells `weight` but a hook
    before = expected_output(layer, X)
    layer.pointwise.weight = layer.pointwise.weight_orig * layer.pointwise.weight_mask
    assert not torch.allclose(before, expected_output(layer, X))
    layer.pointwise.weight = layer.pointwise.weight / 2  # as it was before the step
    check(layer, expected_output_with(layer, 2))


@pytest.mark.parametrize("index", [0, -1], ids=["first", "last"])
def test_pruned_filter_networks_are_followed(layer: GlobalConv2d, index: int) -> None:
    assert isinstance(layer, ImplicitFrequencyConv2d)
    part = layer.filter_network.linears[index]
    prune.l1_unstructured(part, "weight", amount=0.5)
    before = layer(X)
    with torch.no_grad():
        part.weight_orig.mul_(2)
    assert not torch.allclose(layer(X), before)  # a hook has computed `weight` anew
    check(layer, expected_output(layer, X))


def expected_output_with(layer: GlobalConv2d, factor: float) -> Tensor:
    """Of the layer with its last 1x1 convolution `factor` times itself."""
    assert layer.bias is not None
    bias = layer.bias[:, None, None]
    return factor * (expected_output(layer, X) - bias) + bias


def test_hooks_of_the_pointwise_convolution_run(layer: GlobalConv2d) -> None:
    assert layer.pointwise is not None
    handle = layer.pointwise.register_forward_hook(lambda _module, _inputs, y: 3 * y)
    check(layer, expected_output_with(layer, 3))
    assert layer.float()(X.float()).dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(X.float()).dtype == torch.bfloat16
    layer.double()
    handle.remove()
    check(layer, expected_output_with(layer, 1), atol=1e-5, rtol=1e-5)  # rounded by `float`


def test_another_module_in_the_place_of_the_pointwise_convolution(layer: GlobalConv2d) -> None:
    """As an adapter that wraps it."""
    expected = expected_output_with(layer, 2)
    double = nn.Conv2d(layer.out_channels, layer.out_channels, 1, bias=False, dtype=torch.float64)
    nn.init.dirac_(double.weight)
    with torch.no_grad():
        double.weight.mul_(2)
    layer.pointwise = nn.Sequential(layer.pointwise, double)  # type: ignore[assignment]
    check(layer, expected)


@pytest.mark.parametrize("part", ["pointwise", "filter_network.layers.0"])
def test_parametrized_weights_are_followed(layer: GlobalConv2d, part: str) -> None:
    module = layer.get_submodule(part)
    nn.utils.parametrizations.weight_norm(module)
    check(layer, expected_output(layer, X))
    with torch.no_grad():
        module.parametrizations.weight.original0.mul_(1.5)
    check(layer, expected_output(layer, X))


def replica_of(module: nn.Module) -> nn.Module:
    """What `nn.DataParallel` makes for each device: parameters have become attributes."""
    copies = {child: child._replicate_for_data_parallel() for child in module.modules()}
    for child, copy in copies.items():
        for name, inner in child._modules.items():
            copy._modules[name] = None if inner is None else copies[inner]
        copy._former_parameters = {}
        for name, parameter in child._parameters.items():
            if parameter is None:
                copy._parameters[name] = None
            else:
                copied = parameter.clone()
                setattr(copy, name, copied)
                copy._former_parameters[name] = copied
    return copies[module]


@pytest.mark.parametrize("kind", ["implicit_frequency", "free_frequency", "implicit_spatial"])
@pytest.mark.parametrize("training", [False, True])
def test_replicas_of_data_parallel(kind: str, training: bool) -> None:
    torch.manual_seed(0)
    layer = make_layer(kind, SIZE, **VARIANTS[0], bias=True).train(training)
    with torch.no_grad():
        layer(X)
    replica = replica_of(layer)
    y = replica(X)
    expected = expected_output(layer, X)
    torch.testing.assert_close(y, expected, atol=1e-11, rtol=1e-9)
    weights = list(layer.parameters())
    upstream = torch.randn_like(y)
    found = torch.autograd.grad(y, weights, upstream)
    wanted = torch.autograd.grad(expected, weights, upstream, materialize_grads=True)
    torch.testing.assert_close(found, wanted, atol=1e-11, rtol=1e-9)
    with torch.no_grad():
        torch.testing.assert_close(replica(X), expected.detach(), atol=1e-11, rtol=1e-9)
