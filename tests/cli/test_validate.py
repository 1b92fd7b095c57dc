import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nifbuild import __version__
from nifbuild.errors import SpecError
from tests.cli.in_process import ROOT, nifbuild


@pytest.fixture
def bad(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text("version: 1\nmodel: [{op: cnov}]\ntrain: {epochs: x}\n")
    return path


def test_all_shipped_specs_validate():
    specs = [str(p.relative_to(ROOT)) for p in sorted((ROOT / "specs").rglob("*.yaml"))]
    done = nifbuild("validate", *specs)
    assert done.returncode == 0 and done.stderr == ""
    assert len(done.stdout.splitlines()) == len(specs)
    assert "specs/resnet18_nif.yaml: ok, 69 modules, 3x16x16 -> 10" in done.stdout


def test_problems_as_text(bad):
    done = nifbuild("validate", str(bad), "specs/resnet18.yaml")
    assert done.returncode == 2
    assert "specs/resnet18.yaml: ok" in done.stdout
    lines = done.stderr.splitlines()
    assert lines[0] == f"error: {bad}:2:14: model: unknown op 'cnov'"
    assert lines[1] == "  did you mean 'conv'?"
    assert f'error: {bad}:3:17: train.epochs: expected a whole number, got "x"' in lines
    assert "Traceback" not in done.stderr


def test_problems_as_json(bad):
    done = nifbuild("validate", str(bad), "--format", "json")
    document = json.loads(done.stdout)
    assert done.returncode == 2 and document["ok"] is False
    assert document["problems"][1] == {
        "file": str(bad),
        "line": 3,
        "column": 17,
        "path": "train.epochs",
        "code": "value",
        "what": 'expected a whole number, got "x"',
        "fix": "epochs: Passes over the training images (default 50)",
    }
    assert json.loads(nifbuild("validate", "specs/resnet18.yaml", "--format=json").stdout)["ok"]


def test_problems_as_annotations(bad):
    done = nifbuild("validate", str(bad), "--format", "github")
    first, second = done.stdout.splitlines()
    assert first.startswith(f"::error file={bad},line=2,col=14::model: unknown op 'cnov'%0Adid you")
    assert second == (
        f'::error file={bad},line=3,col=17::train.epochs: expected a whole number, got "x"'
        "%0Aepochs: Passes over the training images (default 50)"
    )


def test_tracebacks_on_request(bad):
    for arguments in (["--traceback", "resolve", str(bad)], ["resolve", str(bad), "--traceback"]):
        with pytest.raises(SpecError, match="unknown op 'cnov'"):  # Python prints the traceback
            nifbuild(*arguments)
    done = nifbuild("resolve", str(bad))
    assert done.returncode == 2 and "Traceback" not in done.stderr


def test_resolve_prints_a_spec_that_resolves_to_itself(tmp_path):
    text = nifbuild("resolve", "specs/resnet18_nif.yaml", "--set", "vars.width=8").stdout
    (tmp_path / "resolved.yaml").write_text(text)
    assert nifbuild("resolve", str(tmp_path / "resolved.yaml")).stdout == text
    assert text.count("kind: implicit_frequency") == 13 and "$" not in text


def test_schema_is_json():
    assert json.loads(nifbuild("schema").stdout)["title"] == "nifbuild spec"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "Did you mean 'train'"),
        (["validate"], "Missing argument"),
        (["validate", "nowhere.yaml"], "nowhere.yaml: no such file"),
        (["validate", "specs/resnet18.yaml", "--set", "train.epoch=1"], "did you mean 'epochs'?"),
        (["validate", "specs/resnet18.yaml", "--data", "specs/nope.yaml"], "no such file"),
    ],
)
def test_wrong_command_lines(arguments, message):
    done = nifbuild(*arguments)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "what", "fix"),
    [
        (["train", "--json"], "Missing argument", "see nifbuild --help"),
        (["trian", "--json"], "No such command 'trian'", "did you mean 'train'?"),
        (["train", "a", "--processes", "x", "--json"], "'--processes'", "see nifbuild --help"),
        (["validate", "--format", "json"], "Missing argument", "see nifbuild --help"),
        (["validate", "--format=json", "--jsn", "a"], "No such option: --jsn", "see nif"),
    ],
)
def test_wrong_command_lines_as_json(arguments, what, fix):
    done = nifbuild(*arguments)
    document = json.loads(done.stdout)
    (problem,) = document["problems"]
    assert (done.returncode, done.stderr, document["ok"]) == (2, "", False)
    assert what in problem["what"] and problem["fix"].startswith(fix)
    assert problem["code"] == "usage"


def test_version():
    done = nifbuild("--version")
    assert (done.returncode, done.stdout) == (0, f"nifbuild {__version__}\n")


OUTPUTS = [
    ["schema"],
    ["resolve", "specs/resnet18.yaml"],
    ["validate", "specs/resnet18.yaml"],
    ["validate", "nowhere.yaml", "--format", "json"],
    ["train", "nowhere.yaml", "--json"],
    ["train", "--help"],
]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("arguments", OUTPUTS, ids=" ".join)
def test_output_that_cannot_be_written_is_one_error(arguments):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "nifbuild", *arguments],
            cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == (
        "error: cannot write to standard output: No space left on device\n"
        "  send it where there is room\n"
    )


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX pipes")
@pytest.mark.parametrize("arguments", OUTPUTS, ids=" ".join)
def test_a_closed_pipe_is_not_an_error(arguments):
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "nifbuild", *arguments],
        cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60, check=False,
    )  # fmt: skip
    os.close(writer)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")


def test_what_is_wrong_in_a_file_that_several_extend_names_them(tmp_path):
    """One patches what another leaves as it is: the place alone would not tell which is wrong."""
    patch = "patch: [{match: layer2.*.conv1, set: {kernel_size: 4}}]\n"
    specs = [tmp_path / name for name in ("a.yaml", "b.yaml", "c.yaml")]
    for spec, more in zip(specs, (patch, "", patch), strict=True):
        spec.write_text(f"extends: {ROOT}/specs/architectures/resnet18.yaml\n{more}")
    done = nifbuild("validate", *map(str, specs))
    assert done.returncode == 2
    assert "architectures/resnet18.yaml:13:9: layer2." in done.stderr
    assert f"\n  in: {specs[0]}, {specs[2]}\n" in done.stderr
