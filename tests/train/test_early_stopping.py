import os
import re
import signal

import pytest

from nifbuild.errors import InterruptedRun, SpecError
from nifbuild.evaluate.figures import Figures
from nifbuild.machine.progress import Reporter
from nifbuild.report.summary import print_summary
from nifbuild.runs.directory import RunDirectory
from nifbuild.train.run import train_run

# Of the validation after each epoch; a tie, and a gain too small, are no improvement.
TOP1 = [0.2, 0.5, 0.5, 0.505, 0.52, 0.51, 0.52, 0.5, 0.9, 0.9]


class Told(Reporter):
    def __init__(self, stop_at_step=None):
        self.notes, self.stop_at_step = [], stop_at_step

    def note(self, text):
        self.notes.append(text)

    def step(self, step, loss, images_per_second, memory):
        if step == self.stop_at_step:
            raise KeyboardInterrupt  # as abrupt as a kill: nothing is saved


@pytest.fixture
def resolve_stopping(resolve):
    def load(*overrides):
        stopping = "train.early_stopping={patience: 2, min_delta: 0.01}"
        return resolve("train.epochs=10", "data.limit.train=8", stopping, *overrides)

    return load


@pytest.fixture
def scripted(monkeypatch):
    """Makes every validation give the figure that is next in line."""

    def install(figures):
        def validate(trainer):
            top1 = figures[trainer.progress.epoch]
            return Figures(21, 1 - top1, top1, 1.0, 0.0, (None,) * 10, ((0,) * 10,) * 10)

        monkeypatch.setattr("nifbuild.train.loop.Trainer.validate", validate)

    return install


def outcome(result):
    return (result["epochs"], result["stopped_early"], result["epoch"])


@pytest.mark.parametrize(
    ("settings", "stops_after", "best"),
    [
        # 0.505 gains too little on 0.5, which came in epoch 2.
        (["train.early_stopping={patience: 2, min_delta: 0.01}"], 4, 4),
        (["train.monitor=loss"], 4, 4),
        (["train.early_stopping={patience: 2}"], 7, 7),
        (["train.early_stopping={patience: 5, min_delta: 0.01}"], 10, 10),
        # Epochs 2, 4, 6, ... are evaluated: 0.5, 0.505, 0.51, 0.5; patience ends in between.
        (["train.early_stopping={patience: 3, min_delta: 0.02}", "train.evaluate_every=2"], 6, 6),
    ],
    ids=str,
)
def test_stops_once_patience_has_run_out(
    resolve_stopping, scripted, tmp_path, settings, stops_after, best
):
    scripted(TOP1)
    told = Told()
    resolved = resolve_stopping(*settings)
    result = train_run(resolved, tmp_path / "run", report=told).document()
    assert outcome(result) == (stops_after, stops_after < 10, best)
    run = RunDirectory(tmp_path / "run")
    assert run.result()["stopped_early"] == (stops_after < 10)
    assert run.metrics()[-1]["epoch"] == stops_after
    assert run.checkpoints[-1] == run.checkpoint_path(stops_after)  # an epoch is one step here
    said = [note for note in told.notes if f"stopped early, after epoch {stops_after}" in note]
    assert len(said) == (stops_after < 10)


def test_the_schedule_is_that_of_all_epochs(resolve_stopping, scripted, tmp_path):
    scripted(TOP1)
    train_run(resolve_stopping(), tmp_path / "stopped")
    train_run(resolve_stopping("train.early_stopping=null"), tmp_path / "whole")
    stopped, whole = (RunDirectory(tmp_path / name).metrics() for name in ("stopped", "whole"))
    rates = [line["lr"] for line in stopped]
    assert (len(rates), len(whole)) == (4, 10)
    assert rates == [line["lr"] for line in whole][:4]


def test_a_resumed_run_stops_at_the_same_epoch(resolve_stopping, scripted, tmp_path):
    scripted(TOP1)
    resolved = resolve_stopping()
    whole = train_run(resolved, tmp_path / "whole").document()
    for step in (2, 4):  # in the middle of the patience, and in the epoch that ends it
        with pytest.raises(KeyboardInterrupt):
            train_run(resolved, tmp_path / "run", resume=True, report=Told(stop_at_step=step))
    resumed = train_run(resolved, tmp_path / "run", resume=True).document()
    assert outcome(resumed) == outcome(whole) == (4, True, 4)
    last = "checkpoints/step_00000004/model.safetensors"
    assert (tmp_path / "run" / last).read_bytes() == (tmp_path / "whole" / last).read_bytes()


def test_a_run_that_has_stopped_trains_no_more(resolve_stopping, scripted, tmp_path):
    """Interrupted in the final evaluation, on the test images, which follows at once."""

    class Stop(Reporter):
        def evaluating(self, split, num_batches):
            os.kill(os.getpid(), signal.SIGTERM)

    scripted(TOP1)
    resolved = resolve_stopping()
    with pytest.raises(InterruptedRun):
        train_run(resolved, tmp_path / "run", report=Stop())
    resumed = train_run(
        resolved, tmp_path / "run", resume=True, report=Told(stop_at_step=5)
    ).document()
    assert outcome(resumed) == (4, True, 4)


def test_needs_a_validation_split(resolve_stopping, tmp_path):
    with pytest.raises(SpecError, match="needs a validation split") as caught:
        train_run(resolve_stopping("data.validation=0"), tmp_path / "run")
    assert "--set data.validation" in str(caught.value)
    assert caught.value.problems[0].path == "train.early_stopping"
    assert not (tmp_path / "run").exists()


def test_the_summary_says_so(resolve_stopping, scripted, tmp_path, capsys):
    scripted(TOP1)
    print_summary(train_run(resolve_stopping(), tmp_path / "run").document())
    assert re.search(r"stopped early\W+after epoch 4\b", capsys.readouterr().out)
