"""What may change between two starts of a run, and what it then does."""

import json
import math
import re

import pytest
import torch

from nifbuild import evaluate_run
from nifbuild.errors import InterruptedRun, SpecError
from nifbuild.machine.progress import Reporter
from nifbuild.runs.directory import RunDirectory
from nifbuild.spec.resolve import load_spec
from nifbuild.train.run import train_run
from tests.tiny_runs import Stop, contents, losses


class Notes(Reporter):
    def __init__(self):
        self.heard = []

    def note(self, text):
        self.heard.append(text)


def stored(run):
    """The documents of a run's checkpoints, by path."""
    return {path: json.loads(path.read_text()) for path in run.path.rglob("progress.json")}


def rewrite(run, change):
    for path, document in stored(run).items():
        change(document["identity"])
        path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    "change",
    [
        "train.keep=7",
        "train.checkpoint_every=0.3",
        "train.trackers=[tensorboard]",
        "data.workers=1",
        "budget={max_params: 1M}",
        "name=other",
        pytest.param(
            "train.device=auto",
            marks=pytest.mark.skipif(
                torch.cuda.is_available() or torch.backends.mps.is_available(),
                reason="auto is another kind of device here",
            ),
        ),
    ],
)
def test_what_does_not_touch_the_weights_may_change(resolve, tmp_path, change):
    train_run(resolve(), tmp_path / "whole")
    with pytest.raises(InterruptedRun):
        train_run(resolve(), tmp_path / "run", report=Stop(at_step=7))
    resolved = resolve(change)
    train_run(resolved, tmp_path / "run", resume=True)
    assert contents(tmp_path / "run")[2:] == contents(tmp_path / "whole")[2:]
    weights, whole = (contents(tmp_path / name)[0] for name in ("run", "whole"))
    assert weights["step_00000015/model.safetensors"] == whole["step_00000015/model.safetensors"]
    run = RunDirectory(tmp_path / "run")
    assert run.spec.read_text() == resolved.text != resolve().text
    assert evaluate_run(run.path).only.checkpoint == run.result()["checkpoint"]


def cosine(step, epochs):
    """The learning rate of a peak of 0.01 over so many epochs of 5 steps, without a warm-up."""
    return 0.01 * (1 + math.cos(math.pi * step / (5 * epochs))) / 2


@pytest.mark.parametrize("at_step", [None, 7])
def test_more_epochs(resolve, tmp_path, at_step):
    """The steps done keep their learning rate; the rest has that of the longer schedule."""
    settings = "train.schedule={name: cosine, warmup_epochs: 0}"
    notes = Notes()
    if at_step is None:
        result = train_run(resolve(settings), tmp_path / "run").document()
    else:
        with pytest.raises(InterruptedRun):
            train_run(resolve(settings), tmp_path / "run", report=Stop(at_step=at_step))
    resolved = resolve(settings, "train.epochs=5")
    more = train_run(resolved, tmp_path / "run", resume=True, report=notes).document()
    assert (more["epochs"], more["stopped_early"]) == (5, False)
    run = RunDirectory(tmp_path / "run")
    assert [line["epoch"] for line in run.metrics()] == [1, 2, 3, 4, 5]
    done = at_step or 15
    last_steps = [4, 9, 14, 19, 24]
    expected = [cosine(step, 3 if step < done else 5) for step in last_steps]
    assert [line["lr"] for line in run.metrics()] == pytest.approx(expected)
    assert notes.heard[0] == (
        f"train.epochs is 5, and was 3: the {done} steps done had the learning rate of a schedule "
        f"over 3 epochs; from here on it is that of one over 5, {cosine(done, 5):.3g} at the next "
        "step"
    )
    assert load_spec(run.spec).spec.train.epochs == 5
    if at_step is None:
        assert run.metrics()[2]["train_loss"] == result["train_loss"]
    again = train_run(resolved, tmp_path / "run", resume=True).document()
    assert again == more


@pytest.mark.parametrize(
    ("before", "words"),
    [
        (0, "train.epochs is 2, and was 0"),
        (1, "was 1: the 5 steps done had the learning rate of a schedule over 1 epoch; from here"),
    ],
)
def test_what_is_told_where_little_was_done(resolve, tmp_path, before, words):
    train_run(resolve(f"train.epochs={before}"), tmp_path / "run")
    notes = Notes()
    train_run(resolve("train.epochs=2"), tmp_path / "run", resume=True, report=notes)
    assert words in notes.heard[0] and (before or words == notes.heard[0])


@pytest.mark.parametrize(("at_step", "epochs"), [(None, 2), (7, 1), (12, 2)])
def test_fewer_epochs_than_were_begun_are_refused(resolve, tmp_path, at_step, epochs):
    if at_step is None:
        train_run(resolve(), tmp_path / "run")
    else:
        with pytest.raises(InterruptedRun):
            train_run(resolve(), tmp_path / "run", report=Stop(at_step=at_step))
    before = contents(tmp_path / "run")
    with pytest.raises(SpecError, match=f"begun epoch {epochs + 1}, and train.epochs is {epochs}"):
        train_run(resolve(f"train.epochs={epochs}"), tmp_path / "run", resume=True)
    assert contents(tmp_path / "run") == before


def test_fewer_epochs_than_planned(resolve, tmp_path):
    with pytest.raises(InterruptedRun):
        train_run(resolve(), tmp_path / "run", report=Stop(at_step=7))
    assert train_run(resolve("train.epochs=2"), tmp_path / "run", resume=True).epochs == 2


def test_a_run_that_stopped_early_says_so_where_more_epochs_are_wanted(resolve, tmp_path):
    settings = ("train.early_stopping={patience: 1, min_delta: 0.9}", "train.epochs=4")
    result = train_run(resolve(*settings), tmp_path / "run").document()
    assert result["stopped_early"]
    notes = Notes()
    more = resolve(*settings, "train.epochs=9")
    assert train_run(more, tmp_path / "run", resume=True, report=notes).document() == result
    assert notes.heard == [f"{tmp_path / 'run'} is complete already: it stopped early"]


def test_a_run_of_an_older_version_goes_on(resolve, tmp_path):
    """Fields that its spec lacks have their defaults; what it does not tell is not compared."""
    train_run(resolve(), tmp_path / "whole")
    with pytest.raises(InterruptedRun):
        train_run(resolve(), tmp_path / "run", report=Stop(at_step=7))
    run = RunDirectory(tmp_path / "run")

    def age(identity):
        lines = identity["spec"].splitlines(keepends=True)
        young = r"\s+(kernel_spread|deterministic|monitor|resize): "
        identity["spec"] = "".join(line for line in lines if not re.match(young, line))
        assert len(identity["spec"].splitlines()) == len(lines) - 4
        del identity["device"], identity["init"]

    rewrite(run, age)
    document = stored(run)[run.checkpoints[-1] / "progress.json"]
    run.spec.write_text(document["identity"]["spec"])
    train_run(resolve(), run.path, resume=True)
    assert losses(run.path) == losses(tmp_path / "whole")


def test_a_field_that_an_older_spec_lacks_and_that_is_set_now_is_a_change(resolve, tmp_path):
    with pytest.raises(InterruptedRun):
        train_run(resolve(), tmp_path / "run", report=Stop(at_step=7))
    run = RunDirectory(tmp_path / "run")

    def age(identity):
        identity["spec"] = identity["spec"].replace("  kernel_spread: 0.0\n", "")

    rewrite(run, age)
    with pytest.raises(SpecError, match=r"\+  kernel_spread: 0\.5"):
        train_run(resolve("train.kernel_spread=0.5"), run.path, resume=True)


@pytest.mark.parametrize("told_by", ["identity", "spec"])
def test_another_kind_of_device_is_refused(resolve, tmp_path, told_by):
    with pytest.raises(InterruptedRun):
        train_run(resolve(), tmp_path / "run", report=Stop(at_step=7))

    def move(identity):
        if told_by == "identity":
            identity["device"] = "cuda"
        else:  # of an older version
            identity["spec"] = identity["spec"].replace("device: cpu", "device: cuda:1")
            del identity["device"]

    rewrite(RunDirectory(tmp_path / "run"), move)
    with pytest.raises(SpecError, match="kind of device has changed") as caught:
        train_run(resolve(), tmp_path / "run", resume=True)
    assert "was cuda, now cpu" in str(caught.value)
