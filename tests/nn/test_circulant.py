"""Products with circulant matrices against convolutions written out, and against the transforms."""

import copy
from typing import Any

import pytest
import torch

from nifbuild.geometry import plan_axis
from nifbuild.nn import FreeFrequencyConv2d, ImplicitFrequencyConv2d, circulant
from tests.coverings import each_pair
from tests.nn.direct_ways import check


@each_pair(
    size=[(1, 1), (4, 4), (7, 7), (8, 8), (2, 9), (5, 3)],
    stride=[(1, 1), (2, 2), (1, 3)],
    boundary=["circular", "zeros"],
    offset=[0, 1, -1],
)
def test_values_and_gradients(
    size: tuple[int, int], stride: tuple[int, int], boundary: Any, offset: int
) -> None:
    settings = {"stride": stride, "boundary": boundary, "offset": offset}
    check(circulant, size, torch.float64, 1e-13, **settings)
    check(circulant, size, torch.float32, 1e-5, **settings)


def test_for_many_small_images_alone() -> None:
    def accepts(batch: int, size: int, boundary: Any = "circular") -> bool:
        axis = plan_axis(size, size, 1, 0, boundary)
        x = torch.zeros(batch, 2, size, size)
        kernel_f = torch.zeros(2, axis.period, axis.period // 2 + 1, dtype=torch.complex64)
        return circulant.accepts(x, kernel_f, (axis, axis))

    assert accepts(64, 8) and accepts(16, 4) and accepts(128, 7, "zeros")
    assert not accepts(63, 8) and not accepts(128, 9) and not accepts(128, 8, "reflect")


@each_pair(
    maker=[ImplicitFrequencyConv2d, FreeFrequencyConv2d],
    variant=[
        {"mixing": "depthwise", "bias": True},
        {"mixing": "separable", "out_channels": 6, "bias": True, "stride": 2},
        {"mixing": "low_rank", "rank": 2, "groups": 2},
    ],
    dtype=[torch.float32, torch.float64, torch.bfloat16],
)
def test_layers_take_it_by_themselves(
    maker: Any, variant: dict[str, Any], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    calls = []
    whole = circulant.both_gradients
    monkeypatch.setattr(
        circulant, "both_gradients", lambda *a, **b: calls.append(a) or whole(*a, **b)
    )
    own = {"size": (6, 7)} if maker is FreeFrequencyConv2d else {}
    fields = {"out_channels": 4, **variant}
    by_transforms = maker(4, fields.pop("out_channels"), backend="fft", **fields, **own)
    if dtype == torch.float64:
        by_transforms.double()
    layer = copy.deepcopy(by_transforms)
    layer.backend = "auto"
    x = torch.randn(50, 4, 6, 7).to(dtype).requires_grad_()
    y, right = layer(x), by_transforms(x)
    upstream = torch.randn_like(y)
    found = torch.autograd.grad(y, [x, *layer.parameters()], upstream, create_graph=False)
    assert len(calls) == 1
    wanted = torch.autograd.grad(right, [x, *by_transforms.parameters()], upstream)
    assert len(calls) == 1
    tolerance = {torch.float32: 2e-5, torch.float64: 1e-12, torch.bfloat16: 1e-2}[dtype]
    for a, b in zip((y, *found), (right, *wanted), strict=True):
        assert a.dtype == b.dtype
        assert (a.double() - b.double()).norm() <= tolerance * b.double().norm()
    (first,) = torch.autograd.grad(layer(x).square().sum(), [x], create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), [x])
    assert second.isfinite().all() and second.any()
