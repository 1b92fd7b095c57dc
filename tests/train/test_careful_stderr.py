"""Standard error that cannot be written ends no run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nifbuild.machine.progress import reporter
from nifbuild.machine.terminal import careful_stderr
from nifbuild.train.run import train_run

pytestmark = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")


@pytest.fixture
def full():
    with Path("/dev/full").open("w") as file:
        yield file


@pytest.fixture
def unread():
    """A pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as file:
        yield file


@pytest.mark.parametrize("kind", ["full", "unread"])
def test_training_goes_on(resolve, tmp_path, monkeypatch, request, kind):
    monkeypatch.setattr(sys, "stderr", request.getfixturevalue(kind))
    with careful_stderr():
        result = train_run(
            resolve("train.epochs=1"), tmp_path / "run", report=reporter(False)
        ).document()
    assert result["step"] == 5


def test_what_can_be_written_is_in_order(tmp_path, monkeypatch):
    with (tmp_path / "log").open("w", encoding="ascii", errors="backslashreplace") as file:
        monkeypatch.setattr(sys, "stderr", file)
        with careful_stderr():
            sys.stderr.write("one\n")
            os.write(file.fileno(), b"two\n")
            sys.stderr.write("thr\u00e9e")
    assert (tmp_path / "log").read_text() == "one\ntwo\nthr\\xe9e"


def test_closed_it_does_not_become_standard_output(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stderr", None)
    with careful_stderr():
        reporter(quiet=False).note("progress")
    assert sys.stderr is None
    monkeypatch.undo()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("redirection", ["2> /dev/full", "2>&1 | head -n 1"])
def test_the_command(spec_file, tmp_path, child_environment, redirection):
    command = f"{sys.executable} -m nifbuild train {spec_file()} --out run {redirection}"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"],
        cwd=tmp_path, env=child_environment, capture_output=True, text=True, check=False,
        timeout=200,
    )  # fmt: skip
    # With `head`, the table at the end finds no reader.
    assert done.returncode == (141 if "head" in redirection else 0), done.stdout
    assert (tmp_path / "run" / "metrics.json").exists()
