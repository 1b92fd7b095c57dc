"""Multiply-adds and parameters, against what torch is seen to do."""

import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from nifbuild import build_model, load_spec
from nifbuild.nn.step_graph import Step, StepGraph
from nifbuild.report.inspect.inspection import inspect_spec
from nifbuild.report.inspect.targets import Target
from nifbuild.spec.ops import OP_CLASSES, Cost, Layer, Merge, Shape, ShapeError
from nifbuild.spec.ops.global_conv import GlobalConv
from nifbuild.spec.ops.structure import StochasticDepth
from tests.test_every_op import LAYERS, SHAPES, make


class Watcher(TorchDispatchMode):
    """Adds up multiply-adds of products, transforms and products of spectra as they happen."""

    macs = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        name = func.__name__.split(".")[0]
        if name in ("bmm", "baddbmm", "mm", "addmm"):
            left = args[-2]
            self.macs += result.numel() * left.shape[-1] * (4 if left.is_complex() else 1)
        elif name == "mul" and all(isinstance(a, torch.Tensor) and a.is_complex() for a in args):
            self.macs += 4 * result.numel()
        elif name in ("_fft_r2c", "_fft_c2r"):
            image = args[0] if name == "_fft_r2c" else result
            height, width = image.shape[-2:]
            transforms = image.numel() // (height * width)
            self.macs += transforms * math.ceil(1.25 * height * width * math.log2(height * width))
        return result


def forward(op: Layer, shape: Shape, watcher, batch: int) -> None:
    with torch.device("meta"):
        module = StepGraph({"op": op.build(shape)}, [Step("op", (0,), (1,))], [0], [1])
        x = torch.empty(batch, shape.channels, *shape.size)
    with torch.no_grad(), watcher:
        module(x)


def fitting(op: Layer) -> list[Shape]:
    shapes = []
    for shape in SHAPES:
        try:
            op.output_shape(shape)
        except ShapeError:
            continue
        shapes.append(shape)
    return shapes


@pytest.mark.parametrize(("name", "fields"), LAYERS, ids=str)
def test_ops_cost_what_flop_counters_count(name, fields):
    """Ordinary ops: half of torch's flops. Image-sized filters, which it does not know: each
    operation is watched."""
    op, batch = make(name, fields), 3
    for shape in fitting(op):
        cost = op.cost(shape)
        assert cost is not None
        if isinstance(op, GlobalConv):
            watcher = Watcher()
            forward(op, shape, watcher, batch)
            assert cost.macs(batch) == watcher.macs, shape
            assert cost.per_pass.keys() == {"filter"}
        else:
            counter = FlopCounterMode(display=False)
            forward(op, shape, counter, batch)
            assert 2 * cost.macs(batch) == counter.get_total_flops(), shape


def test_parts_of_a_global_convolution():
    """By hand: 8x8 images, 4 -> 6 channels, separable, hidden layers of 8 and 4."""
    published = {"hidden": [8, 4], "coordinates": "cycles_per_image"}
    op = make("conv", {"kind": "implicit_frequency", "out_channels": 6, **published})
    cost = op.cost(Shape(4, (8, 8)))
    assert cost is not None
    transform = 5 / 4 * 64 * 6
    assert cost.per_image == {
        "transform": (4 + 4) * transform,
        "product": 4 * 4 * 8 * 5,
        "mixing": 4 * 6 * 64,
    }
    network = 2 * (2 * 40) * (2 * 8 + 8 * 4) + 2 * 40 * 4 * 4
    assert cost.per_pass == {"filter": network}
    assert op.dense_params(Shape(4, (8, 8))) == 4 * 64 + 4 * 6 + 6
    op = make("conv", {"kind": "implicit_frequency", "out_channels": 6, "harmonics": 3})
    cost = op.cost(Shape(4, (8, 8)))
    network = 2 * (2 * 40) * (12 * 16 + 16 * 8) + 2 * 40 * 8 * 4
    assert cost.per_pass == {"filter": network}


def test_every_op_has_a_rule():
    leaves = [c for c in OP_CLASSES if issubclass(c, Layer | Merge)]
    leaves += [StochasticDepth]
    for op_class in leaves:
        own_rule = op_class.cost not in (Layer.cost, Merge.cost)
        assert own_rule or op_class.counts_as_zero, op_class


def test_an_op_without_a_rule_is_named(monkeypatch):
    from nifbuild.spec.ops.norm import BatchNorm

    monkeypatch.setattr(BatchNorm, "counts_as_zero", False)
    inspection = inspect_spec(
        load_spec("specs/resnet18_nif.yaml"), target=Target("cpu", "fp32"), batch_sizes=[2]
    )
    assert inspection.uncounted == ["batch_norm"]
    assert inspection.document()["layers"][1]["macs"] is None


@pytest.mark.parametrize(
    ("spec", "params", "macs"),
    [  # torchvision's published figures: parameters, and GFLOPS, by which it means multiply-adds
        ("resnet18", 11_689_512, 1.81e9),
        ("resnet101", 44_549_160, 7.80e9),
        ("mobilenet_v2", 3_504_872, 0.30e9),
        ("densenet121", 7_978_856, 2.83e9),
        ("convnext_tiny", 28_589_128, 4.46e9),
    ],
)
def test_published_figures(spec, params, macs):
    resolved = load_spec(f"specs/architectures/{spec}.yaml")
    inspection = inspect_spec(resolved, target=Target("cpu", "fp32"), batch_sizes=[2])
    assert inspection.params == inspection.dense_params == params
    assert inspection.macs == pytest.approx(macs, rel=0.005, abs=0.006e9)
    assert inspection.uncounted == []


def test_parameters_are_those_of_the_module():
    resolved = load_spec("specs/everywhere/convnext_tiny.yaml")  # layer scales are parameters
    inspection = inspect_spec(resolved, target=Target("cpu", "fp32"), batch_sizes=[2])
    with torch.device("meta"):
        model = build_model(resolved)
    assert inspection.params == sum(p.numel() for p in model.parameters())
    assert inspection.dense_params > inspection.params
    assert sum(row.cost.macs() for row in inspection.rows if row.cost) == inspection.macs


def test_cost_of_a_batch():
    assert Cost({"direct": 10, "mixing": 1}, {"filter": 5}).macs(3) == 38
