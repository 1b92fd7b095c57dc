"""Standard streams that are full, closed or gone, and files that are in the way of results."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nifbuild.cli.app import app

ROOT = Path(__file__).parents[2]
SPEC = """
version: 1
name: small
input: {channels: 1, size: 8}
model:
  - {op: conv, out_channels: 2}
  - {op: global_avg_pool}
  - {op: flatten}
  - {op: linear, out_features: 3}
"""

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")


def shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    (folder / "small.yaml").write_text(SPEC)
    (folder / "bad.yaml").write_text(SPEC.replace("op: conv", "op: cnov"))
    command = command.replace("nifbuild", f"{sys.executable} -m nifbuild")
    return subprocess.run(
        ["bash", "-c", command],
        cwd=folder, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL,
    )  # fmt: skip


@pytest.mark.parametrize("gone", ["2>/dev/full", "2>&-", "2> >(exec <&-)"])
def test_without_stderr_the_work_goes_on(gone, tmp_path):
    done = shell(f"nifbuild validate bad.yaml small.yaml {gone}", tmp_path)
    assert (done.returncode, done.stderr) == (2, "")
    assert done.stdout == "small.yaml: ok, 4 modules, 1x8x8 -> 3\n"


def test_a_closed_stream_lends_its_number_to_no_file(tmp_path):
    done = shell("nifbuild graph small.yaml -o a.mmd 2>&- >&- <&-", tmp_path)
    assert done.returncode == 0
    text = (tmp_path / "a.mmd").read_text()
    assert text.startswith("flowchart") and "wrote" not in text


def test_a_closed_stdout_is_an_error(tmp_path):
    done = shell("nifbuild resolve small.yaml >&-", tmp_path)
    assert done.returncode == 1
    first, *rest = done.stderr.splitlines()
    assert first.startswith("error: cannot write to standard output") and len(rest) == 1


def test_a_wrong_command_line_is_quoted_safely(tmp_path):
    done = shell("nifbuild validate x.yaml --format $'[red]\\e[31m\\a' 2>&1", tmp_path)
    assert done.returncode == 2 and "\x1b" not in done.stdout and "\x07" not in done.stdout
    assert "[red]" in done.stdout


@pytest.mark.parametrize(
    ("command", "file"),
    [
        (["graph", "small.yaml"], "small.svg"),  # its own choice of a name, even
        (["graph", "small.yaml", "-o", "a.mmd"], "a.mmd"),
        (["export", "small.yaml", "--format", "safetensors"], "small.safetensors"),
        (["evaluate", "run", "--confusion", "a.png"], "a.png"),
        (["predict", "run", "image.png", "--csv", "a.csv"], "a.csv"),
        (["bench", "--shape", "1x1x8x8", "--repeats", "1", "--plot", "a.svg"], "a.svg"),
    ],
)
def test_no_file_is_replaced_unasked(command, file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("small.yaml").write_text(SPEC)
    Path(file).write_text("mine")
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 2
    assert f"{file} exists" in done.stderr and "add --overwrite" in done.stderr
    assert Path(file).read_text() == "mine"
    assert sorted(p.name for p in Path().iterdir()) == sorted(["small.yaml", file])
    if command[0] == "graph":
        assert CliRunner().invoke(app, [*command, "--overwrite"]).exit_code == 0
        assert Path(file).read_text() != "mine"
