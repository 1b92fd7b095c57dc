"""Real file systems that are full, or of another user: one clear error, and nothing is lost."""

import contextlib
import os
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from nifbuild.cli.output import guard
from nifbuild.cli.train import train
from nifbuild.errors import InterruptedRun, RunError
from nifbuild.machine.progress import Reporter
from nifbuild.runs.directory import RunDirectory
from nifbuild.train.run import train_run
from tests.tiny_runs import Stop
from tests.train.test_kills import SETTINGS, assert_equal_runs

AS_ROOT = sys.platform == "linux" and os.geteuid() == 0


@contextlib.contextmanager
def mounted(path, options="size=2m"):
    """A file system of its own at `path`, where this process may mount one."""
    path.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", path]
    done = subprocess.run(command, capture_output=True, text=True, check=False) if AS_ROOT else None
    if done is None or done.returncode:
        pytest.skip("this process may not mount a file system")
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)


@pytest.fixture
def disk(tmp_path):
    with mounted(tmp_path / "disk") as path:
        yield path


def fill(disk):
    """Takes all the room that is left."""
    with (disk / "ballast").open("wb", buffering=0) as file:
        for size in (4096, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"x" * size)


class Fills(Reporter):
    """Fills the disk after a step."""

    def __init__(self, disk, at_step):
        self.disk, self.at_step = disk, at_step

    def step(self, step, loss, images_per_second, memory):
        if step == self.at_step:
            fill(self.disk)


@pytest.fixture
def whole(resolve, tmp_path):
    """What training gives where nothing happens."""
    train_run(resolve(*SETTINGS, dropout=True), tmp_path / "whole")
    return RunDirectory(tmp_path / "whole")


@pytest.mark.parametrize(
    ("at_step", "settings", "intact"),
    [
        (1, (), None),  # in the first checkpoint
        (3, ("train.checkpoint_every=100",), None),  # in the first line of metrics.jsonl
        (7, (), "step_00000006"),  # in a later checkpoint
    ],
    ids=["first checkpoint", "metrics", "checkpoint"],
)
def test_a_full_disk_loses_nothing(resolve, disk, tmp_path, at_step, settings, intact):
    resolved = resolve(*SETTINGS, *settings, dropout=True)
    run = RunDirectory(disk / "run")
    with pytest.raises(RunError) as caught:
        train_run(resolved, run.path, report=Fills(disk, at_step))
    (problem,) = caught.value.problems
    assert problem.what == f"cannot write to {run.path}: No space left on device"
    assert "make room" in problem.fix and "--resume" in problem.fix
    newest = [path.name for path in run.checkpoints][-1:]
    assert newest == ([] if intact is None else [intact])
    assert ("is intact" in problem.fix) == (intact is not None)
    with pytest.raises(RunError, match="No space left on device"):  # still: and nothing more breaks
        train_run(resolved, run.path, resume=True)
    (disk / "ballast").unlink()

    class Notes(Reporter):
        def note(self, text):
            notes.append(text)

    notes: list[str] = []
    train_run(resolved, run.path, resume=True, report=Notes())
    assert notes == ([] if intact is None else [f"continuing after step 6 of {run.path}"])
    train_run(resolved, tmp_path / "whole")
    assert_equal_runs(run, RunDirectory(tmp_path / "whole"))


def test_the_command_ends_with_one_error(spec_file, disk):
    (disk / "run").mkdir()
    fill(disk)
    app = typer.Typer()
    app.command("train")(guard(train, lambda: False))
    done = CliRunner().invoke(app, [str(spec_file()), "--out", str(disk / "run")])
    assert done.exit_code == 1
    assert done.stdout == ""
    assert done.stderr.startswith(f"error: cannot write to {disk}/run: No space left on device\n")
    assert done.stderr.count("error: ") == 1


def test_a_disk_that_tensorboard_fills(resolve, tmp_path, whole):
    """Its own thread writes; the failure must not be lost there, and costs no checkpoint."""
    resolved = resolve(*SETTINGS, "train.trackers=[tensorboard]", dropout=True)
    run = RunDirectory(tmp_path / "run")
    with pytest.raises(InterruptedRun):
        train_run(resolved, run.path, report=Stop(at_step=7))
    with mounted(run.path / "tensorboard") as events:
        fill(events)
        with pytest.raises(RunError, match="No space left on device") as caught:
            train_run(resolved, run.path, resume=True)
        assert "is intact" in str(caught.value)
    train_run(resolved, run.path, resume=True)
    assert run.checkpoints[-1].name == whole.checkpoints[-1].name
    name = f"checkpoints/{whole.checkpoints[-1].name}/ema.safetensors"
    assert (run.path / name).read_bytes() == (whole.path / name).read_bytes()


@pytest.mark.skipif(not AS_ROOT, reason="only the superuser can become another")
@pytest.mark.parametrize("mode", [0o700, 0o755], ids=["not entered", "not written"])
def test_a_folder_of_another_user(resolve, disk, mode, monkeypatch):
    resolved = resolve()
    (disk / "others").mkdir()
    (disk / "others").chmod(mode)
    monkeypatch.chdir(disk)  # as the folders above are for this user only
    os.seteuid(65534)
    try:
        with pytest.raises(RunError, match=r"others/run: Permission denied") as caught:
            train_run(resolved, "others/run")
    finally:
        os.seteuid(0)
    assert "make it writable" in str(caught.value) and "--out DIR" in str(caught.value)
