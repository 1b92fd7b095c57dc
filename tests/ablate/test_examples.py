"""The commands of the examples for CI and clusters, on a tiny study."""

import os
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.ablate.conftest import STUDY, ablate, write_study

FOLDER = Path(__file__).parents[2] / "examples" / "ablation"
WORKFLOW = yaml.safe_load((FOLDER / "github_actions.yml").read_text())
SHIM = """#!/bin/bash
printf '%s\\0' "$@" | tr '\\n' ' ' > {asked}
exit $(cat {answer})
"""


@pytest.fixture
def shell(tmp_path, monkeypatch):
    """Runs a script whose `nifbuild` is answered by this process, which has loaded all it needs."""
    folder = tmp_path / "bin"
    folder.mkdir()
    asked, answer = folder / "asked", folder / "answer"
    os.mkfifo(asked)
    os.mkfifo(answer)
    for name, text in (
        ("nifbuild", SHIM.format(asked=asked, answer=answer)),
        ("srun", '#!/bin/bash\nexec "$@"\n'),
    ):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.chdir(tmp_path)

    def run(command, **variables):
        environment = {**os.environ, **variables, "PATH": f"{folder}:{os.environ['PATH']}"}
        # The pipe ends when both the script and what it calls have closed it.
        script = subprocess.Popen(
            ["bash", "-c", f'{command}\ncode=$?; printf "end %s" $code > {asked}'],
            env=environment,
            text=True,
        )
        called = []
        while not (words := asked.read_text()).startswith("end "):
            arguments = words.split("\0")[:-1]
            done = call(arguments)
            called.append((arguments, done))
            answer.write_text(f"{done.exit_code}\n")
        script.wait(10)
        return int(words.split()[1]), called

    return run


def call(arguments):
    if arguments[0] == "ablate":
        return ablate(*arguments[1:])
    from typer.testing import CliRunner

    from nifbuild.cli.app import app

    return CliRunner().invoke(app, arguments)


def step(job, name):
    """A step's command; as on a runner, it ends with the first failure."""
    (found,) = [s for s in WORKFLOW["jobs"][job]["steps"] if s.get("name") == name]
    return f"bash -e <<'STEP'\n{found['run']}\nSTEP"


@pytest.mark.slow
def test_workflow_from_cells_to_gate(shell, tmp_path):
    study = write_study(tmp_path)
    own = {"STUDY": study.name, "CELLS": "ablations/study", "GITHUB_STEP_SUMMARY": "summary.md"}
    assert shell(step("run", "check"), **own)[0] == 0
    shards = WORKFLOW["jobs"]["run"]["strategy"]["matrix"]["shard"]
    template = WORKFLOW["jobs"]["run"]["env"]["SHARD"]
    for shard in shards:
        number = template.replace("${{ matrix.shard }}", str(shard))
        code, called = shell(step("run", "cells"), **own, SHARD=number)
        assert code == 0, called[0][1].output
    code, _ = shell(step("report", "report"), **own)
    assert code == 0
    text = (tmp_path / "report" / "report.md").read_text()
    assert "4 of 4 cells done" in text and (tmp_path / "summary.md").read_text() == text
    assert shell(step("report", "gate"), **own)[0] == 0
    # From then on main has a report.
    assert shell(step("report", "keep for pull requests"))[0] == 0
    code, called = shell(step("report", "gate"), **own)
    assert code == 0 and called[0][0][-2:] == ["--main", "main-report"]
    write_study(tmp_path, study.read_text().replace("max: 1M", "max: 100"))
    assert shell(step("report", "gate"), **own)[0] == 3


def test_workflow_names_what_is_there():
    study = FOLDER.parents[1] / WORKFLOW["env"]["STUDY"]
    assert study.is_file()
    assert Path(WORKFLOW["env"]["CELLS"]).name == study.stem
    for job in WORKFLOW["jobs"].values():
        assert all("uses" in step or "run" in step for step in job["steps"])


def test_slurm_script(shell, tmp_path):
    study = write_study(tmp_path, STUDY.replace("[0, 1]", "[0]"))
    for task in ("1", "2"):
        code, called = shell(
            f"bash {FOLDER / 'slurm.sh'} {study.name}",
            SLURM_ARRAY_TASK_ID=task,
            SLURM_ARRAY_TASK_COUNT="2",
        )
        assert code == 0, called[0][1].output
        assert "1 cells done" in called[0][1].stdout
    assert shell(f"bash {FOLDER / 'slurm.sh'}", SLURM_ARRAY_TASK_ID="1")[0] == 1
