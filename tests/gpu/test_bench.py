"""The same figures on a GPU: its own clock and its own allocator."""

from dataclasses import replace

import pytest
import torch

from nifbuild.report.bench.contenders import PUBLISHED, InputShape, depthwise
from nifbuild.report.bench.growth import GrowthRequest
from nifbuild.report.bench.layers import LayersRequest
from nifbuild.report.bench.setting import Setting
from nifbuild.report.measure import measure_peak_bytes, measure_saved_bytes, time_calls

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
SHAPE = InputShape(4, 8, 16, 12)
VALUES = 2**20


@pytest.fixture
def setting():
    return Setting(torch.device("cuda"), repeats=3, seconds=1.0)


@pytest.mark.parametrize(
    ("dtype", "autocast"),
    [(torch.float32, False), (torch.bfloat16, False), (torch.bfloat16, True)],
)
def test_table(setting, dtype, autocast):
    setting = replace(setting, dtype=dtype, autocast=autocast)
    contenders = [PUBLISHED, depthwise(3)]
    (found,) = LayersRequest(setting, [SHAPE], contenders).measure().shapes
    assert found.failures == ()
    for figures in found.contenders:
        assert figures.forward_ms.median > 0
        assert figures.forward_backward_ms.median > figures.forward_ms.median / 2
        assert figures.peak_bytes >= SHAPE.num_values * 2 * dtype.itemsize


def test_growth(setting):
    report = GrowthRequest(setting, 1, sizes=(4, 8)).measure()
    assert all(figures.growth.median > 0 for figures in report.sizes)


def test_time_is_that_of_the_device(setting):
    """More work takes longer, though launching it takes the CPU the same time."""
    small, large = (torch.ones(n, n, device="cuda") for n in (64, 8192))
    for matrix in (small, large):
        time_calls(lambda matrix=matrix: matrix @ matrix, 3, setting.device)
    seconds = [time_calls(lambda m=m: m @ m, 10, setting.device) for m in (small, large)]
    assert seconds[1] > 5 * seconds[0]


def test_peak_is_the_most_at_once(setting):
    def call():
        a = torch.ones(VALUES, device="cuda")
        b = torch.ones(VALUES, device="cuda")
        del a
        c = torch.ones(2 * VALUES, device="cuda")
        del b, c

    assert measure_peak_bytes(call, setting.device) == 3 * 4 * VALUES


def test_saved_bytes(setting):
    x = torch.ones(VALUES, device="cuda", requires_grad=True)
    assert measure_saved_bytes(lambda: x.exp(), ()) == 4 * VALUES
