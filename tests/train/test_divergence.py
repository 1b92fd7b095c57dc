"""Training that diverges in a known place is told with that place."""

import os
import re
import signal
import sys
import textwrap
from types import SimpleNamespace

import pytest
import safetensors.torch
import torch

from nifbuild.errors import SpecError
from nifbuild.machine.launch import launch
from nifbuild.machine.progress import Reporter
from nifbuild.runs.checkpoint import Progress
from nifbuild.runs.directory import RunDirectory
from nifbuild.train.diagnosis import of_step, watched
from nifbuild.train.divergence import Diverged
from nifbuild.train.initial_weights import fresh_model
from nifbuild.train.loop import Trainer
from nifbuild.train.run import train_run
from tests.tiny_runs import contents

NAN = float("nan")


@pytest.fixture
def spoiled(monkeypatch):
    """Lets the step that follows `at_step` steps go wrong, each time that it is done."""

    def spoil(at_step, install, times=1000):
        original = Trainer.train_step
        left = [times]

        def train_step(trainer, batch):
            if trainer.progress.step != at_step or not left[0]:
                return original(trainer, batch)
            left[0] -= 1
            handle = install(trainer.module)
            try:
                return original(trainer, batch)
            finally:
                if handle is not None:
                    handle.remove()

        monkeypatch.setattr(Trainer, "train_step", train_step)

    return spoil


def output_of(name):
    """Puts an infinity into the output of a module."""

    def hook(module, inputs, output):
        output = output.clone()
        output.view(-1)[3] = float("inf")
        return output

    return lambda model: model.get_submodule(name).register_forward_hook(hook, prepend=True)


class Backward(torch.autograd.Function):
    """The identity, whose gradient is one number everywhere."""

    @staticmethod
    def forward(context, x, gradient):
        context.gradient = gradient
        return x.clone()

    @staticmethod
    def backward(context, gradient):
        return torch.full_like(gradient, context.gradient), None


def gradient_behind(name, value):
    """Makes what a module passes back this number."""

    def hook(module, inputs):
        return (Backward.apply(inputs[0], value),)

    return lambda model: model.get_submodule(name).register_forward_pre_hook(hook)


def running_variance(model):
    model.bn1.running_var.fill_(NAN)


class Notes(Reporter):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


def diverged(resolved, directory, report=None):
    with pytest.raises(Diverged) as caught:
        train_run(resolved, directory, report=report)
    (problem,) = caught.value.problems
    assert (caught.value.exit_code, problem.code) == (1, "loss")
    assert "train.optimizer.lr" in problem.fix and "train.clip_norm" in problem.fix
    return problem


def test_an_output(resolve, tmp_path, spoiled):
    spoiled(7, output_of("bn2"))
    report = Notes()
    problem = diverged(resolve("train.accumulate=2"), tmp_path / "run", report)
    checkpoint = tmp_path / "run" / "checkpoints" / "step_00000005"
    assert problem.path == "bn2"
    assert problem.what == (
        "the loss is nan at step 8; the first value that is not finite is inf in the output of bn2"
        f" at step 8; the last good checkpoint is {checkpoint}"
    )
    assert f"--set train.init={checkpoint} --out DIR" in problem.fix
    again = "the loss is nan at step 8: repeating the last 3 steps to find the layer"
    assert report.notes == [again]


@pytest.mark.parametrize(
    ("settings", "spoil", "path", "where"),
    [
        (
            "{name: sgd, lr: 0.1}",
            gradient_behind("relu_2", NAN),
            "relu_2",
            "nan in the gradient that relu_2 passes back",
        ),
        (
            "{name: adamw, lr: 0.01}",
            gradient_behind("bn1", 3e38),  # finite; what the layer before sums of it is not
            "conv1.weight",
            "-inf in the gradient of conv1.weight",
        ),
    ],
)
def test_a_gradient(resolve, tmp_path, spoiled, settings, spoil, path, where):
    """The loss of that step is finite, and there is no checkpoint: all is done once more."""
    spoiled(8, spoil)
    settings = (f"train.optimizer={settings}", "train.ema=0.9", "train.checkpoint_every=100")
    resolved = resolve(*settings, "data.validation=0", dropout=True)
    problem = diverged(resolved, tmp_path / "run")
    assert problem.path == path
    assert problem.what == (
        f"the loss is nan at step 10; the first value that is not finite is {where} at step 9"
        "; no checkpoint was saved"
    )


def test_weights_that_were_not_finite_from_the_start(resolve, tmp_path):
    weights = fresh_model(resolve()).state_dict()
    weights["conv2.pointwise.weight"].view(-1)[5] = float("-inf")
    safetensors.torch.save_file(weights, tmp_path / "init.safetensors")
    with pytest.raises(SpecError, match=r"conv2\.pointwise\.weight holds -inf"):
        train_run(resolve(f"train.init={tmp_path}/init.safetensors"), tmp_path / "run")


def test_a_learning_rate_that_is_far_too_high(resolve, tmp_path):
    settings = ("train.optimizer={name: sgd, lr: 1e12}", "train.schedule={name: constant}")
    problem = diverged(resolve(*settings), tmp_path / "run")
    found = (
        r"the loss is nan at step 2; the first .* in the output of (.*) at step 2; no checkpoint"
    )
    assert re.match(found, problem.what)[1] == problem.path
    assert problem.path in dict(fresh_model(resolve()).named_modules())


def test_statistics_that_only_an_evaluation_uses(resolve, tmp_path, spoiled):
    spoiled(9, running_variance)
    problem = diverged(resolve(), tmp_path / "run")
    assert problem.path == "bn1.running_var"
    assert problem.what.startswith("the loss on validation is nan after step 10; ")
    assert "nan in bn1.running_var after the update at step 10" in problem.what
    assert "step_00000005" in problem.what


def test_weights_that_are_not_finite_are_not_saved(resolve, tmp_path, spoiled, monkeypatch):
    resolved = resolve("train.checkpoint_every=0.4", "train.keep=20")
    spoiled(7, gradient_behind("fc", NAN))
    problem = diverged(resolved, tmp_path / "run")
    assert problem.what.startswith("conv1.weight has become nan by step 8; ")
    assert "the gradient that fc passes back at step 8" in problem.what
    assert "the last good checkpoint is" in problem.what and "step_00000006" in problem.what
    run = RunDirectory(tmp_path / "run")
    assert run.checkpoints[-1].name == "step_00000006"
    monkeypatch.undo()
    train_run(resolved, run.path, resume=True)
    train_run(resolved, tmp_path / "whole")
    assert contents(run.path) == contents(tmp_path / "whole")


def test_what_does_not_happen_again_is_told_without_a_layer(resolve, tmp_path, spoiled):
    spoiled(2, output_of("bn2"), times=1)
    problem = diverged(resolve(), tmp_path / "run")
    assert (problem.path, problem.what) == (
        "",
        "the loss is nan at step 3; no checkpoint was saved",
    )


def test_ctrl_c_ends_the_search(resolve, tmp_path, spoiled):
    class Impatient(Reporter):
        def note(self, text):
            os.kill(os.getpid(), signal.SIGINT)

    spoiled(7, output_of("bn2"))
    assert diverged(resolve(), tmp_path / "run", Impatient()).path == ""


def test_watching_changes_nothing(resolve, tmp_path, monkeypatch):
    """Else the steps that are repeated would be others."""
    resolved = resolve("train.accumulate=2", "train.kernel_spread=0.1", dropout=True)
    train_run(resolved, tmp_path / "plain")
    original = Trainer.train_step

    def watching(trainer, batch):
        with watched(trainer.module, "") as seen:
            figures = original(trainer, batch)
        assert seen == []
        return figures

    monkeypatch.setattr(Trainer, "train_step", watching)
    train_run(resolved, tmp_path / "watched")
    assert contents(tmp_path / "watched") == contents(tmp_path / "plain")


@pytest.mark.parametrize(("skipped", "found"), [(False, "the gradient of 0."), (True, "")])
def test_a_step_that_the_scaler_of_fp16_skips_is_no_divergence(skipped, found):
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Identity())
    handle = gradient_behind("1", NAN)(module)

    def train_step(batch):
        loss = module(batch["images"]).sum()
        loss.backward()
        return torch.stack([loss.detach(), torch.zeros(())])

    accelerator = SimpleNamespace(optimizer_step_was_skipped=skipped)
    trainer = SimpleNamespace(
        module=module, train_step=train_step, accelerator=accelerator, progress=Progress()
    )
    origin = of_step(trainer, {"images": torch.ones(3, 2)})
    assert (origin.where if origin else "").startswith(found) and bool(origin) == bool(found)
    handle.remove()


@pytest.mark.slow
def test_one_of_two_processes(spec_file, tmp_path):
    """Both learn of it from the mean loss, repeat the steps together, and say the same."""
    script = """
        import os, sys, torch
        from pathlib import Path
        from nifbuild.spec.resolve import load_spec
        from nifbuild.train.run import train_run
        from nifbuild.train.divergence import Diverged
        from nifbuild.train.loop import Trainer
        original = Trainer.train_step
        def spoil(module, inputs, output):
            return output * float("inf")
        def train_step(trainer, batch):
            rank, step = trainer.accelerator.process_index, trainer.progress.step
            assert trainer.accelerator.num_processes == 2
            if (rank, step) != (1, 6):
                return original(trainer, batch)
            handle = trainer.module.bn2.register_forward_hook(spoil, prepend=True)
            try:
                return original(trainer, batch)
            finally:
                handle.remove()
        Trainer.train_step = train_step
        torch.set_num_threads(1)
        try:
            train_run(load_spec(Path(sys.argv[1])), sys.argv[2])
        except Diverged as error:
            (Path(sys.argv[3]) / os.environ["RANK"]).write_text(error.problems[0].path)
    """
    (tmp_path / "script.py").write_text(textwrap.dedent(script))
    (tmp_path / "found").mkdir()
    arguments = [spec_file(), tmp_path / "run", tmp_path / "found"]
    launch([sys.executable, *map(str, [tmp_path / "script.py", *arguments])], 2)
    assert [(tmp_path / "found" / rank).read_text() for rank in "01"] == ["bn2", "bn2"]
