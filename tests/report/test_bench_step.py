import json
from dataclasses import replace

import pytest
import torch

from nifbuild.errors import RunError, SpecError
from nifbuild.report.bench import step
from nifbuild.report.bench.step import NoiseStep, StepRequest, load_at_size
from nifbuild.spec.resolve import load_spec

LINEAR = """
version: 1
name: linear
input: {channels: 3, size: [4, 5]}
model: [flatten, {op: linear, out_features: 7, bias: false}]
"""
CONV = """
version: 1
name: conv
vars: {num_classes: 10}
input: {channels: 3, size: [8, 8]}
model:
  - {op: conv, out_channels: 4, kernel_size: 3, kind: KIND}
  - batch_norm
  - relu
  - global_avg_pool
  - flatten
  - {op: linear, out_features: $num_classes}
"""
BATCH = 6


@pytest.fixture
def linear(tmp_path):
    path = tmp_path / "linear.yaml"
    path.write_text(LINEAR)
    return path


@pytest.fixture
def pair(tmp_path):
    paths = []
    for kind in ("implicit_frequency", "standard"):
        path = tmp_path / f"{kind}.yaml"
        path.write_text(CONV.replace("KIND", kind))
        paths.append(path)
    return paths


def test_two_specs(setting, pair):
    heard = []
    report = StepRequest(setting, *pair, batch=BATCH).measure(heard.append)
    assert [figures.spec for figures in report.specs] == [str(path) for path in pair]
    assert report.specs[0].ratio.median == 1
    assert report.specs[1].ratio.median > 0
    assert report.specs[1].num_parameters == 4 * (3 * 9 + 1) + 2 * 4 + 10 * (4 + 1)
    assert f"repeat 1 of 2: {pair[1]} (spec 2)" in heard
    document = json.loads(json.dumps(report.document()))
    assert document["report"] == "step"
    assert document["batch_size"] == BATCH
    assert document["specs"][0]["input_shape"] == [3, 8, 8]


def test_the_ratio_is_over_the_first_spec(setting, pair, monkeypatch):
    made_up = {
        f"{path} (spec {index + 1})": {"step": times}
        for index, (path, times) in enumerate(zip(pair, [[0.1, 0.5], [0.2, 0.75]], strict=True))
    }
    monkeypatch.setattr(step, "measure_in_turn", lambda *_, **__: made_up)
    report = StepRequest(setting, *pair).measure()
    assert report.specs[1].ratio.median == pytest.approx((2 + 1.5) / 2)
    assert report.specs[1].step_ms.median == pytest.approx(475)


def test_a_spec_against_itself(setting, linear):
    report = StepRequest(setting, linear, linear, batch=BATCH).measure()
    assert len(report.specs) == 2
    assert report.specs[0].peak_bytes == report.specs[1].peak_bytes


def test_memory_by_hand(setting, linear):
    (figures,) = StepRequest(setting, linear, batch=BATCH).measure().specs
    images, logits, labels, weights = BATCH * 3 * 4 * 5 * 4, BATCH * 7 * 4, BATCH * 8, 7 * 60 * 4
    total_weight = 4  # that cross entropy divides by
    # The linear layer keeps the images, the loss its log-probabilities and the labels.
    assert figures.saved_bytes == images + logits + labels + total_weight
    # Most is there when the gradient of the weights is made of that of the logits.
    loss, its_gradient = 4, 4
    assert figures.peak_bytes == weights + logits + loss + its_gradient
    assert figures.num_parameters == 7 * 60


def test_a_step_trains_and_leaves_no_gradients(setting, linear):
    torch.manual_seed(0)
    training = NoiseStep(load_spec(linear), BATCH, setting)
    before = training.loss().item()
    for _ in range(20):
        training.step()
    assert training.loss().item() < before
    assert all(parameter.grad is None for parameter in training.model.parameters())


def test_steps_in_lower_precision(setting, pair):
    half = replace(setting, dtype=torch.bfloat16)
    training = NoiseStep(load_spec(pair[0]), BATCH, half)
    assert {p.dtype for p in training.model.parameters()} == {torch.bfloat16}
    mixed = replace(half, autocast=True)
    training = NoiseStep(load_spec(pair[0]), BATCH, mixed)
    assert {p.dtype for p in training.model.parameters()} == {torch.float32}
    logits = []
    training.model.register_forward_hook(lambda *_: logits.append(_[2].dtype))
    training.step()
    assert logits == [torch.bfloat16]


def test_size_with_and_without_data(pair, tmp_path):
    assert load_at_size(pair[0], None).graph.input_shape.size == (8, 8)
    assert load_at_size(pair[0], (12, 10)).graph.input_shape.size == (12, 10)
    own = tmp_path / "own.yaml"
    own.write_text(pair[0].read_text() + "data: {source: digits}\n")
    other = tmp_path / "other.yaml"
    other.write_text(f"extends: {pair[0]}\ndata: {{source: digits, size: [16, 16]}}\n")
    for path in (own, other):
        assert load_at_size(path, (12, 10)).graph.input_shape.size == (12, 10)


def test_a_model_without_classes_is_refused(setting, tmp_path):
    path = tmp_path / "image.yaml"
    path.write_text(
        LINEAR.replace("[flatten, {op: linear, out_features: 7, bias: false}]", "[relu]")
    )
    with pytest.raises(SpecError, match=r"image\.yaml:5.* ends in an image of 3x4x5"):
        StepRequest(setting, path).measure()


def test_a_step_that_cannot_run_is_an_error(setting, linear, monkeypatch):
    def broken(*_):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(NoiseStep, "step", broken)
    with pytest.raises(RunError, match="a training step cannot be run: out of memory"):
        StepRequest(setting, linear).measure()


@pytest.mark.filterwarnings("ignore")  # the compiler speaks of its own inner workings
def test_compiled_steps_do_the_same(setting, pair):
    """The same losses from the same weights, by other kernels."""
    losses = []
    for compiles in (False, True):
        torch.manual_seed(0)
        steps = NoiseStep(load_spec(pair[0]), BATCH, setting, compiles=compiles)
        losses.append([])
        for _ in range(3):
            losses[-1].append(steps.loss().item())
            steps.step()
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the compiler speaks of its own inner workings
def test_the_report_of_compiled_steps(setting, pair):
    report = StepRequest(setting, *pair, batch=BATCH, compiles=True).measure()
    assert report.document()["compiled"]
    assert all(figures.step_ms.median > 0 for figures in report.specs)
