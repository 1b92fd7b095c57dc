import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from nifbuild.cli.app import app as command_line
from nifbuild.cli.evaluate import evaluate
from nifbuild.cli.output import guard
from nifbuild.cli.train import train
from nifbuild.runs.directory import RunDirectory
from nifbuild.runs.loaded import load_run
from tests.children import in_child


@pytest.fixture
def call(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    app = typer.Typer()
    for command in (train, evaluate):
        app.command(command.__name__)(guard(command, lambda: False))
    return lambda *arguments: CliRunner().invoke(app, [str(a) for a in arguments])


def test_train_then_evaluate(call, spec_file):
    done = call("train", spec_file())
    assert done.exit_code == 0, done.output
    for word in ("tiny on test", "top-1", "top-5", "img/s", "waiting for data", "runs/tiny"):
        assert word in done.stdout
    assert "nifbuild evaluate runs/tiny" in done.stdout
    opening, *heads = done.stderr.split("\nepoch ")
    assert [head[:3] for head in heads] == ["1/3", "2/3", "3/3"]
    weights = load_run("runs/tiny").model.parameters()
    assert f"tiny: {sum(weight.numel() for weight in weights):,} parameters" in opening
    assert "10 classes; images: 40 train, 21 validation, 17 test" in opening
    assert "cpu, fp32; 5 steps of 8 images in an epoch; run: runs/tiny" in opening
    Path("other.yaml").write_text(f"extends: {spec_file()}\nvars: {{num_classes: 7}}\n")
    heard = call("train", "other.yaml", "--epochs", 0, "--out", "runs/other").stderr
    assert "10 classes (of the data; in place of vars.num_classes, 7); images: 40 train" in heard
    final = RunDirectory("runs/tiny").result()
    done = call("evaluate", "runs/tiny", "--json")
    found = json.loads(done.stdout)
    for key in ("top1", "top5", "loss", "calibration_error", "per_class", "num_samples"):
        assert found[key] == final[key]
    options = ("--split", "train", "--checkpoint", "last", "--batch-size", 5)
    done = call("evaluate", "runs/tiny", *options)
    assert "tiny on train" in done.stdout
    assert "step_00000015 (step 15)" in done.stdout


def test_json_is_one_document_and_nothing_else(call, spec_file):
    done = call("train", spec_file(), "--json", "--out", "here", "--epochs", 1)
    result = json.loads(done.stdout)
    assert result["directory"] == "here"
    assert result["epoch"] == 1
    assert {"top1", "top5", "loss", "per_class", "num_samples"} <= set(result)


def test_quiet_says_only_the_result(call, spec_file):
    done = call("train", spec_file(), "--quiet", "--epochs", 1)
    assert done.stderr == ""
    assert "top-1" in done.stdout


@pytest.mark.parametrize("broken", [1, 5])
def test_images_that_are_left_out_are_said_even_when_quiet(call, spec_file, tmp_path, broken):
    for label in "ab":
        (tmp_path / "images" / label).mkdir(parents=True)
        for i in range(20):
            Image.new("L", (8, 8), i).save(tmp_path / "images" / label / f"{i}.png")
    for i in range(broken):
        (tmp_path / "images" / "a" / f"x{i}.png").write_text("no image")
    (tmp_path / "data.yaml").write_text(
        "data: {source: imagefolder, path: images, unreadable: skip, validation: 0}\n"
    )
    done = call("train", spec_file(), "--data", "data.yaml", "--epochs", 1, "-q")
    assert done.exit_code == 0, done.output
    said = done.stderr.splitlines()
    left = "1 image is left out, as it" if broken == 1 else "5 images are left out, as they"
    assert said[0] == f"warning: {left} cannot be read:"
    assert all("images/a/x" in line for line in said[1 : 1 + min(broken, 3)])
    rest = ["  and 2 more; all are listed in runs/tiny/data.json"] if broken > 3 else []
    assert said[1 + min(broken, 3) :] == rest
    unreadable = RunDirectory("runs/tiny").data()["unreadable"]
    assert len(unreadable) == broken
    for split in ("train", "test"):
        names = [entry["image"] for entry in unreadable if entry["split"] == split]
        said = call("evaluate", "runs/tiny", "--split", split, "-q").stderr
        assert said.count("  'images/a/x") == min(len(names), 3)
        assert said.count("cannot be read:") == bool(names)


def test_a_run_does_not_lie_among_the_images(call, spec_file, tmp_path):
    for label in "ab":
        (tmp_path / "images" / label).mkdir(parents=True)
        for i in range(10):
            Image.new("L", (8, 8), i).save(tmp_path / "images" / label / f"{i}.png")
    done = call("train", spec_file(), "--data", "images", "--epochs", 1, "--out", "./images/")
    assert done.exit_code == 2 and "--out images: the images are there" in done.stderr
    assert sorted(path.name for path in (tmp_path / "images").iterdir()) == ["a", "b"]


def test_files_that_are_not_used_are_said_and_written_down(call, spec_file, tmp_path):
    for label in "ab":
        (tmp_path / "images" / label).mkdir(parents=True)
        for i in range(10):
            Image.new("L", (8, 8), i).save(tmp_path / "images" / label / f"{i}.png")
    for name in ("a/x.heic", "b/y.heic", "loose.png"):
        (tmp_path / "images" / name).touch()
    (tmp_path / "data.yaml").write_text("data: {source: imagefolder, path: images}\n")
    done = call("train", spec_file(), "--data", "data.yaml", "--epochs", 1, "-q")
    assert done.exit_code == 0, done.output
    said = (
        "left out: 2 files whose suffix is no image's (2 .heic), such as 'images/a/x.heic'; "
        "1 file beside the class folders, such as 'images/loose.png'"
    )
    assert done.stderr == f"warning: {said}\n"
    assert RunDirectory("runs/tiny").data()["notes"] == [said]
    assert call("evaluate", "runs/tiny", "-q").stderr == f"warning: {said}\n"


def test_short_options_are_settings(call, spec_file):
    options = ("--epochs", 1, "--batch-size", 10, "--device", "cpu", "--precision", "bf16")
    done = call("train", spec_file(), *options, "--seed", 3, "-q")
    assert done.exit_code == 0, done.output
    text = RunDirectory("runs/tiny").spec.read_text()
    for line in ("epochs: 1", "batch_size: 10", "device: cpu", "precision: bf16", "seed: 3"):
        assert line in text


@pytest.mark.parametrize(
    ("options", "path", "word"),
    [
        (("--device", "gpu"), "train.device", "auto"),
        (("--precision", "fp8"), "train.precision", "bf16"),
        (("--epochs", "-1"), "train.epochs", "0"),
        (("--set", "train.epoch=3"), "train.epoch", "epochs"),
    ],
)
def test_options_are_checked_like_the_file(call, spec_file, options, path, word):
    done = call("train", spec_file(), *options, "--json")
    assert done.exit_code == 2
    (problem,) = json.loads(done.stdout)["problems"]
    assert problem["path"] == path
    assert word in f"{problem['what']} {problem['fix']}"


def test_a_second_run_is_refused_and_overwrite_and_resume_are_not(call, spec_file):
    arguments = ("train", spec_file(), "--epochs", 1, "-q")
    assert call(*arguments).exit_code == 0
    done = call(*arguments)
    assert done.exit_code == 2
    assert "runs/tiny already holds a run" in done.stderr
    assert call(*arguments, "--resume").exit_code == 0
    assert call(*arguments, "--overwrite").exit_code == 0
    done = call(*arguments, "--overwrite", "--resume")
    assert done.exit_code == 2
    assert "exclude each other" in done.stderr


def test_the_spec_in_a_run_goes_on_with_that_run(call, spec_file, tmp_path):
    """Not with another of the same name."""
    for name in ("tiny", "other"):
        assert call("train", spec_file(), "--out", f"runs/{name}", "-q").exit_code == 0
    before = (tmp_path / "runs/tiny/metrics.json").read_bytes()
    done = call("train", "runs/other/spec.yaml", "--resume", "--epochs", 3)
    assert done.exit_code == 0, done.output
    assert "runs/other" in done.output
    assert json.loads((tmp_path / "runs/other/metrics.json").read_text())["epochs"] == 3
    assert (tmp_path / "runs/tiny/metrics.json").read_bytes() == before
    assert "nifbuild train runs/other/spec.yaml --resume" in call("train", "runs/other").stderr


def test_evaluate_says_what_is_not_a_run(call):
    done = call("evaluate", "nowhere")
    assert done.exit_code == 2
    assert "nowhere does not exist" in done.stderr


@pytest.mark.parametrize("resume", [(), ("--resume",), ("--processes", 2)])
def test_where_a_run_cannot_be(call, spec_file, tmp_path, resume):
    (tmp_path / "file").touch()
    done = call("train", spec_file(), "--out", "file", *resume)
    assert done.exit_code == 2 and "file is a file, and a run is a directory" in done.stderr
    done = call("train", spec_file(), "--out", "", *resume)
    assert done.exit_code == 2 and "it is empty: name a directory" in done.stderr


def test_evaluate_elsewhere_says_where_paths_count_from(call, spec_file, tmp_path, monkeypatch):
    for label in "ab":
        (tmp_path / "images" / label).mkdir(parents=True)
        for i in range(20):
            Image.new("L", (8, 8), i).save(tmp_path / "images" / label / f"{i}.png")
    (tmp_path / "data.yaml").write_text("data: {source: imagefolder, path: images}\n")
    call("train", spec_file(), "--data", "data.yaml", "--epochs", 1, "-q")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    done = call("evaluate", "../runs/tiny")
    assert done.exit_code == 2
    assert f"the run was trained in {tmp_path}:" in done.stderr
    assert "call this there, where the run is runs/tiny, or" in done.stderr
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").rename(tmp_path / "gone")
    done = call("evaluate", "runs/tiny")
    assert done.exit_code == 2 and "was trained in" not in done.stderr


def test_data_from_another_file(call, spec_file, tmp_path):
    (tmp_path / "few.yaml").write_text("data: {source: digits, limit: {train: 24, test: 12}}\n")
    done = call("train", spec_file(), "--data", "few.yaml", "--epochs", 1, "--json")
    assert json.loads(done.stdout)["num_samples"] == 12
    done = call("evaluate", "runs/tiny", "--data", "few.yaml", "--split", "train", "--json")
    assert json.loads(done.stdout)["num_samples"] == 24


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX limits")
@pytest.mark.parametrize("limit", [6000, 20_000], ids=["checkpoint", "events"])
def test_a_full_disk_is_one_clear_error(spec_file, tmp_path, monkeypatch, limit):
    monkeypatch.chdir(tmp_path)
    code, said = in_child(train_with_files_of_at_most, limit, spec_file())
    assert code == 1
    assert said.count("error: ") == 1, said
    errors = said[said.index("error: ") :].splitlines()
    assert errors[0].startswith("error: cannot write to run: "), said
    assert len(errors) == 2, said


def train_with_files_of_at_most(size: int, spec: Path) -> tuple[int, str]:
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    words = ["train", str(spec), "--out", "run"]
    words += ["--set", "train.trackers=[tensorboard]", "--set", "train.epochs=500"]
    words += ["--set", "data.limit={train: 8, validation: 4, test: 4}"]
    done = CliRunner().invoke(command_line, words)
    return done.exit_code, done.stderr


def test_commands_import_no_torch():
    code = "import sys, nifbuild.cli.train, nifbuild.cli.evaluate, nifbuild.spec.training\n"
    code += "sys.exit(bool({'torch', 'accelerate', 'datasets'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_progress_of_a_terminal(resolve, tmp_path, monkeypatch):
    import io

    from rich.console import Console

    from nifbuild.machine.progress import reporter
    from nifbuild.train.run import train_run

    screen = Console(file=io.StringIO(), force_terminal=True, width=120, highlight=False)
    train_run(resolve("train.epochs=2"), tmp_path / "run", report=reporter(False, screen))
    shown = screen.file.getvalue()
    for word in ("epoch 2/2", "step", "loss", "% (loss", "img/s", "evaluating", "left"):
        assert word in shown


def test_table_leaves_out_many_classes():
    from rich.console import Console

    from nifbuild.report.show.units import duration_text
    from nifbuild.report.summary import summary

    per_class = [{"name": f"c{i}", "accuracy": None, "num_samples": 0} for i in range(21)]
    result = {
        "name": "big",
        "split": "test",
        "top1": 0.5,
        "top5": 0.75,
        "loss": 1.0,
        "calibration_error": 0.125,
        "num_samples": 1000,
        "per_class": per_class,
        "checkpoint": "step_00000001",
        "step": 1,
        "images_per_second": 10.0,
        "directory": "runs/a b",
    }
    console = Console(width=80)
    with console.capture() as capture:
        console.print(summary(result))
    assert "c1 " not in capture.get() and "and 21 more: --json has all" in capture.get()
    figures = [(0.5, 9), (0.25, 3), (None, 0), (0.25, 4)]
    for entry, (accuracy, count) in zip(per_class, figures, strict=False):
        entry |= {"accuracy": accuracy, "num_samples": count}
    with console.capture() as capture:
        console.print(summary(result))
    rows = [line.split("│")[1].strip() for line in capture.get().splitlines() if "│ c" in line]
    assert [name for name in rows if name in ("c0", "c1", "c2", "c3")] == ["c3", "c1", "c0"]
    assert "and 18 more" in capture.get()
    with console.capture() as capture:
        console.print(summary({**result, "per_class": per_class[:20], "selected": "last"}))
    assert "c19" in capture.get()
    assert "nifbuild evaluate 'runs/a b'" in capture.get()
    assert [duration_text(s) for s in (5.06, 245, 11040)] == ["5.1 s", "4 min 05 s", "3 h 04 min"]


def test_a_flag_and_another_value_of_the_same_exclude_each_other(call, spec_file):
    done = call("train", spec_file(), "--epochs", 1, "--set", "train.epochs=2")
    assert done.exit_code == 2
    assert "train.epochs=2 and train.epochs=1 (by a flag of its own) exclude" in done.stderr
