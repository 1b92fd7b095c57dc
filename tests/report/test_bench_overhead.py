import json
from dataclasses import replace

import pytest
import torch

from nifbuild.errors import SpecError
from nifbuild.report.bench.overhead import BareLoop, OverheadRequest, _EnoughError, _Turns
from nifbuild.report.bench.report_tables import print_report
from nifbuild.spec.resolve import load_spec
from nifbuild.train.initial_weights import fresh_model

SPEC = """
version: 1
name: small
vars: {num_classes: 10}
input: {channels: 1, size: [8, 8]}
model:
  - {id: conv, op: conv, out_channels: 4, kernel_size: 3, stride: 2}
  - {id: bn, op: batch_norm}
  - global_avg_pool
  - flatten
  - {id: fc, op: linear, out_features: $num_classes}
data: {source: digits, limit: {train: 30}, augment: {crop: 1}}
train: {batch_size: 8, accumulate: 2, ema: 0.9, clip_norm: 1, schedule: {warmup_epochs: 20}}
"""


@pytest.fixture
def spec(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(SPEC)
    return path


def test_both_loops_train_in_turn(setting, spec, capsys):
    heard = []
    setting = replace(setting, seconds=300)
    report = OverheadRequest(setting, spec, size=(6, 4)).measure(heard.append)
    assert heard == ["warm-up", "repeat 1 of 2", "repeat 2 of 2"]
    assert (report.batch, report.steps, report.input_shape) == (8, 20, (1, 6, 4))
    assert report.ratio.count == report.data_wait_share.count == 2
    assert 0 < report.data_wait_share.median < 1
    document = json.loads(json.dumps(report.document()))
    assert document["report"] == "overhead"
    for name in ("loop_images_per_second", "bare_images_per_second", "ratio"):
        assert document[name]["median"] > 0
    print_report(report)
    out = capsys.readouterr().out
    for words in ("training small, 8 images of 1x6x4", "nifbuild train", "waiting for data"):
        assert words in out


def test_the_bare_loop_makes_the_steps_that_gradient_descent_makes(setting, spec):
    """Against the definition: the mean loss of a batch in one go, without batch normalisation."""
    settings = [
        "train.optimizer={name: sgd, lr: 0.1, momentum: 0, weight_decay: 0}",
        "model.1=relu",
    ]
    settings += ["train.label_smoothing=0", "data.augment.crop=0", "data.in_memory=true"]
    resolved = load_spec(spec, overrides=settings)
    bare = BareLoop(resolved, setting)
    images, labels = bare.images[:8], bare.labels[:8]
    bare._step(images, labels, 0)
    model = fresh_model(resolved)
    inputs = bare.preprocess.eval(images)
    torch.nn.functional.cross_entropy(model(inputs), labels).backward()
    for mine, theirs in zip(bare.model.parameters(), model.parameters(), strict=True):
        assert torch.allclose(mine, theirs - 0.1 * theirs.grad, atol=1e-6)


def test_the_ratio_is_over_the_bare_loop_without_the_first_epoch(setting):
    class Bare:
        steps = 1
        train = type("Train", (), {"batch_size": 8})

        def epoch(self):
            return speeds.pop(0)

    speeds = [1.0, 200.0, 400.0]
    turns = _Turns(Bare(), replace(setting, seconds=300), lambda text: None)
    line = {"train_images_per_second": 100.0, "data_wait_share": 0.25}
    turns.epoch({"train_images_per_second": 7.0, "data_wait_share": 0.5})
    turns.epoch(line)
    with pytest.raises(_EnoughError):
        turns.epoch(line)
    assert (turns.loop, turns.bare, turns.waits) == ([100, 100], [200, 400], [0.25, 0.25])


def test_a_spec_without_data(setting, spec):
    text = spec.read_text()
    spec.write_text("\n".join(line for line in text.splitlines() if not line.startswith("data")))
    with pytest.raises(SpecError, match="small has no data to train on"):
        OverheadRequest(setting, spec).measure()
