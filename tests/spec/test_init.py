"""How weights are drawn: every scheme against its definition, every architecture as published."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

from nifbuild.compile import build_model
from nifbuild.errors import SpecError
from nifbuild.spec.resolve import Resolved, load_spec, load_text

FAN_IN, FAN_OUT = 64 * 9, 128 * 9


def conv(init: str, more: str = "") -> nn.Conv2d:
    layer = model(f"{{op: conv, out_channels: 128, init: {init}{more}}}").conv
    assert isinstance(layer, nn.Conv2d)
    return layer


def model(op: str, head: str = "") -> nn.Module:
    torch.manual_seed(0)
    return build_model(spec(op, head))


def spec(op: str, head: str = "") -> Resolved:
    text = f"version: 1\nname: x\ninput: {{channels: 64, size: 16}}\n{head}model:\n- {op}\n"
    return load_text(text, "spec")


@pytest.mark.parametrize(
    ("init", "std"),
    [
        ("kaiming_normal", math.sqrt(2 / FAN_OUT)),
        ("{name: kaiming_normal, gain: 3}", 3 / math.sqrt(FAN_OUT)),
        ("{name: kaiming_normal, mode: fan_in}", math.sqrt(2 / FAN_IN)),
        ("kaiming_uniform", math.sqrt(2 / FAN_OUT)),
        ("xavier_normal", math.sqrt(2 / (FAN_IN + FAN_OUT))),
        ("{name: xavier_uniform, gain: 3}", 3 * math.sqrt(2 / (FAN_IN + FAN_OUT))),
        ("normal", 0.02),
        ("{name: normal, std: 0.5}", 0.5),
        ("trunc_normal", 0.02),
        ("default", math.sqrt(1 / 3 / FAN_IN)),
    ],
)
def test_spread(init: str, std: float) -> None:
    weight = conv(init).weight
    assert weight.std().item() == pytest.approx(std, rel=0.02)
    assert abs(weight.mean().item()) < 5 * std / math.sqrt(weight.numel())


@pytest.mark.parametrize(
    ("init", "bound"),
    [
        ("kaiming_uniform", math.sqrt(6 / FAN_OUT)),
        ("{name: kaiming_uniform, gain: 1, mode: fan_in}", math.sqrt(3 / FAN_IN)),
        ("xavier_uniform", math.sqrt(6 / (FAN_IN + FAN_OUT))),
        ("{name: trunc_normal, std: 1}", 2.0),
        ("{name: trunc_normal, std: 0.02, bound: 0.03}", 0.03),
    ],
)
def test_bound(init: str, bound: float) -> None:
    largest = conv(init).weight.abs().max().item()
    assert 0.98 * bound < largest <= bound


def test_orthogonal() -> None:
    rows = conv("{name: orthogonal, gain: 3}").weight.flatten(1)
    assert torch.allclose(rows @ rows.T, 9 * torch.eye(128), atol=1e-4)


@pytest.mark.parametrize("name", ["zeros", "ones"])
def test_constants(name: str) -> None:
    assert (conv(name).weight == (name == "ones")).all()


def test_biases_start_where_they_are_told() -> None:
    layer = conv("{bias: 0.25}")
    assert layer.bias is not None
    assert (layer.bias == 0.25).all()
    drawn = conv("normal").bias
    assert drawn is not None
    assert drawn.abs().max().item() == pytest.approx(1 / math.sqrt(FAN_IN), rel=0.05)  # as torch


def test_an_op_counts_before_the_section() -> None:
    two = "{op: conv}\n- {id: own, op: conv, init: ones}"
    built = model(two, "init: {conv: zeros}\n")
    assert (built.conv.weight == 0).all() and (built.own.weight == 1).all()


def test_a_spec_without_init_is_drawn_as_torch_does() -> None:
    layer = model("{op: conv, out_channels: 128}").conv
    torch.manual_seed(0)
    assert torch.equal(layer.weight, nn.Conv2d(64, 128, 3).weight)


def test_norms() -> None:
    ops = "{op: batch_norm}\n- {op: group_norm, init: {name: zeros, bias: 2}}\n- {op: layer_norm}"
    built = model(ops, "init: {batch_norm: {bias: 1}, layer_norm: zeros}\n")
    assert (built.batch_norm.weight == 1).all() and (built.batch_norm.bias == 1).all()
    assert (built.group_norm.weight == 0).all() and (built.group_norm.bias == 2).all()
    assert (built.layer_norm.weight == 0).all() and (built.layer_norm.bias == 0).all()


def test_linear_layers_per_pixel_too() -> None:
    built = model("{op: linear, per_pixel: true, out_features: 5}", "init: {linear: ones}\n")
    assert (built.linear.weight == 1).all()


@pytest.mark.parametrize("kind", ["implicit_frequency", "free_frequency", "implicit_spatial"])
@pytest.mark.parametrize("mixing", ["separable", "low_rank"])
def test_of_large_filters_only_the_1x1_convolutions_are_drawn(kind: str, mixing: str) -> None:
    fields = f"op: conv, kind: {kind}, mixing: {mixing}"
    plain = model(f"{{{fields}}}").conv.state_dict()
    ones = model(f"{{{fields}, init: {{name: ones, bias: 3}}}}").conv.state_dict()
    for name, weight in ones.items():
        if name.startswith("pointwise"):
            assert (weight == 1).all()
        elif name == "bias":
            assert (weight == 3).all()
        else:
            assert torch.equal(weight, plain[name]), name


@pytest.mark.parametrize(
    ("op", "said"),
    [
        ("{op: conv, kind: implicit_frequency, mixing: full, init: normal}", "no 1x1 convolutions"),
        ("{op: batch_norm, affine: false, init: zeros}", "without scale and shift"),
        ("{op: batch_norm, init: normal}", "unknown name 'normal'"),
        ("{op: conv, init: kaiming}", "did you mean 'kaiming_normal'"),
        ("{op: conv, init: {name: normal, mode: fan_in}}", "unknown field 'mode'"),
        ("{op: conv, init: {name: normal, std: -1}}", "a number above 0"),
        ("{op: conv, init: {name: kaiming_normal, gain: 0}}", "a number above 0"),
        ("{op: residual, zero_init: true, body: [{op: conv}]}", "does not end with a norm"),
    ],
)
def test_what_has_no_meaning_is_an_error(op: str, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        spec(op)


def test_an_unknown_op_of_the_section() -> None:
    with pytest.raises(SpecError, match="fields: conv, linear"):
        spec("{op: conv}", "init: {convolution: normal}\n")


def test_residual_ops_that_start_as_their_shortcut() -> None:
    body = "[{op: conv}, {op: batch_norm}, {op: relu}, {op: conv}, {id: last, op: batch_norm}]"
    built = model(f"{{op: residual, zero_init: true, body: {body}}}").eval()
    assert (built.batch_norm.weight == 1).all() and (built.last.weight == 0).all()
    x = torch.randn(2, 64, 16, 16)
    assert torch.equal(built(x), x)


def test_the_written_out_spec_draws_the_same() -> None:
    first = load_spec("specs/resnet18.yaml", overrides=["vars.width=4", "init.batch_norm=zeros"])
    torch.manual_seed(1)
    weights = build_model(first).state_dict()
    torch.manual_seed(1)
    again = build_model(load_text(first.text, "written")).state_dict()
    assert all(torch.equal(weight, again[name]) for name, weight in weights.items())


def _torch(layer: nn.Module) -> float:
    """The largest bias that torch draws."""
    return 0 if layer.bias is None else 1 / math.sqrt(layer.weight[0].numel())


Expected = Callable[[nn.Module], tuple[float, float]]
"""Spread of weights and largest bias of a layer."""


def _resnet(layer: nn.Module) -> tuple[float, float]:
    if isinstance(layer, nn.Conv2d):
        outputs, _, height, width = layer.weight.shape
        return math.sqrt(2 / (outputs * height * width)), 0
    assert isinstance(layer, nn.Linear)
    return 1 / math.sqrt(3 * layer.in_features), 1 / math.sqrt(layer.in_features)


def _densenet(layer: nn.Module) -> tuple[float, float]:
    if isinstance(layer, nn.Conv2d):
        return math.sqrt(2 / layer.weight[0].numel()), 0
    assert isinstance(layer, nn.Linear)
    return 1 / math.sqrt(3 * layer.in_features), 0


def _mobilenet(layer: nn.Module) -> tuple[float, float]:
    return (_resnet(layer)[0], 0) if isinstance(layer, nn.Conv2d) else (0.01, 0)


def _regnet(layer: nn.Module) -> tuple[float, float]:
    """Its convolutions with a bias, those of gates, keep torch's."""
    if isinstance(layer, nn.Conv2d) and layer.bias is not None:
        return _mobilenet(layer)[0], 1 / math.sqrt(layer.in_channels)
    return _mobilenet(layer)


def _efficientnet(layer: nn.Module) -> tuple[float, float]:
    """A uniform draw within 1 / sqrt(classes)."""
    return (_resnet(layer)[0], 0) if isinstance(layer, nn.Conv2d) else (1 / math.sqrt(3000), 0)


def _mnasnet(layer: nn.Module) -> tuple[float, float]:
    """kaiming_uniform by the fan-out with the gain of a sigmoid, which is 1."""
    return (_resnet(layer)[0], 0) if isinstance(layer, nn.Conv2d) else (1 / math.sqrt(1000), 0)


def _squeezenet(layer: nn.Module) -> tuple[float, float]:
    assert isinstance(layer, nn.Conv2d)
    return (0.01 if layer.out_channels == 1000 else _densenet(layer)[0]), 0


PUBLISHED: dict[str, Expected] = {
    "resnet18": _resnet,
    "resnet50": _resnet,
    "resnet101": _resnet,
    "densenet121": _densenet,
    "mobilenet_v2": _mobilenet,
    "convnext_tiny": lambda layer: (0.02, 0),
    "squeezenet1_1": _squeezenet,
    "efficientnet_b0": _efficientnet,
    "mobilenet_v3_large": _mobilenet,
    "shufflenet_v2_x1_0": lambda layer: (1 / math.sqrt(3 * layer.weight[0].numel()), _torch(layer)),
    "mnasnet1_0": _mnasnet,
    "regnet_y_400mf": _regnet,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_architectures_start_as_torchvision_draws_them(name: str) -> None:
    torch.manual_seed(0)
    built = build_model(load_spec(f"specs/architectures/{name}.yaml"))
    seen = 0
    for path, layer in built.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            std, largest = PUBLISHED[name](layer)
            count = layer.weight.numel()
            # Six standard errors of a standard deviation.
            assert layer.weight.std().item() == pytest.approx(std, rel=6 / math.sqrt(2 * count)), (
                path
            )
            bias = 0.0 if layer.bias is None else layer.bias.abs().max().item()
            assert bias <= largest and (bias > 0.9 * largest or not largest), path
            seen += 1
        elif isinstance(layer, nn.modules.batchnorm._NormBase | nn.LayerNorm):
            assert (layer.weight == 1).all() and (layer.bias == 0).all(), path
    assert seen > 20
