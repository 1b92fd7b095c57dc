import json
from dataclasses import replace

import pytest
import torch

from nifbuild.errors import RunError
from nifbuild.report.bench import layers
from nifbuild.report.bench.contenders import (
    FFT,
    LAYER,
    PUBLISHED,
    Contender,
    InputShape,
    depthwise,
)
from nifbuild.report.bench.growth import GrowthRequest
from nifbuild.report.bench.layers import (
    CIFAR_STAGES,
    IMAGENET_STAGES,
    LayersReport,
    LayersRequest,
)
from nifbuild.report.bench.prepared import Activations, Prepared
from nifbuild.report.bench.report_tables import print_report

SHAPE = InputShape(2, 4, 6, 5)
VALUES = 2 * 4 * 6 * 5


def test_default_shapes():
    assert [str(shape) for shape in IMAGENET_STAGES + CIFAR_STAGES] == [
        "32x64x56x56",
        "32x128x28x28",
        "32x256x14x14",
        "32x512x7x7",
        "128x64x32x32",
        "128x128x16x16",
        "128x256x8x8",
        "128x512x4x4",
    ]


def test_figures_of_a_shape(setting):
    heard = []
    request = LayersRequest(setting, [SHAPE], [PUBLISHED, depthwise(3)])
    report = request.measure(heard.append)
    (found,) = report.shapes
    layer, published, ordinary = found.contenders
    assert [f.name for f in found.contenders] == ["implicit_frequency", "published", "depthwise-3"]
    assert layer.forward_backward_ratio.median == layer.forward_ratio.median == 1
    assert ordinary.saved_bytes == 4 * VALUES
    assert ordinary.num_parameters == 4 * 9
    assert published.num_parameters == 2 * (24 + 36 + 20)
    assert layer.num_parameters == 2 * (80 + 136 + 36)
    assert published.peak_bytes > 2 * 4 * VALUES  # output and gradient at the least
    assert found.floor_ms.median > 0
    assert found.crossover is not None
    assert "2x4x6x5 (1 of 1)  warm-up and memory: published" in heard


def test_ratios_and_floors_are_of_the_same_repeat(setting, monkeypatch):
    """Made-up times: the layer's 2 and 20 ms, the contender's 6 and 80, the floor's 1 and 4."""
    made_up = {
        "floor": {"copy": [0.001, 0.004]},
        "implicit_frequency": {"forward": [0.001, 0.001], "forward_backward": [0.002, 0.020]},
        "published": {"forward": [0.002, 0.004], "forward_backward": [0.006, 0.080]},
    }
    monkeypatch.setattr(layers, "measure_in_turn", lambda *_, **__: made_up)
    (found,) = LayersRequest(setting, [SHAPE], [PUBLISHED]).measure().shapes
    layer, published = found.contenders
    assert published.forward_backward_ratio.median == pytest.approx((3 + 4) / 2)
    assert published.forward_ratio.median == pytest.approx((2 + 4) / 2)
    assert published.forward_backward_ms.median == pytest.approx(43)
    assert published.forward_backward_floors.median == pytest.approx((6 + 20) / 2)
    assert published.forward_floors.median == pytest.approx((2 + 1) / 2)
    assert layer.forward_backward_floors.median == pytest.approx((2 + 5) / 2)
    assert found.floor_ms.median == pytest.approx(2.5)


def test_repeats_limit_what_is_measured(setting):
    setting = replace(setting, repeats=3, seconds=100.0)
    (found,) = LayersRequest(setting, [SHAPE], [depthwise(3)]).measure().shapes
    assert {figures.forward_backward_ratio.count for figures in found.contenders} == {3}
    setting = replace(setting, seconds=0.0)
    (found,) = LayersRequest(setting, [SHAPE], [depthwise(3)]).measure().shapes
    assert {figures.forward_backward_ratio.count for figures in found.contenders} == {1}


def test_a_contender_that_cannot_run_is_named_and_the_others_are_measured(setting, monkeypatch):
    build = Contender.build

    def broken(self, *arguments):
        if self.kind == "depthwise":
            raise RuntimeError("not implemented for 'Half'\nand a long trace")
        return build(self, *arguments)

    monkeypatch.setattr(Contender, "build", broken)
    (found,) = LayersRequest(setting, [SHAPE], [depthwise(3), PUBLISHED]).measure().shapes
    assert [figures.name for figures in found.contenders] == ["implicit_frequency", "published"]
    (failure,) = found.failures
    assert (failure.name, failure.reason) == ("depthwise-3", "not implemented for 'Half'")
    assert found.crossover is None


class OnlyForward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight):
        return x * weight

    @staticmethod
    def backward(ctx, grad):
        raise RuntimeError("derivative not implemented")


class Inference(torch.nn.Conv2d):
    def forward(self, x):
        return OnlyForward.apply(x, self.weight[0, 0, 0, 0])


def test_so_is_one_whose_backward_fails(setting, monkeypatch):
    build = Contender.build

    def broken(self, *arguments):
        return Inference(4, 4, 1) if self.kind == "full" else build(self, *arguments)

    monkeypatch.setattr(Contender, "build", broken)
    contenders = [Contender("full-3", "full", 3), depthwise(3)]
    (found,) = LayersRequest(setting, [SHAPE], contenders).measure().shapes
    assert [figures.name for figures in found.contenders] == ["implicit_frequency", "depthwise-3"]
    assert [failure.reason for failure in found.failures] == ["derivative not implemented"]
    assert found.crossover is not None


def test_a_layer_that_cannot_run_is_an_error(setting, monkeypatch):
    def broken(*_):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(Contender, "build", broken)
    with pytest.raises(RunError, match="2x4x6x5 cannot be measured: out of memory"):
        LayersRequest(setting, [SHAPE]).measure()
    with pytest.raises(RunError, match="cannot be run: out of memory"):
        GrowthRequest(setting, 1, sizes=(4, 8)).measure()


def test_threads_and_library_settings_are_as_before(setting):
    setting = replace(setting, threads=2)
    with setting.applied():
        assert torch.get_num_threads() == 2
        assert torch.backends.cudnn.benchmark
        assert setting.environment()["threads"] == 2
    assert torch.get_num_threads() == 1
    assert not torch.backends.cudnn.benchmark


@pytest.mark.parametrize(
    ("dtype", "autocast", "weights", "output"),
    [
        (torch.float32, False, torch.float32, torch.float32),
        (torch.bfloat16, False, torch.bfloat16, torch.bfloat16),
        (torch.bfloat16, True, torch.float32, torch.bfloat16),
        (torch.float16, True, torch.float32, torch.float16),
    ],
)
def test_dtypes(setting, dtype, autocast, weights, output):
    setting = replace(setting, dtype=dtype, autocast=autocast)
    activations = Activations(SHAPE, setting)
    one = Prepared(depthwise(3).build(SHAPE), activations, setting)
    assert activations.x.dtype == next(one.module.parameters()).dtype == weights
    assert one.infer().dtype == one.forward().dtype == output
    grad_x, grad_weight = one.forward_backward()
    assert grad_x.dtype == grad_weight.dtype == weights


def test_inference_keeps_the_spectrum(setting):
    one = Prepared(LAYER.build(SHAPE), Activations(SHAPE, setting), setting)
    passes = []
    for _ in range(3):
        with torch.autograd.profiler.profile() as seen:
            one.infer()
        passes.append(sum(event.name == "aten::baddbmm" for event in seen.function_events))
        one.forward_backward()
    assert passes[0] > 0 and passes[1:] == [0, 0]  # the network's layers, the first time alone


def test_gradients_are_those_of_backward(setting):
    one = Prepared(LAYER.build(SHAPE), Activations(SHAPE, setting), setting)
    found = one.forward_backward()
    y = one.module(one.activations.x)
    y.backward(one.activations.upstream(y.dtype))
    wanted = [one.activations.x.grad, *(p.grad for p in one.module.parameters())]
    assert len(found) == len(wanted)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b)


def test_document_over_all_shapes(layers_report):
    document = json.loads(json.dumps(layers_report.document()))
    assert document["report"] == "layers"
    overall = document["forward_backward_ratio"]["published"]
    assert overall == {"geometric_mean": pytest.approx(4), "min": 2, "max": 8, "num_shapes": 2}
    assert document["forward_backward_ratio"]["depthwise-31"]["num_shapes"] == 1
    small, large = document["shapes"]
    assert small["shape"] == {"batch": 2, "channels": 4, "height": 8, "width": 8}
    assert small["failures"][0]["reason"] == "out of memory"
    assert small["crossover"]["kernel_size"] is None
    assert large["crossover"]["kernel_size"] == 5
    assert large["crossover"]["ratios"]["5"]["median"] == 1.5
    keys = {"forward_ms", "forward_backward_ms", "forward_ratio", "forward_backward_ratio"}
    keys |= {"forward_floors", "forward_backward_floors", "peak_bytes", "saved_bytes"}
    assert keys <= set(large["contenders"][0])
    assert set(large["contenders"][0]["forward_ms"]) == {"median", "first", "third", "count"}


def test_the_chain_of_transforms_and_the_other_layout(setting, capsys):
    contenders = [FFT, depthwise(3, channels_last=True), depthwise(3)]
    (found,) = LayersRequest(setting, [SHAPE], contenders).measure().shapes
    labels = {figures.name: figures.label for figures in found.contenders}
    assert labels == {
        "implicit_frequency": "this layer",
        "fft": "fft",
        "depthwise-3-channels-last": "3x3 ch. last",
        "depthwise-3": "depthwise 3x3",
    }
    print_report(LayersReport(setting.environment(), "depthwise", (found,)))
    text = capsys.readouterr().out
    assert (
        "fused:" not in text
        and "by a chain of transforms" in text
        and "with channels lying together" in text
    )
    assert FFT.build(SHAPE).backend == "fft" and LAYER.build(SHAPE).backend == "auto"


def test_activations_lie_as_a_contender_wants_them(setting):
    for last in (False, True):
        activations = Activations(SHAPE, setting, channels_last=last)
        one = Prepared(depthwise(3).build(SHAPE), activations, setting)
        for tensor in (activations.x, activations.upstream(torch.float32), one.forward()):
            assert tensor.is_contiguous(memory_format=torch.channels_last) is last
