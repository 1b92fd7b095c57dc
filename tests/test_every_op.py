"""Properties that every op must have, over a table of inputs."""

import copy

import pytest
import torch

from nifbuild.nn.step_graph import Step, StepGraph
from nifbuild.nn.tracing import Undrawn
from nifbuild.spec.ops import OP_CLASSES, OPS, Layer, Shape, ShapeError

CASES: dict[str, list[dict]] = {
    "conv": [
        {"kind": kind, "out_channels": 6, **geometry}
        for kind in OPS["conv"]
        for geometry in (
            {},
            {"bias": False},
            {"kernel_size": 5, "stride": 2},
            {"kernel_size": 1},
            {"kernel_size": 3, "stride": 3, "groups": 2},
            {"groups": "depthwise"},
        )
    ]
    + [
        {"kernel_size": [3, 5], "stride": [1, 2], "padding": [0, 1], "dilation": [2, 1]},
        {"kernel_size": 3, "padding_mode": "circular"},
        {"kernel_size": 3, "padding_mode": "reflect"},
        {"kernel_size": 2},
        {"kind": "implicit_frequency", "mixing": "depthwise", "memory": "save"},
        {"kind": "implicit_frequency", "groups": "depthwise", "out_channels": 12},
        {"kind": "implicit_frequency", "stride": [1, 2]},
        {"kind": "implicit_frequency", "mixing": "separable", "hidden": [3]},
        {"kind": "implicit_frequency", "activation": "sine", "coordinates": "cycles_per_pixel"},
        {"kind": "implicit_frequency", "activation": "gelu", "networks": "shared"},
        {"kind": "implicit_frequency", "mixing": "low_rank", "rank": 2, "out_channels": 8},
        {"kind": "free_frequency", "coordinates": "cycles_per_pixel"},
        {"kind": "implicit_spatial", "hidden": [3], "activation": "sine", "positions": "pixels"},
    ]
    + [
        {"kind": kind, "kernel_size": 3, **fields}
        for kind in ("implicit_frequency", "free_frequency", "implicit_spatial")
        for fields in (
            {"mixing": "full", "out_channels": 6, "stride": 2, "downsample": "low_pass"},
            {"mixing": "low_rank", "out_channels": 6, "groups": 2},
            {"padding": 0, "padding_mode": "zeros"},
            {"padding": 2, "padding_mode": "reflect", "dilation": 3},
            {"padding_mode": "replicate", "stride": [3, 1]},
            {"kernel_size": [2, 4], "padding": [3, 0], "stride": 2},
        )
    ],
    "batch_norm": [{}, {"affine": False, "momentum": 0.5, "eps": 1e-3}],
    "layer_norm": [{}, {"affine": False}],
    "group_norm": [{"num_groups": 2}, {"num_groups": 1, "affine": False}],
    "grn": [{}, {"eps": 1e-3}],
    "leaky_relu": [{}, {"negative_slope": 0.5}],
    "gelu": [{}, {"approximate": "tanh"}],
    "dropout": [{}, {"p": 0.2, "per_channel": True}],
    "max_pool": [
        {"kernel_size": 2},
        {"kernel_size": 3, "stride": 2, "padding": 1},
        {"kernel_size": 3, "stride": 2, "ceil_mode": True},
        {"kernel_size": 2, "stride": 3, "padding": 1, "ceil_mode": True},
        {"kernel_size": [1, 3], "stride": [1, 2]},
    ],
    "avg_pool": [
        {"kernel_size": 2},
        {"kernel_size": 3, "stride": 2, "padding": 1, "count_include_pad": False},
        {"kernel_size": 3, "stride": 3, "padding": 1, "ceil_mode": True},
    ],
    "adaptive_avg_pool": [{"output_size": 3}, {"output_size": [9, 1]}],
    "adaptive_max_pool": [{"output_size": 3}, {"output_size": [2, 4]}],
    "linear": [
        {"out_features": 5},
        {"out_features": 1, "bias": False},
        {"out_features": 5, "per_pixel": True},
    ],
    "upsample": [{}, {"scale": [3, 1], "mode": "bilinear"}],
    "conv_transpose": [
        {},
        {"out_channels": 3, "kernel_size": [3, 4], "stride": [1, 2], "padding": [0, 1]},
        {"kernel_size": 4, "padding": 2, "bias": False},
    ],
    "channel_slice": [{"stop": 3}, {"start": 1, "stop": 6}],
    "channel_shuffle": [{"groups": 2}],
    "layer_scale": [{}, {"init": 0.5}],
}
SHAPES = [Shape(4, (8, 8)), Shape(6, (7, 10)), Shape(4, (1, 5)), Shape(4, (16, 3)), Shape(12)]


def make(name: str, fields: dict) -> Layer:
    kinds = OPS[name]
    op_class = kinds[fields.get("kind", next(iter(kinds)))]
    values = {key: tuple(v) if isinstance(v, list) else v for key, v in fields.items()}
    return op_class(op=name, **values)


LAYERS = [
    (name, fields)
    for name, kinds in OPS.items()
    if issubclass(next(iter(kinds.values())), Layer)
    for fields in CASES.get(name, [{}])
]


def test_every_class_and_kind_has_a_case():
    tried = {type(make(name, fields)) for name, fields in LAYERS}
    assert tried == {c for c in OP_CLASSES if issubclass(c, Layer)}


@pytest.mark.parametrize(("name", "fields"), LAYERS, ids=lambda value: str(value))
def test_shape_rule_is_true_and_the_module_behaves(name, fields):
    op = make(name, fields)
    fitting = 0
    for shape in SHAPES:
        try:
            out = op.output_shape(shape)
        except ShapeError as error:
            assert error.what
            continue
        torch.manual_seed(0)
        # As in a model: what an op builds may be a parameter, which has no forward of its own.
        module = StepGraph({"op": op.build(shape)}, [Step("op", (0,), (1,))], [0], [1])
        x = torch.randn(3, shape.channels, *shape.size, requires_grad=True)
        y = module(x)
        assert tuple(y.shape) == (3, out.channels, *out.size), (shape, out)
        y.square().sum().backward()
        assert x.grad is not None and x.grad.isfinite().all()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())
        twin = copy.deepcopy(module)
        twin.load_state_dict(module.state_dict())
        torch.testing.assert_close(twin.eval()(x), module.eval()(x))
        # Its weights are all that it has: files are read into modules that were never drawn.
        with torch.device("meta"), Undrawn():
            hollow = StepGraph({"op": op.build(shape)}, [Step("op", (0,), (1,))], [0], [1])
        hollow.to_empty(device="cpu").load_state_dict(module.state_dict())
        torch.testing.assert_close(hollow.eval()(x), module.eval()(x))
        fitting += 1
    assert fitting >= 1, "no shape of the table fits this op"


GEOMETRIES = [
    {"kernel_size": kernel, "stride": stride, "padding": padding, "dilation": dilation}
    for kernel in (1, 2, 3, 5, 7)
    for stride in (1, 2, 3, 4)
    for padding in ("auto", 0, 1, 3)
    for dilation in (1, 2)
]


@pytest.mark.parametrize("groups", [1, 2, "depthwise"])
@pytest.mark.parametrize("kind", [kind for kind in OPS["conv"] if kind != "standard"])
def test_a_conv_of_any_geometry_keeps_its_output_shape(kind, groups):
    shape = Shape(4, (9, 12))
    x = torch.randn(2, 4, 9, 12)
    # The comparators share all of the geometry with it.
    for geometry in GEOMETRIES[:: 1 if kind == "implicit_frequency" else 7]:
        fields = {**geometry, "groups": groups, "out_channels": 8, "kernel_size": (3, 3)}
        for name in ("kernel_size", "stride", "dilation"):
            fields[name] = (geometry[name], geometry[name])
        padding = geometry["padding"]
        fields["padding"] = padding if padding == "auto" else (padding, padding)
        ordinary = OPS["conv"]["standard"](op="conv", **fields)
        try:
            expected = ordinary.output_shape(shape)
        except ShapeError:
            continue
        y = ordinary.build(shape)(x)
        for mode in ("circular", "zeros"):
            op = OPS["conv"][kind](op="conv", kind=kind, **fields, padding_mode=mode)
            assert op.output_shape(shape) == expected
            assert op.build(shape)(x).shape == y.shape


@pytest.mark.parametrize("kind", ["implicit_frequency", "free_frequency", "implicit_spatial"])
@pytest.mark.parametrize("backend", ["auto", "fft", "fused"])
def test_the_way_to_compute_a_convolution_is_that_of_its_op(kind, backend):
    shape = SHAPES[0]
    op = OPS["conv"][kind](op="conv", kind=kind, backend=backend)
    assert op.build(shape).backend == backend
    assert OPS["conv"][kind](op="conv", kind=kind).build(shape).backend == "auto"


def test_a_shape_rule_refuses_what_torch_refuses():
    for name, fields in LAYERS:
        op = make(name, fields)
        for shape in SHAPES:
            try:
                op.output_shape(shape)
            except ShapeError:
                continue
            module = StepGraph({"op": op.build(shape)}, [Step("op", (0,), (1,))], [0], [1])
            module(torch.zeros(2, shape.channels, *shape.size))
