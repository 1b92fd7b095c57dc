"""The layer as a module: precision, copies, devices, modes, resolutions, what it refuses."""

import copy
import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jaxtyping
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from nifbuild.nn import ImplicitFrequencyConv2d


def make_layer(**arguments: Any) -> ImplicitFrequencyConv2d:
    torch.manual_seed(0)
    return ImplicitFrequencyConv2d(**{"in_channels": 4, "out_channels": 4, **arguments})


def in_float64(layer: ImplicitFrequencyConv2d, x: Tensor) -> Tensor:
    return copy.deepcopy(layer).double()(x.double())


@pytest.mark.parametrize("out_channels", [2, 4], ids=["mix in spectrum", "mix after"])
@pytest.mark.parametrize("memory", ["recompute", "save"])
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_half_precision_input(
    dtype: torch.dtype, autocast: bool, memory: str, out_channels: int
) -> None:
    layer = make_layer(out_channels=out_channels, bias=True, memory=memory)
    x = torch.randn(2, 4, 6, 7).to(dtype).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        y = layer(x)
    y.float().square().sum().backward()
    assert y.dtype == dtype or autocast
    assert x.grad is not None and x.grad.dtype == dtype
    assert all(p.grad is not None and p.grad.dtype == p.dtype for p in layer.parameters())
    coarse = torch.bfloat16 if autocast else dtype
    tolerance = {torch.bfloat16: 0.03, torch.float16: 0.004, torch.float32: 1e-5}[coarse]
    expected = in_float64(layer, x.detach())
    assert (y - expected).norm() <= tolerance * expected.norm()


def test_is_computed_in_float32_under_autocast() -> None:
    """The result is rounded once; a convolution's products would be, each."""
    layer = make_layer(mixing="depthwise")
    x = torch.randn(2, 4, 8, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(x)
        y.sum().backward()
    assert torch.equal(y, layer(x).bfloat16())


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.complex64])
def test_refuses_images_that_are_no_real_numbers(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # users have no type checker
    with pytest.raises(ValueError, match="it must be of a floating dtype"):
        make_layer()(torch.zeros(1, 4, 5, 5, dtype=dtype))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_module_in_another_dtype(dtype: torch.dtype) -> None:
    layer = make_layer(bias=True).to(dtype)
    x = torch.randn(2, 4, 6, 6, dtype=dtype, requires_grad=True)
    y = layer(x)
    assert y.dtype == dtype
    y.float().sum().backward()
    assert all(p.grad is not None and p.grad.dtype == dtype for p in layer.parameters())
    assert layer.spectrum(4, 4).dtype == (
        torch.complex128 if dtype == torch.float64 else torch.complex64
    )
    torch.testing.assert_close(y.double(), in_float64(layer, x), atol=0.05, rtol=0.05)


def test_one_module_at_several_resolutions() -> None:
    layer = make_layer()
    for size in [(8, 8), (5, 7), (12, 4), (8, 8), (1, 1)]:
        for training in (True, False):
            x = torch.randn(2, 4, *size)
            y = layer.train(training)(x)
            torch.testing.assert_close(y.double(), in_float64(layer, x), atol=1e-5, rtol=1e-5)


def through_pickle(layer: nn.Module) -> nn.Module:
    copied: nn.Module = pickle.loads(pickle.dumps(layer))
    return copied


def through_file(layer: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    loaded: nn.Module = torch.load(file, weights_only=False)
    return loaded


@pytest.mark.parametrize("copier", [copy.deepcopy, through_pickle, through_file])
def test_copies_after_use(copier: Callable[[nn.Module], nn.Module]) -> None:
    layer = make_layer()
    x = torch.randn(1, 4, 6, 6)
    layer(x).sum().backward()
    with torch.no_grad():
        expected = layer.eval()(x)
        copied = copier(layer)
        assert torch.equal(copied(x), expected)
        for p in copied.parameters():
            p.mul_(2)
        assert not torch.allclose(copied(x), expected)
        assert torch.equal(layer(x), expected)


def test_inference_mode_then_training() -> None:
    layer = make_layer(mixing="depthwise").eval()
    x = torch.randn(1, 4, 11, 9)
    with torch.inference_mode():
        expected = layer(x)
    y = layer.train()(x)
    y.sum().backward()
    torch.testing.assert_close(y, expected.clone())
    layer.eval().requires_grad_(False)
    with torch.inference_mode():
        layer(x)
    x.requires_grad_()
    layer(x).sum().backward()
    assert x.grad is not None


def test_a_module_made_in_inference_mode() -> None:
    with torch.inference_mode():
        layer = make_layer().eval()
        x = torch.randn(1, 4, 6, 6)
        before = layer(x)
        layer.filter_network.layers[0].bias.add_(1)
        assert not torch.allclose(layer(x), before)


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_meta_device(stride: int) -> None:
    layer = make_layer(device="meta", out_channels=6, stride=stride, bias=True)
    for module in (layer, layer.eval()):
        with torch.no_grad():
            y = module(torch.empty(2, 4, 7, 8, device="meta"))
        assert y.shape == (2, 6, -(-7 // stride), -(-8 // stride))
    layer(torch.empty(2, 4, 7, 8, device="meta")).sum().backward()
    layer.to_empty(device="cpu").reset_parameters()
    assert layer(torch.randn(2, 4, 7, 8)).isfinite().all()


@pytest.mark.parametrize("size", [(3, 5), (11, 13)], ids=str)
def test_works_on_the_device_of_the_images_whatever_the_default(size: tuple[int, int]) -> None:
    """What is kept for all layers must not lie on the device that happens to be the default."""
    layer = make_layer(boundary="zeros")
    x = torch.randn(2, 4, *size)
    expected = in_float64(layer, x)
    with torch.device("meta"):
        first = layer(x)
    for y in (first, layer(x)):
        torch.testing.assert_close(y.double(), expected, atol=1e-5, rtol=1e-5)


def test_fake_tensors_leave_nothing_behind() -> None:
    layer = make_layer().eval()
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        layer(torch.empty(1, 4, 10, 14))
    x = torch.randn(1, 4, 10, 14)
    with torch.no_grad():
        torch.testing.assert_close(layer(x).double(), in_float64(layer, x), atol=1e-5, rtol=1e-5)


def test_state_dict_holds_weights_only() -> None:
    layer = make_layer(bias=True)
    before = set(layer.state_dict())
    layer.eval()(torch.randn(1, 4, 6, 6))
    assert set(layer.state_dict()) == before == {name for name, _ in layer.named_parameters()}
    assert {"bias", "pointwise.weight"} < before


@pytest.mark.parametrize("out_channels", [2, 4])
@pytest.mark.parametrize("shape", [(0, 4, 6, 6), (1, 4, 6, 6), (4, 6, 6)], ids=str)
def test_batches_of_none_and_one_and_no_batch(shape: tuple[int, ...], out_channels: int) -> None:
    layer = make_layer(out_channels=out_channels)
    x = torch.randn(*shape, requires_grad=True)
    y = layer(x)
    y.sum().backward()
    assert y.shape == (*shape[:-3], out_channels, 6, 6)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())


def test_batch_larger_than_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = make_layer(out_channels=2)
    x = torch.randn(7, 4, 6, 6, requires_grad=True)
    inputs = [x, *layer.parameters()]
    whole = torch.autograd.grad(layer(x).square().sum(), inputs)
    monkeypatch.setattr("nifbuild.nn.spectral_convolution.CHUNK_BYTES", 2 * 4 * 36 * 4)
    for memory in ("recompute", "save"):
        layer.memory = memory
        parts = torch.autograd.grad(layer(x).square().sum(), inputs)
        torch.testing.assert_close(parts, whole, atol=1e-3, rtol=1e-5)


@pytest.mark.parametrize("out_channels", [2, 4])
def test_channels_last_and_strided_inputs(out_channels: int) -> None:
    layer = make_layer(out_channels=out_channels)
    x = torch.randn(2, 4, 6, 8)
    expected = layer(x)
    for same in (
        x.to(memory_format=torch.channels_last),
        x.transpose(2, 3).contiguous().transpose(2, 3),
        x.repeat(1, 1, 1, 2)[..., :8],
    ):
        same = same.detach().requires_grad_()
        y = layer(same)
        torch.testing.assert_close(y, expected)
        y.contiguous(memory_format=torch.channels_last).square().sum().backward()
        assert same.grad is not None


def test_every_parameter_has_a_gradient() -> None:
    """DistributedDataParallel waits for each of them."""
    layer = make_layer(bias=True)
    layer(torch.randn(2, 4, 5, 6)).square().sum().backward()
    assert all(p.grad is not None for p in layer.parameters())


def test_distributed_data_parallel(tmp_path: Path) -> None:
    layer = make_layer(bias=True)
    x = torch.randn(2, 4, 5, 6)
    expected = torch.autograd.grad(layer(x).square().sum(), list(layer.parameters()))
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1
    )
    try:
        wrapped = nn.parallel.DistributedDataParallel(layer)
        for _ in range(2):  # the second forward fails if a parameter was left without gradient
            wrapped.zero_grad()
            wrapped(x).square().sum().backward()
        assert all(p.grad is not None for p in layer.parameters())
        torch.testing.assert_close([p.grad for p in layer.parameters()], list(expected))
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param({"out_channels": 2, "stride": 2}, marks=pytest.mark.slow),
        {"memory": "save", "mixing": "depthwise"},
    ],
    ids=str,
)
def test_compiles_as_one_graph(arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    torch._dynamo.reset()
    layer = make_layer(**arguments)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    x = torch.randn(2, 4, 6, 8, requires_grad=True)
    inputs = [x, *layer.parameters()]
    y, expected = compiled(x), layer(x)
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(
        torch.autograd.grad(y.square().sum(), inputs),
        torch.autograd.grad(expected.square().sum(), inputs),
        atol=1e-4,
        rtol=1e-4,
    )
    layer.eval()
    with torch.no_grad():
        for change in (0, 1):
            layer.filter_network.layers[-1].bias.add_(change)
            torch.testing.assert_close(compiled(x), layer(x))


def test_saves_for_backward_what_memory_says() -> None:
    x = torch.randn(2, 4, 16, 16, requires_grad=True)
    saved: dict[str, list[Tensor]] = {}
    for memory in ("recompute", "save"):
        kept: list[Tensor] = []
        layer = make_layer(mixing="depthwise", memory=memory)
        with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):  # noqa: B023
            layer(x)
        saved[memory] = [t for t in kept if t.ndim == 4]
    (recompute,), (save,) = saved["recompute"], saved["save"]
    assert recompute.data_ptr() == x.data_ptr()
    assert save.shape == (2, 4, 16, 9) and save.is_complex()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"groups": 3, "in_channels": 64}, "`groups` (=3) must divide `in_channels` (=64)"),
        ({"groups": 2, "out_channels": 5}, "`groups` (=2) must divide `out_channels` (=5)"),
        ({"groups": 0}, "`groups` (=0) must be at least 1"),
        ({"in_channels": 0}, "`in_channels` (=0) must be at least 1"),
        ({"stride": 0}, "`stride` (=(0, 0)) must be at least 1"),
        ({"mixing": "full2"}, "`mixing` (='full2') must be one of 'depthwise', 'separable'"),
        ({"boundary": "ones"}, "`boundary` (='ones') must be one of 'circular'"),
        ({"coordinates": "pixels"}, "`coordinates` (='pixels') must be one of 'periodic'"),
        ({"memory": "swap"}, "`memory` (='swap') must be one of 'recompute', 'save'"),
        ({"activation": "relu"}, "`activation` (='relu') must be one of 'silu', 'gelu', 'sine'"),
        ({"hidden": ()}, "`hidden` (=()) must be one or more positive widths"),
        ({"hidden": (8, 0)}, "`hidden` (=(8, 0)) must be one or more positive widths"),
        (
            {"mixing": "depthwise", "out_channels": 6},
            "`out_channels` (=6) must be a multiple of `in_channels` (=4)",
        ),
        (
            {"mixing": "depthwise", "groups": 2},
            "`groups` (=2) must be 1 or `in_channels` (=4)",
        ),
    ],
    ids=str,
)
def test_refuses(arguments: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # users have no type checker
    with pytest.raises(ValueError) as caught:
        make_layer(**arguments)
    assert message in str(caught.value)


def test_refuses_another_number_of_channels() -> None:
    with pytest.raises(ValueError, match=r"5 channels; `in_channels` \(=4\)"):
        make_layer()(torch.randn(1, 5, 4, 4))
