"""Standard error that cannot be written ends no run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nifbuild.cli.app import main
from nifbuild.machine.progress import reporter
from nifbuild.machine.terminal import careful_stderr
from nifbuild.train.run import train_run
from tests.children import in_child

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


def test_the_command_on_a_full_disk(spec_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert in_child(train_with_full_stderr, spec_file()) == 0
    assert "top-1" in (tmp_path / "stdout").read_text()
    assert (tmp_path / "run" / "metrics.json").exists()


def train_with_full_stderr(spec: Path) -> int:
    for descriptor, path in ((1, "stdout"), (2, "/dev/full")):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), descriptor)
    sys.argv = ["nifbuild", "train", str(spec), "--out", "run"]
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_the_command_whose_reader_has_gone(spec_file, tmp_path, child_environment):
    command = f"{sys.executable} -m nifbuild train {spec_file()} --out run 2>&1 | head -n 1"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"],
        cwd=tmp_path, env=child_environment, capture_output=True, text=True, check=False,
        timeout=200,
    )  # fmt: skip
    assert done.returncode == 141, done.stdout  # the table at the end finds no reader
    assert (tmp_path / "run" / "metrics.json").exists()
