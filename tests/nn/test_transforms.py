"""`torch.func`, forward mode and batched gradients, against ordinary autograd of the sum over taps.

What transforms the layer must not change what it computes, nor what it keeps outside of them.
"""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, stack_module_state, vmap

from nifbuild.nn import GlobalConv2d
from tests.nn.test_global_conv_values import expected_output, make_layer

# Forward mode of torch itself uses what torch has deprecated.
pytestmark = pytest.mark.filterwarnings(
    "ignore:`torch.jit.script`:DeprecationWarning", "ignore:There is a performance drop"
)

SIZE = (4, 5)
VARIANTS: list[dict[str, Any]] = [
    {"mixing": "separable", "boundary": "zeros", "out_channels": 3},
    {"mixing": "separable", "out_channels": 5, "stride": 2, "downsample": "low_pass"},
    {"mixing": "depthwise", "boundary": "reflect", "out_channels": 8},
    {"mixing": "full", "boundary": "replicate", "out_channels": 2, "kernel_size": 3, "padding": 0},
    {"mixing": "low_rank", "rank": 2, "out_channels": 4, "groups": 2, "stride": (1, 3)},
]
KINDS = ["implicit_frequency", "free_frequency", "implicit_spatial"]
each_layer = pytest.mark.parametrize(
    ("kind", "variant", "memory"),
    [
        (KINDS[(i + j) % 3], variant, ("recompute", "save")[j])
        for i, variant in enumerate(VARIANTS)
        for j in range(2)
    ],
    ids=str,
)


@pytest.fixture
def layer(kind: str, variant: dict[str, Any], memory: str) -> GlobalConv2d:
    torch.manual_seed(0)
    return make_layer(kind, SIZE, **variant, memory=memory, bias=True)


def close(found: Any, wanted: Any) -> None:
    torch.testing.assert_close(found, wanted, atol=1e-11, rtol=1e-9)


@each_layer
def test_gradients_of_each_image(layer: GlobalConv2d) -> None:
    weights = {name: p.detach() for name, p in layer.named_parameters()}
    x = torch.randn(3, 4, *SIZE, dtype=torch.float64)

    def loss(weights: dict[str, Tensor], image: Tensor) -> Tensor:
        return functional_call(layer, weights, (image[None],)).square().sum()

    found, found_x = vmap(grad(loss, argnums=(0, 1)), (None, 0))(weights, x)
    for i, image in enumerate(x):
        image = image.clone().requires_grad_()
        inputs = [image, *layer.parameters()]
        value = expected_output(layer, image[None]).square().sum()
        wanted = torch.autograd.grad(value, inputs, materialize_grads=True)
        close([found_x[i], *(found[name][i] for name in weights)], list(wanted))


@each_layer
def test_maps_over_images_and_over_layers(layer: GlobalConv2d) -> None:
    x = torch.randn(2, 3, 4, *SIZE, dtype=torch.float64)
    close(vmap(layer)(x), torch.stack([expected_output(layer, part) for part in x]))
    other = copy.deepcopy(layer)
    with torch.no_grad():
        for p in other.parameters():
            p.mul_(1.1)
    for module in (layer, other):
        module.eval()
    stacked, _ = stack_module_state([layer, other])

    def run(weights: dict[str, Tensor], x: Tensor) -> Tensor:
        y: Tensor = functional_call(layer, weights, (x,))
        return y

    with torch.no_grad():
        layer(x[0])  # a spectrum is kept, of weights that do not count in there
        found = vmap(run, (0, None))(stacked, x[0])
        close(found, torch.stack([expected_output(m, x[0]) for m in (layer, other)]))
        close(layer(x[0]), expected_output(layer, x[0]))


@each_layer
def test_forward_mode(layer: GlobalConv2d) -> None:
    """<u, J t> = <J' u, t>, and J' is ordinary autograd's."""
    inputs = {name: p.detach() for name, p in layer.named_parameters()}
    inputs["x"] = torch.randn(2, 4, *SIZE, dtype=torch.float64)
    tangents = {name: torch.randn_like(t) for name, t in inputs.items()}

    def run(inputs: dict[str, Tensor]) -> Tensor:
        weights = {name: t for name, t in inputs.items() if name != "x"}
        y: Tensor = functional_call(layer, weights, (inputs["x"],))
        return y

    y, found = jvp(run, (inputs,), (tangents,))
    with forward_ad.dual_level(), torch.no_grad():
        layer.eval()
        duals = {n: forward_ad.make_dual(t, tangents[n]) for n, t in inputs.items()}
        close(forward_ad.unpack_dual(run(duals)).tangent, found)
    x = inputs["x"].clone().requires_grad_()
    names, weights = zip(*layer.named_parameters(), strict=True)
    expected = expected_output(layer, x)
    close(y, expected.detach())
    upstream = torch.randn_like(expected)
    back = torch.autograd.grad(expected, [x, *weights], upstream, materialize_grads=True)
    wanted = sum((g * tangents[n]).sum() for n, g in zip(["x", *names], back, strict=True))
    close((found * upstream).sum(), wanted)


@pytest.mark.parametrize("memory", ["recompute", "save"])
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_many_upstream_gradients_at_once(variant: dict[str, Any], memory: str) -> None:
    """Of images that are large enough for the FFT."""
    torch.manual_seed(0)
    layer = make_layer("implicit_spatial", (12, 11), **variant, memory=memory, bias=True)
    x = torch.randn(3, 4, 12, 11, dtype=torch.float64, requires_grad=True)
    inputs = [x, *layer.parameters()]
    expected = expected_output(layer, x)
    upstream = torch.randn(2, *expected.shape, dtype=torch.float64)
    together = torch.autograd.grad(layer(x), inputs, upstream, is_grads_batched=True)
    mapped = vmap(lambda u: torch.autograd.grad(layer(x), inputs, u))(upstream)
    for found in (together, mapped):
        for i in range(2):
            wanted = torch.autograd.grad(expected, inputs, upstream[i], retain_graph=True)
            close([g[i] for g in found], list(wanted))


@each_layer
def test_jacobians_and_hessians(layer: GlobalConv2d) -> None:
    x = torch.randn(1, 4, *SIZE, dtype=torch.float64)
    wanted = torch.autograd.functional.jacobian(lambda x: expected_output(layer, x), x)
    for found in (
        jacrev(layer)(x),
        jacfwd(layer)(x),
        torch.autograd.functional.jacobian(layer, x, vectorize=True),
        torch.autograd.functional.jacobian(
            layer, x, vectorize=True, strategy="forward-mode", create_graph=False
        ),
    ):
        close(found.detach(), wanted)

    def cubed(x: Tensor) -> Tensor:
        return layer(x).pow(3).sum()

    # f = sum y^3 of a linear y: its second derivative is 6 J' diag(y) J.
    matrix = wanted.reshape(-1, x.numel())
    y = expected_output(layer, x).detach().flatten()
    second = (6 * matrix.T * y) @ matrix
    close(hessian(cubed)(x).detach().reshape(second.shape), second)


def test_leaves_no_trace() -> None:
    """What is made for all layers in a transform must serve outside of it, and the reverse."""
    torch.manual_seed(0)
    for size in [(3, 7), (7, 3)]:
        layer = make_layer("implicit_frequency", size, mixing="depthwise", out_channels=4).eval()
        x = torch.randn(2, 4, *size, dtype=torch.float64)
        wanted = expected_output(layer, x).detach()
        with torch.no_grad():
            close(vmap(layer)(x[:, None])[:, 0], wanted)
            close(jvp(layer, (x,), (x,))[1], wanted)
            close(layer(x), wanted)
            close(vmap(layer)(x[:, None])[:, 0], wanted)


def test_of_a_model_with_exchanged_convolutions() -> None:
    torch.manual_seed(0)
    first, second = (
        make_layer("implicit_frequency", SIZE, mixing="separable", out_channels=4) for _ in "ab"
    )
    model = nn.Sequential(first, nn.Tanh(), second)
    weights = {name: p.detach() for name, p in model.named_parameters()}
    x = torch.randn(3, 4, *SIZE, dtype=torch.float64)
    found = vmap(
        grad(lambda w, image: functional_call(model, w, (image[None],)).square().sum()), (None, 0)
    )(weights, x)
    for i in range(3):
        value = expected_output(second, expected_output(first, x[i : i + 1]).tanh()).square().sum()
        wanted = torch.autograd.grad(value, list(model.parameters()), materialize_grads=True)
        close([found[name][i] for name in weights], list(wanted))
