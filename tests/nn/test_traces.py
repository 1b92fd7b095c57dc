"""What records the layer to run it elsewhere: torch.fx, torch.jit.trace, torch.export, make_fx.

As an ordinary convolution, it takes any number of images afterwards, and weights as they are then;
unlike one, only images of the size that was shown.
"""

import io
from typing import Any

import jaxtyping
import pytest
import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.proxy_tensor import make_fx

from nifbuild.nn import GlobalConv2d
from tests.nn.test_global_conv_values import expected_output, make_layer

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

slow = pytest.mark.slow

SIZE = (5, 8)
VARIANTS: list[dict[str, Any]] = [
    {"kind": "implicit_frequency", "mixing": "separable", "boundary": "zeros", "out_channels": 3},
    {"kind": "implicit_spatial", "mixing": "separable", "out_channels": 5, "stride": 2},
    {"kind": "free_frequency", "mixing": "depthwise", "boundary": "reflect", "out_channels": 8},
    {"kind": "implicit_frequency", "mixing": "full", "boundary": "replicate", "out_channels": 3},
    {"kind": "implicit_frequency", "mixing": "low_rank", "out_channels": 6, "groups": 2},
]


@pytest.fixture(autouse=True)
def no_type_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def make(variant: dict[str, Any]) -> GlobalConv2d:
    torch.manual_seed(0)
    fields = dict(variant)
    return make_layer(fields.pop("kind"), SIZE, **fields, bias=True)


@pytest.fixture(params=VARIANTS, ids=str)
def layer(request: pytest.FixtureRequest) -> GlobalConv2d:
    return make(request.param)


def images(batch: int, size: tuple[int, int] = SIZE) -> Tensor:
    return torch.randn(batch, 4, *size, dtype=torch.float64)


def check(run: Any, layer: GlobalConv2d) -> None:
    for batch in (1, 2, 3):
        x = images(batch)
        with torch.no_grad():
            torch.testing.assert_close(run(x), expected_output(layer, x), atol=1e-11, rtol=1e-9)


@pytest.mark.parametrize(
    ("variant", "training", "strict"),
    [
        pytest.param(
            variant, training, strict, marks=() if i % 4 == 2 * training + strict else [slow]
        )
        for i, variant in enumerate(VARIANTS)
        for training in (False, True)
        for strict in (False, True)
    ],
    ids=str,
)
def test_export_with_any_number_of_images(
    variant: dict[str, Any], training: bool, strict: bool
) -> None:
    layer = make(variant).train(training)
    with torch.set_grad_enabled(training):
        batch = torch.export.Dim("batch")
        program = torch.export.export(
            layer, (images(2),), dynamic_shapes=({0: batch},), strict=strict
        )
    check(program.module(), layer)
    with pytest.raises((RuntimeError, AssertionError), match=r"size\(\)\[2\] == 5"):
        program.module()(images(2, (8, 5)))


@pytest.mark.parametrize("training", [False, True])
def test_jit_trace_with_any_number_of_images(layer: GlobalConv2d, training: bool) -> None:
    layer.train(training)
    if not training:
        with torch.no_grad():
            layer(images(2))  # the spectrum that is kept must not become a constant
    traced = torch.jit.trace(nn.Sequential(layer), images(2))
    file = io.BytesIO()
    torch.jit.save(traced, file)
    file.seek(0)
    check(torch.jit.load(file), layer)
    for size in [(8, 5), (5, 1), (1, 1), (5, 16)]:
        with pytest.raises(RuntimeError, match="split_sizes"):
            traced(images(2, size))
    with torch.no_grad():
        for p in layer.parameters():
            p.mul_(1.1)
    check(traced, layer)
    x = images(2).requires_grad_()
    names = [*layer.parameters()]
    upstream = torch.randn_like(traced(x))
    found = torch.autograd.grad(traced(x), [x, *names], upstream, allow_unused=True)
    expected = expected_output(layer, x)
    wanted = torch.autograd.grad(expected, [x, *names], upstream, materialize_grads=True)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(torch.zeros_like(b) if a is None else a, b)


def test_fx_takes_it_for_a_leaf(layer: GlobalConv2d) -> None:
    model = nn.Sequential(nn.Identity(), layer)
    traced = fx.symbolic_trace(model)
    assert [n.target for n in traced.graph.nodes if n.op == "call_module"] == ["0", "1"]
    check(traced, layer)
    with pytest.raises(RuntimeError, match=r"trace nn.Sequential\(layer\)"):
        fx.symbolic_trace(layer)


@pytest.mark.parametrize("mode", ["real", "fake", "symbolic"])
def test_make_fx(layer: GlobalConv2d, mode: str) -> None:
    layer.eval()
    with torch.no_grad():
        run = make_fx(layer, tracing_mode=mode, _allow_non_fake_inputs=True)(images(2))
    x = images(2)
    with torch.no_grad():
        for found in (run(x), layer(x)):
            torch.testing.assert_close(found, expected_output(layer, x), atol=1e-11, rtol=1e-9)
