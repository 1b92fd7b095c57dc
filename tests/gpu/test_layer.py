"""The layer on a CUDA device against itself in float64 on the CPU, which other tests check."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from nifbuild.nn import FreeFrequencyConv2d, ImplicitFrequencyConv2d, ImplicitSpatialConv2d
from tests.coverings import each_pair

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
VARIANTS: list[dict[str, Any]] = [
    {"mixing": "separable", "boundary": "zeros"},
    {"mixing": "separable", "stride": 2, "downsample": "low_pass"},
    {"mixing": "depthwise", "boundary": "reflect", "out_channels": 16},
    {"mixing": "full", "kernel_size": 3, "padding": 0},
    {"mixing": "low_rank", "rank": 3, "stride": (1, 3)},
]
MAKERS = [ImplicitFrequencyConv2d, ImplicitSpatialConv2d, FreeFrequencyConv2d]


@each_pair(
    maker=MAKERS,
    variant=VARIANTS,
    size=[(56, 56), (32, 32), (7, 7), (13, 30)],
    dtype=[torch.float32, torch.bfloat16, torch.float16],
    autocast=[None, torch.bfloat16, torch.float16],
)
def test_values_and_gradients(
    maker: Any,
    variant: dict[str, Any],
    size: tuple[int, int],
    dtype: torch.dtype,
    autocast: torch.dtype | None,
) -> None:
    """cuFFT has no bfloat16, and float16 for powers of two alone: 32 is one, 56 and 7 are not."""
    torch.manual_seed(0)
    own = {"size": size} if maker is FreeFrequencyConv2d else {}
    fields = {"out_channels": 8, "bias": True, **variant, **own}
    exact = maker(8, fields.pop("out_channels"), **fields).double()
    layer = copy.deepcopy(exact).float().cuda()
    x = torch.randn(3, 8, *size).to(dtype)
    x_exact, x_cuda = x.double().requires_grad_(), x.cuda().requires_grad_()
    expected = exact(x_exact)
    with torch.autocast("cuda", dtype=autocast or torch.float16, enabled=autocast is not None):
        y = layer(x_cuda)
    result = autocast or dtype
    assert y.dtype == result and y.is_cuda
    upstream = torch.randn_like(expected)
    wanted = torch.autograd.grad(expected, [x_exact, *exact.parameters()], upstream)
    found = torch.autograd.grad(y, [x_cuda, *layer.parameters()], upstream.to(y))
    # In half precision, 1x1 convolutions round their inputs and outputs as ordinary ones do.
    coarsest = torch.bfloat16 if torch.bfloat16 in (result, dtype) else result
    tolerance = {torch.bfloat16: 0.02, torch.float16: 0.004, torch.float32: 1e-4}[coarsest]
    for a, b in zip([y, *found], [expected, *wanted], strict=True):
        assert (a.double().cpu() - b).norm() <= tolerance * b.norm()


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_the_spectrum_kept_for_inference_follows_the_device(variant: dict[str, Any]) -> None:
    fields = {"out_channels": 8, **variant}
    layer = ImplicitFrequencyConv2d(8, fields.pop("out_channels"), **fields).eval()
    x = torch.randn(2, 8, 14, 14)
    with torch.no_grad():
        on_cpu: Tensor = layer(x)
        on_cuda = layer.cuda()(x.cuda())
        again = layer.cpu()(x)
    torch.testing.assert_close(on_cuda.cpu(), on_cpu, atol=1e-4, rtol=1e-4)
    assert torch.equal(again, on_cpu)


def test_memory_for_the_backward_pass_is_the_input() -> None:
    layer = ImplicitFrequencyConv2d(64, 64, mixing="depthwise").cuda()
    x = torch.randn(256, 64, 56, 56, device="cuda", requires_grad=True)
    layer(x)
    before = torch.cuda.memory_allocated()
    y = layer(x)
    kept = torch.cuda.memory_allocated() - before - y.nbytes
    assert kept < 0.05 * x.nbytes


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")  # the compiler's advice
@pytest.mark.parametrize("variant", VARIANTS[:2], ids=str)
def test_compiles(variant: dict[str, Any]) -> None:
    torch._dynamo.reset()
    layer = ImplicitFrequencyConv2d(8, 8, **variant).cuda()
    x = torch.randn(2, 8, 16, 16, device="cuda")
    torch.testing.assert_close(torch.compile(layer)(x), layer(x), atol=1e-4, rtol=1e-4)


@pytest.mark.filterwarnings("ignore::UserWarning")  # of streams, by autograd
@pytest.mark.parametrize("size", [(14, 14), (56, 56), (96, 96)], ids=str)
@pytest.mark.parametrize("variant", VARIANTS[:3], ids=str)
def test_replayed_from_a_cuda_graph(variant: dict[str, Any], size: tuple[int, int]) -> None:
    """Forward and backward, recorded once and replayed on other values."""
    fields = {"out_channels": 8, **variant}
    layer = ImplicitFrequencyConv2d(8, fields.pop("out_channels"), **fields).cuda()
    recorded = copy.deepcopy(layer)
    example = torch.randn(4, 8, *size, device="cuda", requires_grad=True)
    replay = torch.cuda.make_graphed_callables(recorded, (example,))
    for _ in range(2):
        x = torch.randn_like(example, requires_grad=True)
        y, expected = replay(x), layer(x)
        torch.testing.assert_close(y, expected, atol=1e-4, rtol=1e-4)
        upstream = torch.randn_like(y)
        found = torch.autograd.grad(y, [x, *recorded.parameters()], upstream)
        wanted = torch.autograd.grad(expected, [x, *layer.parameters()], upstream)
        for a, b in zip(found, wanted, strict=True):
            assert (a - b).norm() <= 1e-4 * b.norm()


@pytest.mark.parametrize("variant", VARIANTS[:2], ids=str)
def test_inference_from_a_cuda_graph(variant: dict[str, Any]) -> None:
    layer = ImplicitFrequencyConv2d(8, 8, **variant).cuda().eval()
    x = torch.randn(2, 8, 14, 14, device="cuda")
    graph = torch.cuda.CUDAGraph()
    with torch.no_grad():
        layer(x)  # measures which way is faster, and keeps the spectrum
        torch.cuda.synchronize()
        with torch.cuda.graph(graph):
            y = layer(x)
        for _ in range(2):
            x.copy_(torch.randn_like(x))
            graph.replay()
            torch.testing.assert_close(y, layer(x), atol=1e-5, rtol=1e-5)
