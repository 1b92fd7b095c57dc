"""What every kind of layer must do as a module, with every mixing and boundary."""

import copy
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import jaxtyping
import pytest
import torch
from torch import Tensor, nn

from nifbuild.nn import (
    FreeFrequencyConv2d,
    GlobalConv2d,
    ImplicitFrequencyConv2d,
    ImplicitSpatialConv2d,
)
from tests.coverings import each_pair

SIZE = (6, 9)
MAKERS: dict[str, Callable[..., GlobalConv2d]] = {
    "implicit_frequency": partial(ImplicitFrequencyConv2d, init_size=SIZE),
    "implicit_spatial": partial(ImplicitSpatialConv2d, init_size=SIZE),
    "free_frequency": lambda i, o, **rest: FreeFrequencyConv2d(i, o, SIZE, **rest),
}
VARIANTS: list[dict[str, Any]] = [
    {"mixing": "separable", "boundary": "zeros"},
    {"mixing": "separable", "stride": 2, "downsample": "low_pass"},
    {"mixing": "depthwise", "boundary": "reflect", "out_channels": 8},
    {"mixing": "full", "boundary": "replicate", "kernel_size": 3, "padding": 0},
    {"mixing": "full", "groups": 2},
    {"mixing": "low_rank", "rank": 3, "stride": (1, 3)},
]


@pytest.fixture(params=MAKERS)
def maker(request: pytest.FixtureRequest) -> Callable[..., GlobalConv2d]:
    def make(**arguments: Any) -> GlobalConv2d:
        torch.manual_seed(0)
        fields = {"out_channels": 4, "bias": True, **arguments}
        layer = MAKERS[request.param](4, fields.pop("out_channels"), **fields)
        if layer.bias is not None:
            nn.init.normal_(layer.bias)
        return layer

    return make


Maker = Callable[..., GlobalConv2d]


def in_float64(layer: GlobalConv2d, x: Tensor) -> Tensor:
    return copy.deepcopy(layer).double()(x.double())


@each_pair(
    maker=MAKERS,
    dtype=[torch.bfloat16, torch.float16, torch.float32],
    memory=["recompute", "save"],
    variant=VARIANTS,
    indirect=["maker"],
)
def test_precisions_with_autocast_on_and_off(
    maker: Maker, dtype: torch.dtype, memory: str, variant: dict[str, Any]
) -> None:
    layer = maker(**variant, memory=memory)
    x = torch.randn(3, 4, *SIZE).to(dtype)
    exact = x.double().requires_grad_()
    twin = copy.deepcopy(layer).double()
    expected = twin(exact)
    upstream = torch.randn_like(expected)
    tolerance = {torch.bfloat16: 0.01, torch.float16: 0.004, torch.float32: 1e-5}
    for autocast in (False, True):
        own = x.clone().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            y = layer(own)
            assert y.dtype == nn.Conv2d(4, 1, 1, dtype=dtype)(own).dtype
            kept = [t for t in kept_for_backward(layer, own) if t.data_ptr() == own.data_ptr()]
            assert all(t.dtype == dtype for t in kept)
            assert kept or memory == "save"
        # Nothing is computed in autocast's type: only the result is rounded to it.
        rounded = upstream.to(y.dtype).double()
        exact_gradients = torch.autograd.grad(
            expected, [exact, *twin.parameters()], rounded, retain_graph=True
        )
        found = torch.autograd.grad(y, [own, *layer.parameters()], upstream.to(y.dtype))
        for a, b in zip([y, *found], [expected, *exact_gradients], strict=True):
            assert (a.double() - b).norm() <= tolerance[a.dtype] * b.norm()
        assert all(g.dtype == p.dtype for g, p in zip(found[1:], layer.parameters(), strict=True))


def test_autocast_leaves_float64_alone(maker: Maker) -> None:
    layer = maker(dtype=torch.float64)
    x = torch.randn(2, 4, *SIZE, dtype=torch.float64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(x)
        assert y.dtype == nn.Conv2d(4, 1, 1, dtype=torch.float64)(x).dtype == torch.float64
    torch.testing.assert_close(y, layer(x), atol=1e-12, rtol=1e-12)


@each_pair(
    maker=MAKERS,
    variant=VARIANTS,
    dtype_and_size=[(torch.float16, 1e4), (torch.bfloat16, 1e30)],
    indirect=["maker"],
)
def test_large_activations_stay_finite(
    maker: Maker, dtype_and_size: tuple[torch.dtype, float], variant: dict[str, Any]
) -> None:
    """A half-precision transform would overflow: zero frequency is the sum over the image."""
    dtype, size = dtype_and_size
    layer = maker(**variant)
    with torch.no_grad():
        for p in layer.parameters():
            p.mul_(0.3)  # the output itself has to fit the type
    x = torch.full((2, 4, *SIZE), size, dtype=dtype, requires_grad=True)
    y = layer(x)
    y.mean().backward()
    assert y.isfinite().all()
    assert x.grad is not None and x.grad.isfinite().all()


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_copies_share_nothing_and_agree(maker: Maker, variant: dict[str, Any]) -> None:
    layer = maker(**variant)
    x = torch.randn(2, 4, *SIZE)
    layer(x).sum().backward()
    layer.eval()
    with torch.no_grad():
        expected = layer(x)
        fresh = maker(**variant).eval()
        fresh.load_state_dict(layer.state_dict())
        for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), fresh):
            assert torch.equal(other(x), expected)
            for p in other.parameters():
                p.mul_(2)
            assert not torch.allclose(other(x), expected)
        assert torch.equal(layer(x), expected)
    assert set(layer.state_dict()) == {name for name, _ in layer.named_parameters()}


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_evaluates_with_the_weights_of_the_moment(maker: Maker, variant: dict[str, Any]) -> None:
    layer = maker(**variant)
    x = torch.randn(2, 4, *SIZE)
    for _ in range(2):
        with torch.no_grad():
            for p in layer.parameters():
                p.add_(0.1)
            evaluated = layer.eval()(x)
        torch.testing.assert_close(evaluated, layer.train()(x))
        with torch.inference_mode():
            torch.testing.assert_close(layer.eval()(x).clone(), evaluated)


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_gradcheck_and_double_backward(maker: Maker, variant: dict[str, Any]) -> None:
    layer = maker(**variant, dtype=torch.float64)
    x = torch.randn(1, 4, *SIZE, dtype=torch.float64, requires_grad=True)
    names, weights = zip(*layer.named_parameters(), strict=True)

    def apply(x: Tensor, *weights: Tensor) -> Tensor:
        named = dict(zip(names, weights, strict=True))
        return torch.func.functional_call(layer, named, (x,))

    assert torch.autograd.gradcheck(apply, (x, *weights), fast_mode=True)
    assert torch.autograd.gradgradcheck(apply, (x, *weights), fast_mode=True)
    layer.memory = "save"
    assert torch.autograd.gradcheck(apply, (x, *weights), fast_mode=True)
    with pytest.raises(RuntimeError, match="`memory` \\(='save'\\)"):
        torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_batches_of_none_and_one_and_no_batch(maker: Maker, variant: dict[str, Any]) -> None:
    layer = maker(**variant)
    x = torch.randn(3, 4, *SIZE)
    expected = layer(x)
    torch.testing.assert_close(layer(x[:1]), expected[:1])
    torch.testing.assert_close(layer(x[0]), expected[0])
    none = x[:0].requires_grad_()
    y = layer(none)
    assert y.shape == (0, *expected.shape[1:])
    y.sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in layer.parameters())


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_any_memory_layout(maker: Maker, variant: dict[str, Any]) -> None:
    layer = maker(**variant)
    x = torch.randn(2, 4, *SIZE)
    expected = layer(x)
    for same in (
        x.to(memory_format=torch.channels_last),
        x.transpose(2, 3).contiguous().transpose(2, 3),
        x.repeat(1, 1, 1, 2)[..., : SIZE[1]],
    ):
        torch.testing.assert_close(layer(same), expected)
    layer.to(memory_format=torch.channels_last)
    y = layer(x)
    torch.testing.assert_close(y, expected)
    y.sum().backward()
    assert all(p.grad is not None and p.grad.stride() == p.stride() for p in layer.parameters())


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_on_the_meta_device(maker: Maker, variant: dict[str, Any]) -> None:
    x = torch.randn(2, 4, *SIZE)
    expected = maker(**variant)(x)
    layer = maker(**variant, device="meta", bias=False)
    y = layer(x.to("meta"))
    assert y.is_meta and y.shape == expected.shape
    y.sum().backward()
    layer.to_empty(device="cpu").reset_parameters()
    assert layer(x).isfinite().all()


COMPILE = """
import sys, warnings, torch
from torch._dynamo.utils import counters
from nifbuild.nn import ImplicitFrequencyConv2d
warnings.simplefilter("ignore")
for number, (dynamic, fields) in enumerate({cases}):
    torch._dynamo.reset()
    layer = ImplicitFrequencyConv2d(4, fields.pop("out_channels", 4), **fields)
    compiled = torch.compile(layer, backend="{backend}", fullgraph=True, dynamic=dynamic)
    for size in {sizes}:
        counters.clear()
        for batch in (2, 3, 5):
            x = torch.randn(batch, 4, *size, requires_grad=True)
            inputs = [x, *layer.parameters()]
            y, expected = compiled(x), layer(x)
            upstream = torch.randn_like(y)
            found = torch.autograd.grad(y, inputs, upstream)
            wanted = torch.autograd.grad(expected, inputs, upstream)
            torch.testing.assert_close([y, *found], [expected, *wanted], atol=1e-3, rtol=1e-3)
        # As of a convolution: one for the first number of images, one for any.
        assert counters["stats"]["unique_graphs"] <= 2, (fields, size, counters["stats"])
        if number > 1:  # for time: two of them are compiled for another size, too
            break
    layer.eval()
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), layer(x), atol=1e-3, rtol=1e-3)
"""


@pytest.mark.parametrize(
    ("backend", "cases"),
    [
        ("aot_eager", [(None, {"out_channels": 2, "stride": 2})]),
        pytest.param(
            "aot_eager",
            [(None, v) for v in VARIANTS],
            marks=[pytest.mark.slow, pytest.mark.timeout(900)],
        ),
        pytest.param(
            "aot_eager",
            [(True, {"boundary": "zeros", "stride": 2, "kernel_size": 3})],
            marks=pytest.mark.slow,
        ),
        pytest.param("inductor", [(None, {"boundary": "reflect"})], marks=pytest.mark.slow),
    ],
    ids=["any batch", "variants", "dynamic shapes", "inductor"],
)
def test_compiles_as_one_graph(backend: str, cases: list[Any]) -> None:
    """In a process of its own: type checks at run time are what the compiler cannot follow."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    sizes = ((6, 9), (8, 12)) if len(cases) > 1 else ((6, 9),)
    code = COMPILE.format(cases=cases, backend=backend, sizes=sizes)
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def kept_for_backward(layer: GlobalConv2d, x: Tensor) -> list[Tensor]:
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        layer(x)
    return kept


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_only_the_input_grows_with_the_batch(maker: Maker, variant: dict[str, Any]) -> None:
    layer = maker(**variant)
    few, many = (torch.randn(n, 4, *SIZE, requires_grad=True) for n in (2, 7))
    sizes = []
    for x in (few, many):
        kept = kept_for_backward(layer, x)
        assert any(t.data_ptr() == x.data_ptr() for t in kept)
        sizes.append(sorted(t.nbytes for t in kept if t.data_ptr() != x.data_ptr()))
    assert sizes[0] == sizes[1]
    layer.memory = "save"
    grown = [t for t in kept_for_backward(layer, many) if t.is_complex() and len(t) == 7]
    assert len(grown) == 1


def test_frozen_filters_keep_nothing(maker: Maker) -> None:
    layer = maker(mixing="separable").requires_grad_(False)
    x = torch.randn(2, 4, *SIZE, requires_grad=True)
    assert not any(t.data_ptr() == x.data_ptr() for t in kept_for_backward(layer, x))
    layer(x).sum().backward()
    assert x.grad is not None


@each_pair(maker=MAKERS, variant=VARIANTS, memory=["recompute", "save"], indirect=["maker"])
def test_parts_of_the_batch_make_the_whole(
    maker: Maker, variant: dict[str, Any], memory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = maker(**variant, memory=memory)
    x = torch.randn(7, 4, *SIZE, requires_grad=True)
    inputs = [x, *layer.parameters()]
    expected = layer(x)
    upstream = torch.randn_like(expected)
    wanted = torch.autograd.grad(expected, inputs, upstream)
    for name in ("CHUNK_BYTES", "PAIRWISE_CHUNK_BYTES"):
        monkeypatch.setattr(f"nifbuild.nn.spectral_convolution.{name}", 2 * 4 * 6 * 9 * 4)
    monkeypatch.setattr("nifbuild.nn.fourier.MAX_MATRIX_ELEMENTS", 0)  # the other transform, too
    y = layer(x)
    found = torch.autograd.grad(y, inputs, upstream)
    torch.testing.assert_close([y, *found], [expected, *wanted], atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kernel_size": 0}, "`kernel_size` (=(0, 0)) must be at least 1"),
        ({"padding": 1}, "give its `kernel_size` too"),
        ({"dilation": 2}, "give its `kernel_size` too"),
        ({"kernel_size": 3, "padding": -1}, "`padding` (=(-1, -1)) must not be negative"),
        ({"kernel_size": 3, "dilation": 0}, "`dilation` (=(0, 0)) must be at least 1"),
        ({"mixing": "fully"}, "must be one of 'depthwise', 'separable', 'full', 'low_rank'"),
        ({"boundary": "ones"}, "must be one of 'circular', 'zeros', 'reflect', 'replicate'"),
        ({"backend": "cuda"}, "`backend` (='cuda') must be one of 'auto', 'fft', 'fused'"),
        ({"downsample": "mean"}, "`downsample` (='mean') must be one of 'slice', 'low_pass'"),
        ({"rank": 2}, "`rank` (=2) is for `mixing='low_rank'`"),
        ({"rank": 0, "mixing": "low_rank"}, "`rank` (=0) must be at least 1"),
        ({"rank": 3, "mixing": "low_rank", "groups": 2}, "`groups` (=2) must divide `rank` (=3)"),
        ({"groups": 3, "mixing": "full"}, "`groups` (=3) must divide `in_channels` (=4)"),
        ({"kernel_size": 4, "padding": "same"}, "an odd `kernel_size` (=(4, 4))"),
        ({"kernel_size": 3, "padding": "same", "stride": 2}, "needs a stride of 1"),
    ],
    ids=str,
)
def test_refuses(
    maker: Maker, arguments: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # users have no type checker
    with pytest.raises(ValueError) as caught:
        maker(**arguments)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"stride": "2"}, "`stride` (='2') must be a whole number, or two for height and width"),
        ({"kernel_size": (3, 3, 3)}, "`kernel_size` (=(3, 3, 3)) must be a whole number, or two"),
        ({"kernel_size": 3, "padding": "sam"}, "two for height and width, `same` or `valid`"),
        ({"groups": 2.0}, "`groups` (=2.0) must be a whole number"),
        ({"padding_mode": "zeros"}, "has no argument 'padding_mode': here it is `boundary`"),
        ({"strid": 2}, "has no argument 'strid': did you mean 'stride'?"),
    ],
    ids=str,
)
def test_arguments_of_another_kind(
    maker: Maker, arguments: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(TypeError) as caught:
        maker(**arguments)
    assert message in str(caught.value)


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("kernel_size", [3, (3, 1)], ids=str)
def test_paddings_by_name(maker: Maker, padding: Any, kernel_size: Any) -> None:
    ordinary = nn.Conv2d(4, 6, kernel_size, padding=padding, dilation=2)
    layer = maker(kernel_size=kernel_size, padding=padding, dilation=2)
    x = torch.randn(1, 4, *SIZE)
    assert layer(x).shape[2:] == ordinary(x).shape[2:]


def test_refuses_an_image_that_is_too_small(maker: Maker) -> None:
    layer = maker(kernel_size=5, padding=0)
    with pytest.raises(ValueError, match=r"3x9 is too small for `kernel_size` \(=\(5, 5\)\)"):
        layer(torch.randn(1, 4, 3, 9))


@pytest.mark.parametrize("mixing", ["separable", "full", "low_rank"])
@pytest.mark.parametrize(("in_channels", "out_channels", "groups"), [(32, 64, 1), (64, 32, 2)])
def test_variance_of_the_output_is_that_of_a_kaiming_convolution(
    mixing: Any, in_channels: int, out_channels: int, groups: int
) -> None:
    """For white noise; of that, functions of position let only the low frequencies pass."""
    for kind, make in MAKERS.items():
        variances = []
        for seed in range(4):
            torch.manual_seed(seed)
            layer = make(in_channels, out_channels, mixing=mixing, groups=groups)
            variances.append(layer(torch.randn(4, in_channels, *SIZE)).var().detach())
        ratio = torch.stack(variances).mean().item() / (2 * in_channels / (out_channels * groups))
        assert (0.05 if kind == "implicit_spatial" else 0.6) < ratio < 1.7, kind


def test_what_it_prints_tells_the_arguments_apart(maker: Maker) -> None:
    texts = {repr(maker(**variant)) for variant in VARIANTS}
    assert len(texts) == len(VARIANTS)
    assert "stride=(1, 3)" in repr(maker(**VARIANTS[-1]))
