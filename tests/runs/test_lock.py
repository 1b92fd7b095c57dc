import os
import signal
import socket
import subprocess
import sys
import textwrap
import time

import pytest
from typer.testing import CliRunner

from nifbuild.cli.app import app
from nifbuild.errors import InterruptedRun, RunError
from nifbuild.runs.directory import RunDirectory
from nifbuild.runs.lock import LOCK, locked
from nifbuild.train.run import train_run
from tests.tiny_runs import Stop

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX locks")


def holder(directory, then):
    """A process that locks the directory, says so, and goes on with `then`."""
    script = f"""
        import os, signal, time
        from pathlib import Path
        from nifbuild.runs.lock import locked
        with locked(Path({str(directory)!r})):
            {then}
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline().startswith("locked")
    return process


def test_the_error_names_the_process_that_writes(tmp_path):
    process = holder(tmp_path / "run", "print('locked', flush=True); time.sleep(60)")
    try:
        with pytest.raises(RunError) as caught, RunDirectory(tmp_path / "run").locked():
            pass
    finally:
        process.kill()
        process.communicate()
    (problem,) = caught.value.problems
    host = socket.gethostname()
    assert problem.what == f"process {process.pid} on {host} is writing to {tmp_path / 'run'}"
    assert "--out DIR" in problem.fix
    with locked(tmp_path / "run"):  # the file is still there, but the process is not
        pass


def test_a_child_of_a_killed_process_does_not_hold_it(tmp_path):
    fork = f"""
            child = os.fork()
            if child:
                Path({str(tmp_path / "child")!r}).write_text(str(child))
                print("locked", flush=True)
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)
    """
    process = holder(tmp_path, fork)
    process.wait()
    try:
        with locked(tmp_path):
            assert (tmp_path / LOCK).exists()
    finally:
        os.kill(int((tmp_path / "child").read_text()), signal.SIGKILL)
        process.communicate()
    assert not (tmp_path / LOCK).exists()


def test_a_directory_in_which_nothing_was_written_is_removed(tmp_path):
    with locked(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b").is_dir()
    assert not (tmp_path / "a" / "b").exists()
    (tmp_path / "mine").mkdir()
    with locked(tmp_path / "mine"):
        pass
    assert (tmp_path / "mine").exists()


def test_two_commands_on_one_directory(start, spec_file, resolve, tmp_path):
    run = RunDirectory(tmp_path / "run")
    words = ["train", str(spec_file()), "--out", str(run.path), "--resume", "-q"]
    first = start(*words, "--epochs", 1000)
    deadline = time.monotonic() + 200
    while not run.checkpoints and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(first.pid, signal.SIGSTOP)  # it has the lock, and leaves the processor to this one
    second = CliRunner().invoke(app, [*words, "--epochs", "1000"])
    assert second.exit_code == 1
    assert f"process {first.pid} on " in second.stderr
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    at_step = run.progress(run.checkpoints[-1])["progress"]["step"] + 2
    with pytest.raises(InterruptedRun, match=f"after step {at_step}; saved"):
        train_run(resolve("train.epochs=1000"), run.path, resume=True, report=Stop(at_step=at_step))
