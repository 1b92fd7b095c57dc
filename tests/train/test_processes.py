"""Real processes: two of them with gloo, signals, and what the terminal sees."""

import json
import signal
import subprocess
import sys
import textwrap
import time
from functools import partial

import pytest
import torch
from torch import nn

from nifbuild.data.batches import evaluation_batches
from nifbuild.errors import SpecError
from nifbuild.evaluate.figures import evaluate
from nifbuild.machine.device import accelerator_on
from nifbuild.runs.directory import RunDirectory
from nifbuild.train.run import train_run
from tests.children import in_children

# Not Adam: it turns the rounding noise of gradients that are zero, as those of biases before batch
# normalisation, into steps of full size.
SETTINGS = (
    "train.epochs=2",
    "train.accumulate=2",
    "train.ema=0.9",
    "train.channels_last=true",
    "train.optimizer={name: sgd, lr: 0.1}",
)


def words(*settings):
    return [word for setting in settings for word in ("--set", setting)]


def processes_of(run):
    starts = json.loads((run.path / "environment.json").read_text())["starts"]
    return [start["processes"] for start in starts]


def test_two_processes_equal_one(resolve, tmp_path):
    result, _ = in_children(train_run, resolve(*SETTINGS), tmp_path / "two")
    assert_equals_one_process(result.document(), resolve, tmp_path)


@pytest.mark.slow
def test_the_command_on_two_processes_speaks_as_one(resolve, spec_file, nifbuild, tmp_path):
    options = ("--processes", 2, "--out", "two", "--json")
    done = nifbuild("train", spec_file(), *words(*SETTINGS), *options)
    assert done.returncode == 0, done.stderr
    opening, *epochs = done.stderr.split("\nepoch ")
    assert opening.count("tiny: ") == 1 and "cpu, fp32, 2 processes" in opening
    assert [text[:3] for text in epochs] == ["1/2", "2/2"]
    assert_equals_one_process(json.loads(done.stdout), resolve, tmp_path)


def assert_equals_one_process(result, resolve, tmp_path):
    two = RunDirectory(tmp_path / "two")
    assert processes_of(two) == [2]
    expected = train_run(resolve(*SETTINGS), tmp_path / "one").document()
    one = RunDirectory(tmp_path / "one")
    assert result["num_samples"] == expected["num_samples"] == 17
    assert result["loss"] == pytest.approx(expected["loss"], rel=1e-6)
    for mine, theirs in zip(two.metrics(), one.metrics(), strict=True):
        assert mine["train_loss"] == pytest.approx(theirs["train_loss"], rel=1e-6)
        assert mine["loss"] == pytest.approx(theirs["loss"], rel=1e-6)
        assert (mine["top1"], mine["lr"]) == (theirs["top1"], theirs["lr"])


class Numbers(torch.utils.data.Dataset):
    """Logits for images, so that the identity is a model."""

    def __init__(self, logits, labels):
        self.logits, self.labels = logits, labels

    def __len__(self):
        return len(self.labels)

    def __getitems__(self, indices):
        return {"images": self.logits[indices], "labels": self.labels[indices]}


def test_counts_on_two_processes_at_ragged_sizes():
    """Each image once, whatever is left for the last batch; against a naive count."""
    assert in_children(count_at_ragged_sizes) == [0, 1]


def count_at_ragged_sizes():
    with accelerator_on(torch.device("cpu"), precision="fp32") as accelerator:
        assert accelerator.num_processes == 2
        for size in (1, 2, 7, 8, 9, 12, 15, 16, 17):
            torch.manual_seed(size)
            logits, labels = torch.randn(size, 6), torch.randint(6, (size,))
            batches = evaluation_batches(Numbers(logits, labels), 8, 0, accelerator)
            found = evaluate(nn.Identity(), batches, lambda x: x, accelerator, 6)
            assert found.num_samples == size, (size, found)
            assert found.confusion.sum() == size, (size, found)
            right = (logits.argmax(1) == labels).sum().item()
            assert found.top1 == right / size, (size, found)
            loss = nn.functional.cross_entropy(logits.double(), labels).item()
            assert abs(found.loss - loss) < 1e-12, (size, found)
        return accelerator.process_index


INTERRUPTED = ("train.epochs=8", "train.sync_batch_norm=false", "train.ema=0.9", "train.keep=1")


@pytest.fixture
def interrupted(spec_file, start, tmp_path):
    """A run on two processes that Ctrl-C has ended at any moment."""
    arguments = ["train", spec_file(dropout=True), *words(*INTERRUPTED)]
    process = start(*arguments, "--processes", 2, "--out", "parts")
    told = []
    for line in process.stderr:
        told += [line[:9]] if line.startswith("epoch") else []
        if line.startswith("epoch 2/"):
            break
    assert told == ["epoch 1/8", "epoch 2/8"]  # by one process
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert stdout == ""
    assert stderr.count("error: ") == 1
    assert "interrupted by SIGINT after step" in stderr
    assert "--resume" in stderr
    parts = RunDirectory(tmp_path / "parts")
    assert parts.result() is None
    assert f"saved parts/checkpoints/{parts.checkpoints[-1].name}" in stderr
    return parts


def assert_equal_runs(parts, whole):
    """Bit for bit."""
    assert processes_of(parts) == [2, 2] and processes_of(whole) == [2]
    last = "checkpoints/step_00000040"
    for name in ("model.safetensors", "ema.safetensors"):
        assert (whole.path / last / name).read_bytes() == (parts.path / last / name).read_bytes()
    paths = [run.path / last / "optimizer.pt" for run in (whole, parts)]
    states = [str(torch.load(path, weights_only=True)) for path in paths]
    assert states[0] == states[1]
    for key in ("train_loss", "loss", "top1"):
        assert [line[key] for line in whole.metrics()] == [line[key] for line in parts.metrics()]


def test_interrupted_and_resumed_on_two_processes(interrupted, resolve, tmp_path):
    resolved = resolve(*INTERRUPTED, dropout=True)
    for out, resume in ((interrupted.path, True), (tmp_path / "whole", False)):
        in_children(partial(train_run, resume=resume), resolved, out)
    assert_equal_runs(interrupted, RunDirectory(tmp_path / "whole"))


@pytest.mark.slow
def test_the_command_resumed_equals_torchrun(
    interrupted, spec_file, nifbuild, child_environment, tmp_path
):
    arguments = ["train", spec_file(dropout=True), *words(*INTERRUPTED)]
    done = nifbuild(*arguments, "--processes", 2, "--out", "parts", "--resume")
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("continuing after step")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    torchrun += ["--master_port", "0", "--rdzv_backend", "c10d", "--rdzv_endpoint", "127.0.0.1:0"]
    command = [*torchrun, "-m", "nifbuild", *map(str, arguments), "--out", "whole", "-q"]
    subprocess.run(command, cwd=tmp_path, env=child_environment, check=True, timeout=100)
    assert_equal_runs(interrupted, RunDirectory(tmp_path / "whole"))


def test_sigterm_saves_within_a_step(spec_file, start, tmp_path):
    process = start("train", spec_file(), *words("train.epochs=5000"), "--out", "run")
    for line in process.stderr:
        if line.startswith("epoch 1/"):
            break
    process.send_signal(signal.SIGTERM)
    sent = time.monotonic()
    _, stderr = process.communicate(timeout=60)
    assert time.monotonic() - sent < 20
    assert process.returncode == 143, stderr
    assert "interrupted by SIGTERM" in stderr
    assert RunDirectory(tmp_path / "run").checkpoints


def test_the_second_ctrl_c_ends_at_once():
    script = """
        import os, signal, sys
        from nifbuild.machine.signals import Interrupt
        with Interrupt() as interrupt:
            os.kill(os.getpid(), signal.SIGINT)
            print(interrupt.requested(), flush=True)
            os.kill(os.getpid(), signal.SIGINT)
            print("still here")
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("2\n", -signal.SIGINT)


def test_two_processes_that_cannot_share_a_batch(resolve, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SpecError, match="2 processes cannot share a batch of 9") as caught:
        train_run(resolve("train.batch_size=9"), tmp_path / "run")
    assert "train.batch_size=8" in str(caught.value)
    assert not (tmp_path / "run").exists()
