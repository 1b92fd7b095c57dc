"""Runs that are killed with SIGKILL lose nothing: see `killing.py`, which kills them."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from nifbuild.runs.directory import RunDirectory
from tests.tiny_runs import best_of, without_times

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX processes")

# Augmentation, dropout (see `spec_file`), EMA, accumulation, a warm-up, checkpoints in an epoch.
SETTINGS = (
    "train.accumulate=2",
    "train.ema=0.8",
    "train.clip_norm=0.5",
    "train.checkpoint_every=0.4",
    "train.keep=1",
    "train.schedule={name: cosine, warmup_epochs: 1}",
    "data.augment={crop: 1, flip: 0.5, mixup: 0.4}",
)
SGD = "train.optimizer={name: sgd, lr: 0.1}"


def at(event, count=1):
    return {"at": event, "count": count}


def within(share):
    return {"within": share}


def weights(run):
    last = run.checkpoints[-1]
    return {file.name: file.read_bytes() for file in last.glob("*.safetensors")}


def assert_equal_runs(parts, whole):
    """Bit for bit in all that two runs share."""
    assert set(weights(whole)) == {"model.safetensors", "ema.safetensors"}
    assert parts.checkpoints[-1].name == whole.checkpoints[-1].name
    assert weights(parts) == weights(whole)
    states = [
        str(torch.load(run.checkpoints[-1] / "optimizer.pt", weights_only=True))
        for run in (parts, whole)
    ]
    assert states[0] == states[1]
    for mine, theirs in zip(
        [*parts.metrics(), parts.result()], [*whole.metrics(), whole.result()], strict=True
    ):
        assert without_times(mine) == without_times(theirs)
    assert best_of(parts) == best_of(whole)


def nothing_unfinished(run):
    return not [path for path in run.path.rglob(".*") if path.name != ".lock"]


@pytest.fixture
def killed(spec_file, tmp_path, child_environment):
    """Trains with and without kills; returns what `killing.py` saw."""

    def run(*settings, kills, processes=1, seed=0):
        plan = {
            "spec": str(spec_file(dropout=True)),
            "settings": [*SETTINGS, *settings],
            "folder": str(tmp_path),
            "processes": processes,
            "kills": kills,
            "seed": seed,
        }
        program = Path(__file__).with_name("killing.py")
        done = subprocess.run(
            [sys.executable, program, json.dumps(plan)],
            env=child_environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=280,
        )
        assert done.returncode == 0, done.stderr
        seen = json.loads(done.stdout)["kills"]
        assert [kill["reached"] for kill in seen] == [True] * len(kills)
        assert [kill["victim"] for kill in seen] == [-signal.SIGKILL] * len(kills)
        # Those that lose the one that was killed fail, rather than wait for it.
        assert [kill["others"] for kill in seen] == [[1] * (processes - 1)] * len(kills)
        assert [kill["damaged"] for kill in seen] == [[]] * len(kills)
        parts, whole = (RunDirectory(tmp_path / name) for name in ("parts", "whole"))
        for name in (parts, whole):
            starts = json.loads((name.path / "environment.json").read_text())["starts"]
            assert {start["processes"] for start in starts} == {processes}
        assert_equal_runs(parts, whole)
        assert nothing_unfinished(parts)
        return seen

    return run


def test_a_killed_run_goes_on_bit_for_bit(killed):
    kills = [at("file", 2), at("step", 4), at("batch", 2)]
    seen = killed(kills=kills)
    assert [kill["last"] for kill in seen] == [None, "step_00000002", "step_00000004"]


EVERYWHERE = [
    at("begin"),  # before the first checkpoint
    at("step"),
    at("file", 5),  # the first checkpoint is half written
    at("step", 5),  # in the middle of an epoch
    at("rename"),  # a checkpoint has its name, and nothing points to it yet
    at("remove"),  # half of what follows a checkpoint is done
    at("batch", 2),  # while evaluating
    at("replace", 3),
    within(0.3),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("precision", "optimizer"), [("fp32", SGD), ("bf16", "train.optimizer={name: adamw, lr: 0.01}")]
)
def test_one_process_killed_everywhere(killed, precision, optimizer):
    seen = killed(f"train.precision={precision}", optimizer, kills=EVERYWHERE)
    assert [kill["last"] for kill in seen[:3]] == [None] * 3
    assert seen[2]["unfinished"] == [".writing_step_00000002"]


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_two_processes_killed_everywhere(killed, precision):
    chosen = [at("step", 3), at("file", 7), at("batch"), at("rename"), within(0.4)]
    killed(f"train.precision={precision}", kills=chosen, processes=2, seed=7)


@pytest.mark.slow
def test_the_last_checkpoint_was_saved_and_nothing_else(killed):
    """Killed after the last save, before what points to the best checkpoint was written."""
    settings = ("train.checkpoint_every=100", "train.epochs=2", "train.monitor=loss")
    (first, second) = killed(*settings, kills=[at("rename"), at("rename")])
    assert (first["last"], second["last"]) == ("step_00000005", "step_00000010")


def children_of(process):
    return [
        int(child)
        for path in Path(f"/proc/{process.pid}/task").glob("*/children")
        for child in path.read_text().split()
    ]


def is_running(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def ended(processes, seconds=60):
    deadline = time.monotonic() + seconds
    while (left := [p for p in processes if is_running(p)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not left


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs Linux's /proc")
def test_the_command_killed_on_two_processes(spec_file, start, nifbuild, tmp_path):
    """The launcher is killed, or one of its processes is: the others end, and nothing is lost."""
    words = [w for setting in (*SETTINGS, "train.epochs=8") for w in ("--set", setting)]
    arguments = ["train", spec_file(dropout=True), *words, "--processes", 2]
    rng = random.Random(5)
    for victim in ("launcher", "second", "launcher while it starts"):
        process = start(*arguments, "--out", "parts", "--resume")
        for line in process.stderr if victim != "launcher while it starts" else ():
            if line.startswith("epoch "):
                break
        while len(children := children_of(process)) < 2:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.2))
        target = children[1] if victim == "second" else process.pid
        os.kill(target, signal.SIGKILL)
        assert ended(children), victim
        _, stderr = process.communicate(timeout=60)
        if target == process.pid:
            assert process.returncode == -signal.SIGKILL
        else:
            assert process.returncode == 1
            assert "process 1 was ended by SIGKILL" in stderr
    for out in ("parts", "whole"):
        done = nifbuild(*arguments, "--out", out, "--resume")
        assert done.returncode == 0, done.stderr
    parts, whole = (RunDirectory(tmp_path / name) for name in ("parts", "whole"))
    starts = json.loads((parts.path / "environment.json").read_text())["starts"]
    assert {entry["processes"] for entry in starts} == {2}
    assert_equal_runs(parts, whole)
