"""What every command says, and how."""

import json
import os
import sys

import pytest
import torch
from typer.testing import CliRunner

from nifbuild.cli.app import app
from nifbuild.cli.output import print_document
from nifbuild.errors import RunError
from nifbuild.machine.device import accelerator_on


def refuse(name):
    raise AssertionError(name)


def test_json_has_null_for_what_is_no_number_and_stderr_says_which(capsys):
    nan, inf = float("nan"), float("inf")
    print_document({"loss": nan, "layers": [{"bound": -inf}, {"bound": 1.5}], "shape": (2, inf)})
    captured = capsys.readouterr()
    assert json.loads(captured.out, parse_constant=refuse) == {
        "loss": None,
        "layers": [{"bound": None}, {"bound": 1.5}],
        "shape": [2, None],
    }
    assert "null in JSON: loss, layers.0.bound, shape.1" in captured.err
    print_document([0.5])
    assert capsys.readouterr().err == ""


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    yield
    os.chdir(tmp_path)  # which monkeypatch could not leave otherwise


@pytest.mark.skipif(sys.platform == "win32", reason="it cannot be deleted there")
@pytest.mark.parametrize(
    "command",
    ["validate a.yaml", "train a.yaml", "evaluate run", "inspect a.yaml", "ablate plan a.yaml"],
)
def test_a_working_directory_that_was_deleted_is_told(nowhere, command):
    done = CliRunner().invoke(app, command.split())
    assert done.exit_code == 1
    assert done.stderr.startswith("error: the working directory cannot be found")


LAUNCHED = {
    "RANK": "0",
    "LOCAL_RANK": "0",
    "WORLD_SIZE": "2",
    "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "29500",
}


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"WORLD_SIZE": "abc"}, "WORLD_SIZE is 'abc', which is no number of processes"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE is '0', which is no number of processes"),
        ({"WORLD_SIZE": ""}, "WORLD_SIZE is '', which is no number"),
        ({"WORLD_SIZE": None}, "RANK is set, and WORLD_SIZE is not"),
        ({"RANK": None}, "WORLD_SIZE is set, and RANK is not"),
        ({"RANK": "-1"}, "RANK is '-1', which is no whole number"),
        ({"RANK": "2"}, "RANK is 2, and there are 2 processes"),
        ({"LOCAL_RANK": "7"}, "LOCAL_RANK is 7, and there are 2 processes"),
        ({"LOCAL_RANK": "1.5"}, "LOCAL_RANK is '1.5'"),
        ({"LOCAL_WORLD_SIZE": "3"}, "LOCAL_WORLD_SIZE is 3, and WORLD_SIZE 2"),
        ({"MASTER_PORT": "port"}, "MASTER_PORT is 'port', which is no port"),
        ({"MASTER_PORT": "70000"}, "MASTER_PORT is '70000', which is no port"),
        ({"MASTER_PORT": None}, "WORLD_SIZE is set, and MASTER_PORT is not"),
        ({"MASTER_ADDR": "no machine"}, "MASTER_ADDR is 'no machine', and no machine"),
    ],
)
@pytest.mark.parametrize("command", ["train {}.yaml --out {}", "evaluate {}"])
def test_launchers_that_contradict_themselves(monkeypatch, tmp_path, command, change, what):
    for name, value in {**LAUNCHED, **change}.items():
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    (tmp_path / "run.yaml").write_text("version: 1\nmodel: [relu]\ninput: {channels: 1, size: 8}\n")
    done = CliRunner().invoke(app, command.replace("{}", str(tmp_path / "run")).split())
    assert done.exit_code == 2, done.stderr
    assert f"error: environment variable {what}" in done.stderr
    assert not (tmp_path / "run").exists()


def test_what_accelerate_cannot_read_is_one_clear_error(monkeypatch):
    monkeypatch.setenv("FORK_LAUNCHED", "perhaps")
    accelerator = accelerator_on(torch.device("cpu"), precision="fp32")
    with pytest.raises(RunError, match=r"cannot start: .*perhaps"), accelerator:
        pass


def test_shipped_specs_are_listed():
    import json

    from typer.testing import CliRunner

    from nifbuild.cli.app import app

    text = CliRunner().invoke(app, ["specs"]).output
    assert "nifbuild:architectures/resnet18" in text and "11,689,512" in text
    listed = json.loads(CliRunner().invoke(app, ["specs", "--json"]).output)["specs"]
    assert listed[0]["name"] == "nifbuild:resnet18" and len(listed) > 30
