"""Predicted memory against what torch's allocator is seen to hand out."""

import resource
from pathlib import Path

import pytest
import pytorch_optimizer
import torch
from torch import nn
from torch.autograd.profiler import profile, record_function

from nifbuild import build_model, load_spec
from nifbuild.errors import SpecError
from nifbuild.nn import ImplicitFrequencyConv2d
from nifbuild.nn.tracing import as_on_gpu, only_first_chunks, own_constants
from nifbuild.report.inspect.budget import largest_batch
from nifbuild.report.inspect.inspection import inspect_spec
from nifbuild.report.inspect.on_meta import _results
from nifbuild.report.inspect.prediction import predict
from nifbuild.report.inspect.targets import (
    BOUND,
    BOUND_BYTES,
    Target,
    optimizer_bytes,
    optimizer_workspace,
)
from nifbuild.report.inspect.verify import verify
from nifbuild.report.inspect.weightless import Trace, Weightless
from nifbuild.report.measure import measure_peak_bytes, profiled, running_peak
from nifbuild.spec.optimizers import OPTIMIZERS, AdamW, Lars, RmsProp, Sgd
from nifbuild.train.optim import build_optimizer, parameter_groups

ROOT = Path(__file__).parents[2] / "specs"
MODELS = [
    p for p in sorted(ROOT.rglob("*.yaml")) if p.parent.name not in ("data", "recipes", "ablations")
]


def load(path: Path | str, *overrides: str):
    path = ROOT / path
    size = 32 if path.stem.endswith("full") else 64
    # The top specs have digits of 16x16 for data, which says its size.
    sized = [] if path.parent == ROOT else [f"input.size=[{size},{size}]"]
    return load_spec(path, overrides=[*sized, *overrides])


def assert_predicted(resolved, *, batch_sizes, precision="fp32", optimizer=None):
    inspection = inspect_spec(
        resolved, target=Target("cpu", precision), batch_sizes=batch_sizes, optimizer=optimizer
    )
    for found in verify(inspection):
        assert abs(found.error) < BOUND and abs(found.inference_error) < BOUND, found


def test_peaks_of_a_small_network_with_few_images():
    """Where what libraries take for a single small image is much of a peak."""
    narrow = load(ROOT / "resnet18_nif.yaml", "vars.width=4")
    for found in verify(inspect_spec(narrow, target=Target("cpu", "fp32"), batch_sizes=[1, 2])):
        for predicted, measured in (
            (found.predicted_peak_bytes, found.measured_peak_bytes),
            (found.predicted_inference_bytes, found.measured_inference_bytes),
        ):
            assert abs(predicted - measured) < max(BOUND * measured, BOUND_BYTES), found


@pytest.mark.slow
@pytest.mark.parametrize("path", MODELS, ids=lambda p: str(p.relative_to(ROOT)))
def test_peaks_of_every_spec(path):
    """In turn in float32 and in bfloat16; README.md has the table of all in both."""
    # Without bfloat16 in its instruction set, a CPU takes minutes for each step in it.
    has_bf16 = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    precision = "bf16" if has_bf16 and MODELS.index(path) % 2 else "fp32"
    assert_predicted(load(path), batch_sizes=[4, 16], precision=precision)


# Without bfloat16 in its instruction set, a CPU convolves in it very slowly.
BF16 = pytest.param("bf16", marks=[pytest.mark.slow, pytest.mark.timeout(900)])


@pytest.mark.parametrize("precision", ["fp32", BF16])
@pytest.mark.parametrize("spec", ["resnet18.yaml", "resnet18_nif.yaml"])
def test_training_peak(spec, precision):
    assert_predicted(load(spec, "vars.width=32"), batch_sizes=[8, 64], precision=precision)


def peak_of_second(step, held):
    """From the allocator's events, in their order."""

    def two_steps():
        step()
        with record_function("second"):
            step()

    with profile(profile_memory=True) as recorded:
        two_steps()
    events = recorded.kineto_results.events()
    start = next(event.start_ns() for event in events if event.name() == "second")
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    allocated = [sum(t.nbytes for t in held)]
    for _, change in changes:
        allocated.append(allocated[-1] + change)
    return max(b for (at, _), b in zip(changes, allocated[1:], strict=True) if at >= start)


@pytest.mark.parametrize(
    ("spec", "precision", "batch_size"),
    [
        ("architectures/resnet18.yaml", "fp32", 16),  # small maps, large filters
        ("architectures/mobilenet_v2.yaml", "fp32", 4),  # filters for each channel alone
        ("resnet18.yaml", "fp32", 4),
        ("everywhere/resnet18.yaml", "bf16", 4),
    ],
)
def test_peaks_of_steps_in_plain_torch(spec, precision, batch_size):
    resolved = load(spec)
    target, optimizer = Target("cpu", precision), Sgd(name="sgd")
    predicted = predict(resolved, batch_size, target, optimizer).memory
    model, shape = build_model(resolved), resolved.graph.input_shape
    images = torch.randn(batch_size, shape.channels, *shape.size)
    labels = torch.zeros(batch_size, dtype=torch.int64)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4
    )

    def train():
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            logits = model(images).float()
        loss = nn.functional.cross_entropy(logits, labels, label_smoothing=0.1)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    def infer():
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            model(images)

    held = [images, *model.parameters(), *model.buffers()]
    measured = peak_of_second(train, [labels, *held])
    assert predicted.train_peak_bytes == pytest.approx(measured, rel=BOUND)
    optimizer.state.clear()
    model.eval()
    assert predicted.inference_peak_bytes == pytest.approx(peak_of_second(infer, held), rel=BOUND)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    ("shape", "filters", "settings"),
    [
        ((2, 16, 32, 32), (32, 16, 3, 3), {"padding": 1}),
        ((1, 16, 8, 8), (32, 16, 3, 3), {"padding": 1}),
        ((2, 32, 32, 32), (64, 32, 1, 1), {}),
        ((2, 32, 32, 32), (64, 32, 1, 1), {"stride": 2}),
        ((2, 32, 32, 32), (32, 1, 3, 3), {"padding": 1, "groups": 32}),
        ((2, 64, 32, 32), (64, 32, 5, 5), {"padding": 2, "groups": 2}),
        ((2, 32, 16, 16), (32, 32, 3, 3), {"padding": 2, "dilation": 2}),
        ((48, 8, 64, 64), (8, 8, 3, 3), {"padding": 1}),  # more images than are tried
    ],
    ids=str,
)
def test_peak_of_a_convolution(shape, filters, settings, dtype):
    """Whatever computes it: that depends on its size, its type and the processor."""

    def gradients(x, weight):
        y = torch.conv2d(x, weight, **settings)
        return y, torch.autograd.grad(y, [x, weight], torch.ones_like(y))

    trace = Target("cpu", "fp32").trace()
    with trace:
        inputs = [torch.empty(s, dtype=dtype, requires_grad=True) for s in (shape, filters)]
        before = trace.current
        kept = gradients(*inputs)
    inputs = [torch.zeros(s, dtype=dtype, requires_grad=True) for s in (shape, filters)]
    measured = measure_peak_bytes(lambda: gradients(*inputs), torch.device("cpu"))
    assert trace.peak - before == pytest.approx(measured, rel=BOUND)
    del kept


def test_huge_filters_are_not_tried(tmp_path):
    path = tmp_path / "huge.yaml"
    path.write_text(
        "version: 1\ninput: {channels: 8192, size: [4, 4]}\n"
        "model: [{op: conv, out_channels: 8192, kernel_size: 3}, flatten]\n"
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    memory = predict(load_spec(path), 4, Target("cpu", "fp32")).memory
    assert memory.train_peak_bytes > 4 * memory.weights_bytes > 2**33
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**19  # KiB


@pytest.mark.parametrize(
    "settings",
    [
        ["train.optimizer={name: sgd}"],
        ["train.optimizer={name: sgd, momentum: 0, weight_decay: 0}"],
        ["train.ema=0.99"],
        ["train.accumulate=2"],
        ["train.kernel_spread=0.1"],
        ["train.channels_last=true"],
        ["train.clip_norm=1.0"],
    ],
    ids=str,
)
def test_training_peak_with_other_settings(settings):
    assert_predicted(load("resnet18_nif.yaml", *settings), batch_sizes=[16])


@pytest.mark.parametrize(
    "optimizer",
    [
        *(OPTIMIZERS[name].model_validate({"name": name}) for name in OPTIMIZERS),
        Sgd(name="sgd", momentum=0.0),
        Sgd(name="sgd", weight_decay=0.0),
        RmsProp(name="rmsprop", momentum=0.0),
        Lars(name="lars", momentum=0.0),
    ],
    ids=str,
)
def test_optimizer_state(optimizer):
    model = nn.Sequential(nn.Linear(30, 50), nn.Linear(50, 7, bias=False))
    real = build_optimizer(model, optimizer)
    model(torch.randn(2, 30)).sum().backward()
    real.step()
    kept = [v for state in real.state.values() for v in state.values() if v is not None]
    expected = sum(v.nbytes for v in kept)
    assert optimizer_bytes(optimizer, parameter_groups(model, optimizer)) == expected


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_what_a_step_of_an_optimizer_takes(name, decay, at_once, monkeypatch):
    """As measured: at once, as on CUDA, can be asked for on a CPU, too.

    Without what oneDNN takes for products in 16 bits where the processor has instructions for them.
    """
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    optimizer = OPTIMIZERS[name].model_validate({"name": name, "weight_decay": decay})
    widths = (100, 200, 200, 50, 60)
    model = nn.Sequential(*(nn.Linear(width, 50, bias=False) for width in widths))
    for weight in model.parameters():
        weight.grad = torch.randn_like(weight)
    real = build_optimizer(model, optimizer)
    if isinstance(real, pytorch_optimizer.base.optimizer.BaseOptimizer):
        at_once = False  # they step all at once on a CPU, too
    else:
        for group in real.param_groups:
            group["foreach"] = at_once
    for _ in range(6):  # some take other steps first
        real.step()
    measured = running_peak(profiled(real.step))
    device = "cuda" if at_once else "cpu"
    predicted = optimizer_workspace(optimizer, parameter_groups(model, optimizer), device)
    assert abs(measured - predicted) <= 100


def test_optimizer_workspace_on_cuda_is_for_all_parameters_at_once():
    matrices = {"params": [torch.empty(10), torch.empty(20)], "weight_decay": 0.1}
    vectors = {"params": [torch.empty(5)], "weight_decay": 0.0}
    groups = [matrices, vectors]
    assert optimizer_workspace(AdamW(), groups, "cuda") == 120
    assert optimizer_workspace(AdamW(weight_decay=0.0), groups, "cpu") == 40 + 2 * 80
    plain = Sgd(name="sgd", momentum=0.0)
    assert optimizer_workspace(plain, groups, "cuda") == 120
    groups = [{**group, "weight_decay": 0.0} for group in groups]
    assert optimizer_workspace(plain, groups, "cpu") == 0
    assert optimizer_workspace(plain, groups, "cuda") == 0


def test_totals_are_those_of_the_model():
    resolved = load("resnet18_nif.yaml")
    memory = predict(resolved, 8, Target("cpu", "fp32")).memory
    model = build_model(resolved)
    assert memory.weights_bytes == memory.gradients_bytes == memory.ddp_buckets_bytes
    assert memory.weights_bytes == sum(p.nbytes for p in model.parameters())
    assert memory.buffers_bytes == sum(b.nbytes for b in model.buffers())
    assert memory.input_bytes == 8 * 3 * 16 * 16 * 4 + 8 * 8
    assert memory.ema_bytes == 0
    held = memory.weights_bytes + memory.buffers_bytes + memory.input_bytes
    assert memory.inference_peak_bytes > held
    assert memory.train_peak_bytes > held + memory.optimizer_bytes + memory.activations_bytes


def test_what_each_module_saves():
    """Without what does not depend on the batch, twice the images take twice the bytes."""
    for spec in ("resnet18_nif.yaml", "everywhere/convnext_tiny.yaml"):
        resolved = load(spec)
        few, many = (predict(resolved, n, Target("cuda", "fp32")).saved for n in (4, 8))
        for node in resolved.graph.nodes:
            path, saved = node.path, few[node.path]
            assert many[path].fixed == saved.fixed, path
            growing = saved.total - saved.fixed
            if node.op.op == "batch_norm":  # statistics come from the images, and are as many
                growing -= 2 * 4 * node.output_shape.channels
            assert many[path].total - saved.total == growing, path
    saved = predict(load("resnet18_nif.yaml"), 4, Target("cuda", "fp32")).saved
    assert saved["bn1"].total == 4 * 64 * 16 * 16 * 4 + 2 * 64 * 4  # input, mean, deviation
    assert saved["layer1.0.conv1"].fixed >= 64 * 16 * 9 * 8  # the spectra
    scaled = predict(load("everywhere/convnext_tiny.yaml"), 4, Target("cuda", "fp32")).saved
    assert scaled["features.1.0.layer_scale"].total == 4 * 96 * 16 * 16 * 4


def test_cuda_autocast_normalises_in_float32():
    """As torch's lists say; on a CPU it stays in bfloat16."""
    resolved = load("architectures/convnext_tiny.yaml")
    cpu, cuda = (predict(resolved, 4, Target(d, "bf16")).memory for d in ("cpu", "cuda"))
    assert cuda.activations_bytes > cpu.activations_bytes


def test_dropout_keeps_a_mask_of_bytes_on_cuda(tmp_path):
    path = tmp_path / "dropout.yaml"
    body = "[flatten, {op: linear, out_features: 192}, dropout, {op: linear, out_features: 2}]"
    path.write_text(f"version: 1\ninput: {{size: [8, 8]}}\nmodel: {body}\n")
    cpu, cuda = (predict(load_spec(path), 4, Target(d, "fp32")).saved for d in ("cpu", "cuda"))
    assert cuda["dropout"].total == 4 * 3 * 64 < cpu["dropout"].total


def test_a_batch_too_small_to_normalise():
    with pytest.raises(SpecError, match="a batch of 1 cannot be trained"):
        predict(load("architectures/resnet18.yaml", "input.size=[32,32]"), 1, Target("cpu", "fp32"))


def test_nothing_is_left_behind():
    """Predictions leave no tensor without values in a cache that real layers use."""
    predict(load("resnet18_nif.yaml"), 4, Target("cpu", "fp32"))
    layer = ImplicitFrequencyConv2d(3, 4)
    x = torch.randn(2, 3, 16, 16)
    assert type(layer(x)) is torch.Tensor and layer(x).isfinite().all()
    assert type(layer.eval()(x)) is torch.Tensor


def test_layers_heed_the_contexts_only_while_they_last():
    torch.manual_seed(0)
    layer = ImplicitFrequencyConv2d(64, 4)
    x = torch.randn(9, 64, 64, 64)
    with torch.no_grad():
        expected = layer(x)
        with only_first_chunks(1):
            assert not torch.equal(layer(x)[:1], expected[-1:])
            one = layer(x)
        torch.testing.assert_close(one[:2], expected[:2])
        assert torch.equal(layer(x), expected)
        layer, x = ImplicitFrequencyConv2d(2, 4), torch.randn(2, 2, 8, 8)  # may be interpreted
        expected = layer(x)
        with as_on_gpu(), own_constants():
            torch.testing.assert_close(layer(x), expected)
        assert torch.equal(layer(x), expected)


def test_a_trace_counts_storages_once_and_until_they_are_freed():
    trace = Trace(granularity=512)
    with trace:
        x = torch.empty(100)
        assert isinstance(x, Weightless) and trace.current == 512
        y = x.view(10, 10)[2:] + 1
        assert (y.shape, trace.current) == ((8, 10), 1024)
        y.add_(1)
        assert trace.current == 1024
        del y
    assert (trace.current, trace.peak) == (512, 1024)


def test_the_largest_batch():
    inspection = inspect_spec(
        load("architectures/resnet18.yaml"), target=Target("cuda", "fp32"), batch_sizes=[4]
    )
    room = 2**30
    size, memory = largest_batch(inspection, room)
    assert memory.train_peak_bytes <= room
    larger = predict(inspection.resolved, size + 1, inspection.target).memory
    assert larger.train_peak_bytes > room
    with pytest.raises(SpecError, match="2 images takes"):
        largest_batch(inspection, 2**20)


@pytest.mark.parametrize(
    ("selector", "precision"),
    [
        ("layer*.*", "fp32"),
        pytest.param("layer*", "bf16", marks=[pytest.mark.slow, pytest.mark.timeout(900)]),
    ],
)
def test_training_peak_with_blocks_computed_again(selector, precision):
    narrow = "vars.width=32"
    resolved = load("resnet18_nif.yaml", narrow, f"train.gradient_checkpointing=['{selector}']")
    assert_predicted(resolved, batch_sizes=[16, 64], precision=precision)
    target = Target("cpu", precision)
    plain = predict(load("resnet18_nif.yaml", narrow), 64, target)
    less = predict(resolved, 64, target)
    assert less.memory.activations_bytes < 0.5 * plain.memory.activations_bytes
    if selector == "layer*.*":  # a whole stage, computed again, is at its end as large as ever
        assert less.memory.train_peak_bytes < plain.memory.train_peak_bytes
    # A block keeps its input, which counts for its first module, unless one before keeps it.
    assert less.saved["layer2.1.conv2"].total == 0
    if selector == "layer*.*":
        assert less.saved["layer2.1.conv1"].total == 64 * 64 * 8 * 8 * 4


def test_a_prediction_does_not_depend_on_those_before():
    """Shapes are remembered, but not for what shares its memory with its argument."""
    _results.clear()
    first, second = (predict(load("resnet18_nif.yaml"), 16, Target("cpu", "fp32")) for _ in "12")
    assert first == second
