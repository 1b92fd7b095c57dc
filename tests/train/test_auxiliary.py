"""Auxiliary heads from training to what is left of them when a model is used."""

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

import nifbuild
from nifbuild.runs.directory import RunDirectory
from nifbuild.train.initial_weights import fresh_model
from nifbuild.train.objective import Objective
from nifbuild.train.run import train_run
from tests.tiny_runs import SPEC, losses

TEXT = (
    SPEC.replace("DROPOUT", "identity")
    + """
blocks: {top: {body: [flatten, {id: fc, op: linear, out_features: 10}]}}
auxiliary:
  early: {from: conv1, weight: 0.4, body: [global_avg_pool, top]}
  input: {from: input, weight: 2, body: top}
"""
)


@pytest.fixture
def heads(tmp_path):
    def load(*overrides):
        path = tmp_path / "tiny.yaml"
        path.write_text(TEXT)
        return nifbuild.load_spec(path, overrides=overrides)

    return load


def test_the_objective_adds_their_weighted_losses(heads):
    resolved = heads("train.label_smoothing=0")
    model = fresh_model(resolved).train()
    images, labels = torch.randn(6, 1, 8, 8), torch.arange(6)
    found = Objective.of(model, resolved)(model, images, labels, torch.enable_grad)
    outputs = model(images)
    by_hand = [F.cross_entropy(output, labels) for output in outputs]
    torch.testing.assert_close(found.logits, outputs[0])
    torch.testing.assert_close(found.loss, by_hand[0])
    torch.testing.assert_close(found.penalty, 0.4 * by_hand[1] + 2 * by_hand[2])


def test_only_training_computes_them(heads):
    model = fresh_model(heads())
    ran = []
    model.early.register_forward_hook(lambda *_: ran.append("early"))
    images = torch.randn(2, 1, 8, 8)
    assert len(model.train()(images)) == 3 and ran == ["early"]
    assert model.eval()(images).shape == (2, 10) and ran == ["early"]


def test_a_model_starts_with_the_same_weights_with_them(heads):
    alone = fresh_model(heads().without_auxiliary()).state_dict()
    beside = fresh_model(heads()).state_dict()
    assert set(beside) - set(alone) == {
        f"{head}.fc.{name}" for head in ("early", "input") for name in ("weight", "bias")
    }
    for name, tensor in alone.items():
        assert torch.equal(beside[name], tensor)


def test_a_run(heads, tmp_path):
    result = train_run(heads(), tmp_path / "run")
    run = RunDirectory(tmp_path / "run")
    weights = load_file(run.find_checkpoint("last") / "model.safetensors")
    initial = fresh_model(heads()).state_dict()
    for head in ("early", "input"):
        assert not torch.equal(weights[f"{head}.fc.weight"], initial[f"{head}.fc.weight"])
    with_heads = sum(p.numel() for p in fresh_model(heads()).parameters())
    assert run.result()["params"] == with_heads

    found = nifbuild.evaluate_run(tmp_path / "run").only
    assert (found.top1, found.loss) == (result.top1, result.loss)
    loaded = nifbuild.load(tmp_path / "run")
    assert not {name for name in loaded.state_dict() if "early" in name or "input" in name}
    nifbuild.analyze(tmp_path / "run", out=tmp_path / "analysis")
    exported = nifbuild.export(
        tmp_path / "run", format="safetensors", output=tmp_path / "x.safetensors"
    )
    again = nifbuild.load(exported.path)
    images = torch.randn(2, 1, 8, 8)
    assert torch.equal(again(images), loaded(images))
    cut = nifbuild.shrink(tmp_path / "run", kernel_size=5, out=tmp_path / "cut")
    assert "auxiliary" not in (tmp_path / "cut/spec.yaml").read_text()
    assert cut is not None


def test_the_rest_learns_from_them(heads, tmp_path):
    """Other weights give another run; the loss that is told is that of the model alone."""
    train_run(heads(), tmp_path / "a")
    train_run(heads("auxiliary.early.weight=4"), tmp_path / "b")
    train_run(heads("auxiliary=null"), tmp_path / "c")
    a, b, c = (losses(tmp_path / name) for name in "abc")
    assert a != b != c
    assert max(map(abs, (x - y for x, y in zip(a, c, strict=True)))) < 0.5  # not 2.4 times as much


def test_training_goes_on_from_a_run_that_has_them(heads, tmp_path):
    train_run(heads(), tmp_path / "a")
    overrides = [f"train.init={{from: {tmp_path / 'a'}}}", "train.epochs=1"]
    train_run(heads(*overrides), tmp_path / "b")
    nifbuild.analyze(tmp_path / "b", out=tmp_path / "analysis")


def test_predicted_memory_counts_them(heads):
    found = nifbuild.inspect(tmp := heads().source.mark.file, batch_sizes="8").only
    assert found.inspection.head_params == (6 * 10 + 10) + (64 * 10 + 10)
    bare = nifbuild.inspect(tmp, overrides=["auxiliary=null"], batch_sizes="8").only
    assert found.inspection.params == bare.inspection.params + found.inspection.head_params
    assert found.inspection.macs == bare.inspection.macs
    assert found.inspection.train_peak_bytes > bare.inspection.train_peak_bytes
