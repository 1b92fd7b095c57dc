"""The fused kernel against convolutions in float64; without a GPU, in Triton's interpreter."""

import copy
import os
from typing import Any

import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read where kernels are defined
pytest.importorskip("triton")

from nifbuild.nn import FreeFrequencyConv2d, ImplicitFrequencyConv2d, fused
from nifbuild.nn.tracing import as_on_gpu
from tests.coverings import each_pair
from tests.nn.direct_ways import check as check_way
from tests.nn.direct_ways import frame_of
from tests.nn.oracle import filtered

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
BOUNDS = {torch.float32: 2e-6, torch.bfloat16: 2.0**-7, torch.float16: 2.0**-9}


def check(size: tuple[int, int], dtype: torch.dtype = torch.float32, **settings: Any) -> None:
    check_way(fused, size, dtype, BOUNDS[dtype], device=DEVICE, **settings)


@pytest.mark.parametrize(
    "size", [(1, 1), (2, 3), (4, 4), (7, 7), (8, 8), (9, 14), (16, 5), (28, 28), (33, 2)], ids=str
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_values_and_gradients(size: tuple[int, int], dtype: torch.dtype) -> None:
    check(size, dtype)


@each_pair(
    size=[(7, 8), (10, 9), (20, 3)],
    stride=[(2, 2), (1, 3), (2, 1)],
    boundary=["circular", "zeros"],
    dtype=[torch.float32, torch.float16],
)
def test_strides_and_borders(
    size: tuple[int, int], stride: tuple[int, int], boundary: str, dtype: torch.dtype
) -> None:
    check(size, dtype, stride=stride, boundary=boundary)


@pytest.mark.slow
@pytest.mark.parametrize("size", range(1, 65))
def test_all_sizes(size: int) -> None:
    torch.set_num_threads(1)
    for dtype in BOUNDS:
        check((size, 1 + (7 * size) % 24), dtype, batch=2)
    check((1 + (5 * size) % 11, size), torch.float32, stride=(1, 2), batch=5)
    if size <= 40:
        check((size, 4), torch.bfloat16, stride=(2, 2), boundary="zeros", batch=1)


def test_many_images_that_fill_no_tile() -> None:
    check((4, 4), batch=67)
    check((7, 7), torch.bfloat16, batch=17)


def test_no_images() -> None:
    frame, kernel_f = frame_of((7, 7)), torch.randn(2, 7, 4, dtype=torch.complex64, device=DEVICE)
    x = torch.zeros(0, 2, 7, 7, device=DEVICE)
    assert fused.filter_images(x, kernel_f, None, frame, torch.float32).shape == x.shape
    grad_x, grad_f = fused.both_gradients(x, x, kernel_f, frame, needs_x=True)
    assert grad_x is not None and grad_x.shape == x.shape and not grad_f.any()


@pytest.mark.filterwarnings("ignore:All-NaN slice")
@pytest.mark.parametrize("size", [7, 28])
def test_range_of_half_precision(size: int) -> None:
    """Images of very different magnitude in one batch, and none of them lost or infinite."""
    torch.manual_seed(0)
    frame, places = frame_of((size, size)), [*range(size)]
    scales = torch.tensor([1e-12, 1e30, 1.0, 1e-6])[:, None, None, None]
    x = (scales * torch.randn(4, 2, size, size)).to(torch.bfloat16)
    kernels = torch.randn(2, size, size)
    kernel_f = torch.fft.rfft2(torch.roll(kernels, (-(size // 2), -(size // 2)), (-2, -1)))

    def result() -> torch.Tensor:
        y = fused.filter_images(x.to(DEVICE), kernel_f.to(DEVICE), None, frame, torch.bfloat16)
        return y.double().cpu()

    right = filtered(x.double(), kernels.double(), (places, places), "circular")
    error = (result() - right).flatten(1).norm(dim=1) / right.flatten(1).norm(dim=1)
    assert error.max() < 2.0**-7
    x[1, 0, 0, 0] = torch.nan
    assert result()[1, 0].isnan().all()


@each_pair(
    maker=[ImplicitFrequencyConv2d, FreeFrequencyConv2d],
    variant=[
        {"mixing": "depthwise", "bias": True},
        {"mixing": "separable", "out_channels": 6, "bias": True, "stride": 2},
        {"mixing": "low_rank", "rank": 2, "boundary": "zeros", "groups": 2},
    ],
    dtype=[torch.float32, torch.bfloat16],
    autocast=[False, True],
)
def test_layers(maker: Any, variant: dict[str, Any], dtype: torch.dtype, autocast: bool) -> None:
    """As on a GPU: values, gradients of all weights, and second derivatives."""
    torch.manual_seed(0)
    size, fields = (8, 7), {"out_channels": 4, **variant}
    own = {"size": size} if maker is FreeFrequencyConv2d else {}
    exact = maker(4, fields.pop("out_channels"), **fields, **own).double()
    layer = copy.deepcopy(exact).float().to(DEVICE)
    layer.backend = "fused"
    x = torch.randn(3, 4, *size).to(dtype)
    x_exact, x_layer = x.double().requires_grad_(), x.to(DEVICE).requires_grad_()
    expected = exact(x_exact)
    with as_on_gpu(), torch.autocast(DEVICE, dtype=torch.bfloat16, enabled=autocast):
        y = layer(x_layer)
    half = autocast or dtype == torch.bfloat16
    assert y.dtype == (torch.bfloat16 if half else torch.float32)
    upstream = torch.randn_like(expected)
    wanted = torch.autograd.grad(expected, [x_exact, *exact.parameters()], upstream)
    with as_on_gpu():
        inputs = [x_layer, *layer.parameters()]
        found = torch.autograd.grad(y, inputs, upstream.to(y), retain_graph=True)
    for a, b in zip([y, *found], [expected, *wanted], strict=True):
        assert (a.double().cpu() - b).norm() <= (0.012 if half else 1e-5) * b.norm()
    if not half:
        (first,) = torch.autograd.grad(y.square().sum(), [x_layer], create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), [x_layer])
        (right,) = torch.autograd.grad(exact(x_exact).square().sum(), [x_exact], create_graph=True)
        (right,) = torch.autograd.grad(right.square().sum(), [x_exact])
        assert (second.double().cpu() - right).norm() <= 1e-4 * right.norm()


@pytest.mark.skipif(DEVICE == "cuda", reason="only the interpreter can be looked at")
@pytest.mark.parametrize("size", [56, 28, 14, 7])
def test_bytes_and_operations(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each pixel is read once and written once; 16 products of halves, an eighth of whole ones."""
    from triton.runtime.interpreter import InterpreterBuilder

    counted = {"read": 0, "written": 0, "operations": 0}
    load, store = InterpreterBuilder.create_masked_load, InterpreterBuilder.create_masked_store
    dot = InterpreterBuilder.create_dot

    def counting_load(self: Any, pointers: Any, mask: Any, *arguments: Any) -> Any:
        loaded = load(self, pointers, mask, *arguments)
        if loaded.data.dtype.itemsize == 2:  # the images; constants have 4 bytes
            counted["read"] += 2 * int(mask.data.sum())
        return loaded

    def counting_store(self: Any, pointers: Any, values: Any, mask: Any, *arguments: Any) -> Any:
        if values.data.dtype.itemsize == 2:
            counted["written"] += 2 * int(mask.data.sum())
        return store(self, pointers, values, mask, *arguments)

    def counting_dot(self: Any, a: Any, b: Any, *arguments: Any) -> Any:
        counted["operations"] += 2 * a.data.shape[0] * a.data.shape[1] * b.data.shape[1]
        return dot(self, a, b, *arguments)

    monkeypatch.setattr(InterpreterBuilder, "create_masked_load", counting_load)
    monkeypatch.setattr(InterpreterBuilder, "create_masked_store", counting_store)
    monkeypatch.setattr(InterpreterBuilder, "create_dot", counting_dot)
    frame, batch = frame_of((size, size)), 16
    x = torch.randn(batch, 1, size, size).to(torch.float16)
    kernel_f = torch.randn(1, size, size // 2 + 1, dtype=torch.complex64)
    y = fused.filter_images(x, kernel_f, None, frame, torch.float16)
    assert counted["read"] == x.nbytes and counted["written"] == y.nbytes
    half = 32 if size == 56 else 16
    tiles = batch if size >= 28 else batch // 4 if size == 14 else 1
    assert counted["operations"] == tiles * 16 * 2 * half**3
    assert counted["operations"] <= batch * 16 * 2 * size**3  # of both ways with whole matrices
    fused.both_gradients(x, y, kernel_f, frame, needs_x=True)
    assert counted["read"] == 3 * x.nbytes and counted["written"] == 2 * y.nbytes


@pytest.mark.parametrize("stride", [(1, 1), (2, 1)], ids=str)
def test_as_operators_of_torch(stride: tuple[int, int]) -> None:
    """What the compiler sees: schemas hold, and shapes and dtypes are known without values."""
    torch.manual_seed(0)
    frame = frame_of((8, 6), stride)
    numbers = [number for axis in frame for number in axis[:-1]]
    x = torch.randn(3, 2, 8, 6, device=DEVICE)
    kernel_f = torch.fft.rfft2(torch.randn(2, 8, 6, device=DEVICE))
    y = fused.filter_images(x, kernel_f, None, frame, torch.float32)
    ops = torch.ops.nifbuild
    checks = ("test_schema", "test_faketensor")
    for op, arguments in (
        (ops.filter_images, (x, kernel_f, None, numbers, torch.float32, False)),
        (ops.filter_images, (y, kernel_f, None, numbers, torch.float32, True)),
        (ops.filter_gradients, (x, y, kernel_f, numbers, True)),
        (ops.filter_gradients, (x, y, kernel_f, numbers, False)),
    ):
        torch.library.opcheck(op.default, arguments, test_utils=checks)
    found = ops.filter_images(x, kernel_f, None, numbers, torch.float32, False)
    assert torch.equal(found, y)
    back = ops.filter_images(y, kernel_f, None, numbers, torch.float32, True)
    assert torch.equal(back, fused.filter_gradient(y, kernel_f, frame, torch.float32))


def test_a_layer_reports_what_was_chosen() -> None:
    layer = ImplicitFrequencyConv2d(3, 5, bias=True).to(DEVICE)
    x = torch.randn(2, 3, 9, 9, device=DEVICE)
    with as_on_gpu():
        assert not layer.backend_report()
        y = layer(x)
    (choice,) = layer.backend_report()
    assert (choice.batch, choice.channels, choice.frame[0].size, choice.trains) == (2, 3, 9, True)
    assert choice.why
    torch.testing.assert_close(y, layer(x), rtol=1e-4, atol=1e-5)
    assert not ImplicitFrequencyConv2d(3, 5, stride=2).backend_report()
