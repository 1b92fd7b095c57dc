import subprocess
import sys

import pytest
import torch
from torch import nn

from nifbuild.nn import ImplicitFrequencyConv2d
from nifbuild.report.measure import measure_peak_bytes, measure_saved_bytes

CPU = torch.device("cpu")
VALUES = 10_000
BYTES = 4 * VALUES


def test_peak_is_the_most_at_once():
    def call():
        a = torch.ones(VALUES)
        b = torch.ones(VALUES)
        del a
        c = torch.ones(2 * VALUES)
        del b, c
        return torch.ones(VALUES)

    assert measure_peak_bytes(call, CPU) == 3 * BYTES


def test_peak_does_not_count_what_was_there():
    kept = [torch.ones(VALUES)]
    assert measure_peak_bytes(lambda: kept.append(kept[0].sin()), CPU) == BYTES
    assert measure_peak_bytes(lambda: kept[0].sin_(), CPU) == 0


def test_garbage_of_an_earlier_measurement_is_not_taken_for_given_back():
    def leave_a_cycle():
        cycle = [torch.ones(5 * VALUES)]
        cycle.append(cycle)

    def call():
        first = torch.ones(VALUES)
        lists = [[] for _ in range(200_000)]  # enough for Python to look for garbage
        return first, torch.ones(VALUES), lists

    measure_peak_bytes(leave_a_cycle, CPU)
    assert measure_peak_bytes(call, CPU) == 2 * BYTES


def test_peak_of_forward_and_backward():
    x, upstream = torch.ones(VALUES, requires_grad=True), torch.ones(VALUES)

    def call():
        y = x.exp()
        return torch.autograd.grad(y, x, upstream)

    assert measure_peak_bytes(call, CPU) == 2 * BYTES  # output and gradient


def test_saved_by_a_depthwise_convolution_is_its_input():
    x = torch.ones(2, 3, 8, 8, requires_grad=True)
    conv = nn.Conv2d(3, 3, 7, padding=3, groups=3, bias=False)
    assert measure_saved_bytes(lambda: conv(x), conv.parameters()) == 2 * 3 * 8 * 8 * 4


def test_saved_by_an_exponential_is_its_output():
    x = torch.ones(VALUES, requires_grad=True)
    assert measure_saved_bytes(lambda: x.exp(), ()) == BYTES


def test_a_storage_counts_once_and_whole():
    x = torch.ones(VALUES, requires_grad=True)
    assert measure_saved_bytes(lambda: x.sin() + x.cos(), ()) == BYTES
    assert measure_saved_bytes(lambda: x[:10].sin() + x[10:20].sin(), ()) == BYTES


def test_nothing_is_saved_without_gradients():
    x = torch.ones(VALUES, requires_grad=True)
    with torch.no_grad():
        assert measure_saved_bytes(lambda: x.exp(), ()) == 0


def test_the_layer_saves_its_input_and_nothing_else_that_grows_with_the_batch():
    layer = ImplicitFrequencyConv2d(3, 3, mixing="depthwise", memory="recompute")
    saved = {}
    for batch in (1, 2, 8):
        x = torch.randn(batch, 3, 8, 8, requires_grad=True)
        measured = measure_saved_bytes(lambda x=x: layer(x), layer.parameters())
        saved[batch] = measured - batch * 3 * 8 * 8 * 4
    assert saved[1] == saved[2] == saved[8]
    spectrum = 3 * 8 * 5 * 8
    assert saved[1] >= spectrum


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_the_profiler_says_nothing(stream):
    code = (
        "import torch; from nifbuild.report.measure import measure_peak_bytes;"
        "measure_peak_bytes(lambda: torch.ones(9), torch.device('cpu'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0
    assert getattr(done, stream) == ""
