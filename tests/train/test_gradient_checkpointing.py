"""Blocks that are computed again in the backward pass, against the same model that keeps all."""

from contextlib import nullcontext

import pytest
import torch
from pydantic import ValidationError

from nifbuild import build_model
from nifbuild.errors import InterruptedRun
from nifbuild.runs.directory import RunDirectory
from nifbuild.spec.resolve import load_spec
from nifbuild.spec.training import TrainSpec
from nifbuild.train.run import train_run
from tests.children import in_children
from tests.tiny_runs import Stop

SPEC = """
version: 1
name: blocks
vars: {num_classes: 10, left_out: 0.5, dropped: 0.3}
input: {channels: 1, size: [8, 8]}
blocks:
  unit:
    args: {kind: standard}
    body:
      - op: residual
        stochastic_depth: {rate: $left_out, schedule: constant}
        then: relu
        body:
          - {id: conv, op: conv, out_channels: 6, kernel_size: 3, kind: $kind}
          - {id: bn, op: batch_norm}
          - {op: dropout, p: $dropped}
          - {id: scale, op: layer_scale, init: 0.5}
model:
  - {id: stem, op: conv, out_channels: 6, kernel_size: 3}
  - {id: stage1, op: unit, repeat: 2}
  - {id: stage2, op: unit, repeat: 2, kind: implicit_frequency}
  - {op: global_avg_pool}
  - {op: flatten}
  - {id: fc, op: linear, out_features: $num_classes}
data: {source: digits, limit: {train: 40, validation: 21, test: 17}}
train: {epochs: 2, batch_size: 8, trackers: [], device: cpu}
"""
SELECTED = "train.gradient_checkpointing=['stage1.*', stage2]"


@pytest.fixture
def resolve_blocks(tmp_path):
    path = tmp_path / "blocks.yaml"
    path.write_text(SPEC)

    def load(*overrides):
        return load_spec(path, overrides=overrides)

    return load


def a_step(model, dtype):
    """Two passes with one backward each: all that they leave behind."""
    torch.manual_seed(1)
    logits = []
    for _ in range(2):
        images = torch.randn(5, 1, 8, 8)
        with torch.autocast("cpu", dtype) if dtype else nullcontext():
            logits.append(model(images))
        logits[-1].float().square().sum().backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    return {
        "logits": torch.cat(logits).detach(),
        "random": torch.get_rng_state(),
        **gradients,
        **dict(model.named_buffers()),
    }


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_nothing_changes_bit_for_bit(resolve_blocks, dtype):
    left = []
    for settings in ([], [SELECTED]):
        torch.manual_seed(0)
        left.append(a_step(build_model(resolve_blocks(*settings)), dtype))
    plain, again = left
    assert plain.keys() == again.keys()
    for name, value in plain.items():
        assert torch.equal(value, again[name]), name
    assert plain["stage1.0.bn.num_batches_tracked"] == 2


def test_the_buffers_stay_the_same_objects(resolve_blocks):
    """DistributedDataParallel, among others, keeps a list of them."""
    model = build_model(resolve_blocks(SELECTED))
    before = list(model.buffers())
    a_step(model, None)
    assert all(a is b for a, b in zip(before, model.buffers(), strict=True))


def test_a_block_runs_again_in_the_backward_pass_of_training_only(resolve_blocks):
    model = build_model(resolve_blocks(SELECTED))
    ran = []
    for path in ("stem", "stage1.0.conv", "stage2.1.conv"):
        model.get_submodule(path).register_forward_hook(lambda *_, path=path: ran.append(path))
    images = torch.randn(5, 1, 8, 8)
    once = ["stem", "stage1.0.conv", "stage2.1.conv"]
    loss = model(images).sum()
    assert ran == once
    loss.backward()
    assert ran == [*once, "stage2.1.conv", "stage1.0.conv"]
    ran.clear()
    with torch.no_grad():
        model(images)
    model.eval()(images).sum().backward()
    assert ran == 2 * once


SETTINGS = ("train.accumulate=2", "train.ema=0.9", "train.clip_norm=1", "train.precision=bf16")


def test_runs_end_in_the_same_weights_also_resumed(resolve_blocks, tmp_path):
    train_run(resolve_blocks(*SETTINGS), tmp_path / "plain")
    again = resolve_blocks(*SETTINGS, SELECTED)
    with pytest.raises(InterruptedRun):
        train_run(again, tmp_path / "again", report=Stop(at_step=7))
    train_run(again, tmp_path / "again", resume=True)
    for name in ("model.safetensors", "ema.safetensors"):
        file = f"checkpoints/step_00000010/{name}"
        assert (tmp_path / "again" / file).read_bytes() == (tmp_path / "plain" / file).read_bytes()


def test_two_processes_equal_one(resolve_blocks, tmp_path):
    """With the statistics of batch normalisation over both, exchanged again in the backward pass.

    Dropout draws for each process, so there is none here; nor Adam, see `test_processes`.
    """
    settings = (
        "vars.left_out=0",
        "vars.dropped=0",
        "train.optimizer={name: sgd, lr: 0.1}",
        "train.accumulate=2",
    )
    resolved = resolve_blocks(*settings, SELECTED)
    found, _ = in_children(train_run, resolved, tmp_path / "two")
    expected = train_run(resolve_blocks(*settings), tmp_path / "one").document()
    assert found.loss == pytest.approx(expected["loss"], rel=1e-5)
    two, one = (RunDirectory(tmp_path / name).metrics() for name in ("two", "one"))
    for mine, theirs in zip(two, one, strict=True):
        assert mine["train_loss"] == pytest.approx(theirs["train_loss"], rel=1e-5)
        assert mine["loss"] == pytest.approx(theirs["loss"], rel=1e-5)


def test_compile_and_blocks_computed_again_exclude_each_other():
    with pytest.raises(ValidationError, match="exclude each other"):
        TrainSpec(compile=True, gradient_checkpointing=("layer1",))
