"""A run's model on other images, at other sizes, on several processes."""

import csv
import json
import shutil
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
import torch.nn.functional as F
import typer
from PIL import Image
from typer.testing import CliRunner

from nifbuild import evaluate_run, export, predict
from nifbuild.cli.evaluate import evaluate
from nifbuild.cli.output import guard
from nifbuild.errors import SpecError
from nifbuild.evaluate import evaluator
from nifbuild.evaluate.sizes import parse_sizes, require_takes
from nifbuild.machine.progress import Reporter
from nifbuild.runs.directory import RunDirectory
from nifbuild.runs.loaded import load_run
from nifbuild.spec.resolve import load_spec
from nifbuild.train.run import train_run
from tests.tiny_runs import photo_text, trained

FIGURES = ("top1", "top5", "loss", "calibration_error", "per_class", "confusion_matrix")
CLASSES = ["one", "two", "zero"]


class Warnings(Reporter):
    def __init__(self):
        self.heard, self.notes = [], []

    def note(self, text):
        self.notes.append(text)

    def warning(self, text):
        self.heard.append(text)


@pytest.fixture
def call(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    app = typer.Typer()
    app.command()(guard(evaluate, lambda: False))
    return lambda *arguments: CliRunner().invoke(app, [str(a) for a in arguments])


def figures(result):
    return {key: result[key] for key in FIGURES}


def naive(run, files, height, width):
    """Accuracy and loss, image by image: the photo resized by Pillow, and its centre."""
    trained = load_run(run)
    right, losses = 0, []
    for file in files:
        image = Image.open(file)  # half as wide again as it is high
        whole = (int(height * 12 / 8), height)
        left = round((whole[0] - width) / 2)
        image = image.resize(whole, Image.Resampling.BILINEAR)
        image = image.crop((left, 0, left + width, height))
        pixels = torch.from_numpy(np.array(image)).float()[None, None] / 255
        with torch.no_grad():
            logits = trained.model((pixels - trained.mean) / trained.std)
        label = torch.tensor([CLASSES.index(file.parent.name)])
        right += int(logits.argmax() == label)
        losses.append(F.cross_entropy(logits.double(), label).item())
    return right / len(files), sum(losses) / len(files)


@pytest.mark.parametrize("kind", ["implicit_frequency", "free_frequency"])
def test_sizes_equal_a_naive_loop(photos, photo_run, tmp_path, kind):
    run = photo_run
    if kind == "free_frequency":
        settings = ("model.3.kind=free_frequency", "model.3.mixing=depthwise")
        settings = (*settings, "model.0.out_channels=8", "model.3.groups=8", "train.epochs=2")
        run = tmp_path / "run"
        train_run(load_spec(photo_run.parent / "tiny.yaml", overrides=settings), run)
    sizes = [(8, 8), (13, 13), (8, 12)]
    results = [r.document() for r in evaluate_run(run, size=sizes).results]
    files = sorted((photos / "test").glob("*/*.png"))
    for size, result in zip(sizes, results, strict=True):
        top1, loss = naive(run, files, *size)
        assert (result["size"], result["num_samples"]) == (list(size), 23)
        assert result["top1"] == top1
        assert result["loss"] == pytest.approx(loss, rel=1e-5)
    assert len({result["loss"] for result in results}) == 3
    assert figures(results[0]) == figures(RunDirectory(run).result())
    assert figures(evaluate_run(run).only.document()) == figures(results[0])
    # Weights stay those of the run where other data wants another size.
    (tmp_path / "other.yaml").write_text(
        f"data: {{source: imagefolder, path: {photos}, size: [12, 12]}}\n"
    )
    assert load_run(run, data=tmp_path / "other.yaml").resolved.spec.input.size == (12, 12)


def test_every_image_of_the_data(photos, photo_run, tmp_path):
    """Of several splits, and of a folder that has none, where some are evaluated else."""

    class Notes(Reporter):
        heard = ""

        def note(self, text):
            self.heard += text

        def warning(self, text):
            self.heard += f"warning: {text}"

    for folder, pattern in ((photos, "*/*/*.png"), (photos / "test", "*/*.png")):
        files = sorted(folder.glob(pattern))
        found = evaluate_run(photo_run, data=folder, split="all", csv=tmp_path / "all.csv").only
        with (tmp_path / "all.csv").open() as file:
            assert sorted(row["image"] for row in csv.DictReader(file)) == [str(f) for f in files]
        (tmp_path / "all.csv").unlink()
        top1, loss = naive(photo_run, files, 8, 8)
        assert (found.split, found.num_samples, found.top1) == ("all", len(files), top1)
        assert found.loss == pytest.approx(loss, rel=1e-5)
    notes = Notes()
    part = evaluate_run(photo_run, data=photos / "test", report=notes).only
    assert 0 < part.num_samples < len(files)
    assert f"{part.num_samples} of the {len(files)} images" in notes.heard
    assert "--split all" in notes.heard
    notes.heard = ""
    evaluate_run(photo_run, report=notes)
    assert "--split" not in notes.heard and "warning" not in notes.heard
    evaluate_run(photo_run, split="all", report=notes)
    assert "warning: 60 of the 83 images are those that the run was trained on" in notes.heard


MODEL = """
version: 1
name: sized
input: {channels: 1, size: [8, 8]}
model:
  - {id: conv1, op: conv, out_channels: 4, kernel_size: 3, stride: 2}
  - {id: pool, op: max_pool, kernel_size: 2}
  - {op: residual, id: res, shortcut: auto, body: [{op: conv, out_channels: 4, stride: 2}]}
  - HEAD
  - flatten
  - {id: act, op: relu}
  - {id: fc, op: linear, out_features: 3}
"""


def test_a_size_that_the_model_cannot_take_names_the_module(tmp_path):
    (tmp_path / "m.yaml").write_text(MODEL.replace("HEAD", "identity"))
    resolved = load_spec(tmp_path / "m.yaml")
    require_takes(resolved, [(8, 8), (5, 7)])  # 1x1 before flatten, as at 8x8
    with pytest.raises(SpecError) as caught:
        require_takes(resolved, [(8, 8), (32, 16), (2, 2)])
    large, small = caught.value.problems
    assert (large.path, large.where.line, large.code) == ("fc", 12, "shape")
    assert large.what == (
        "images of 32x16 do not fit: linear has weights for an input of 4, and gets 32"
    )
    assert (small.path, small.where.line) == ("pool", 7)
    assert small.what.startswith("images of 2 do not fit: the 2x2 window is larger")
    (tmp_path / "m.yaml").write_text(MODEL.replace("HEAD", "global_avg_pool"))
    require_takes(load_spec(tmp_path / "m.yaml"), [(8, 8), (32, 16)])


@pytest.mark.parametrize("text", ["", "8,", "0", "-3", "8x", "8x8x8", "eight"])
def test_what_is_no_size(text):
    with pytest.raises(SpecError, match=r"is no size\n.*--size 32,48,64"):
        parse_sizes(text)
    assert parse_sizes("8, 8x9,16,8x8") == ((8, 8), (8, 9), (16, 16))


def test_a_run_in_a_precision_that_the_device_lacks(photos, tmp_path, monkeypatch):
    """As one that a GPU trained in float16, on a CPU; here one without bfloat16 is made believe."""
    run = trained(tmp_path, photo_text(photos), "train.precision=bf16", "train.epochs=1")
    in_bf16 = evaluate_run(run).only
    none = SpecError("no bf16")
    monkeypatch.setattr(
        evaluator, "lacks", lambda _, precision: none if precision != "fp32" else None
    )
    report = Warnings()
    in_fp32 = evaluate_run(run, report=report).only
    assert (in_bf16.precision, in_fp32.precision) == ("bf16", "fp32")
    assert in_fp32.loss != in_bf16.loss
    assert in_fp32.loss == pytest.approx(in_bf16.loss, rel=0.02)
    assert "computed in fp32, as there is no bf16 here, in which it was trained" in report.notes
    assert predict(run, [photos], report=report).document()
    assert export(run, output=tmp_path / "model.safetensors")


def test_the_same_classes_in_another_order(photos, photo_run, tmp_path):
    """The test photos from Parquet files, whose class names come in another order."""
    names = ["zero", "one", "two"]
    for split in ("train", "test"):
        files = sorted((photos / split).glob("*/*.png"))
        features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=names)}
        columns = {
            "image": [{"bytes": file.read_bytes(), "path": None} for file in files],
            "label": [names.index(file.parent.name) for file in files],
        }
        rows = datasets.Dataset.from_dict(columns, features=datasets.Features(features))
        rows.to_parquet(tmp_path / f"{split}.parquet")
    data = tmp_path / "data.yaml"
    files = ", ".join(f"{split}: {tmp_path / split}.parquet" for split in ("train", "test"))
    data.write_text(f"data: {{source: parquet, files: {{{files}}}, size: [12, 12]}}\n")
    heard = Warnings()
    result = evaluate_run(photo_run, data=data, size=(8, 8), report=heard).only.document()
    assert figures(result) == figures(RunDirectory(photo_run).result())
    assert result["data"] == str(data)
    assert heard.heard == [
        "the data has the run's classes in another order; they are matched by name"
    ]
    assert evaluate_run(photo_run, data=data).only.size == (12, 12)  # what the data wants
    assert evaluate_run(photo_run, data=data, split="train").only.num_samples > 40


def test_some_of_the_classes(photos, photo_run, tmp_path):
    for name in ("zero", "two"):
        shutil.copytree(photos / "test" / name, tmp_path / "few" / name)
    data = tmp_path / "data.yaml"
    data.write_text(
        f"data: {{source: imagefolder, path: {tmp_path}/few, test: 0, validation: 0}}\n"
    )
    heard = Warnings()
    found = evaluate_run(photo_run, data=data, report=heard).only.document()
    assert found["split"] == "train"
    own = evaluate_run(photo_run).only.document()
    assert found["confusion_matrix"] == [[0, 0, 0], *own["confusion_matrix"][1:]]
    assert [entry["name"] for entry in found["per_class"]] == CLASSES
    assert found["per_class"] == [
        {"name": "one", "accuracy": None, "num_samples": 0},
        *own["per_class"][1:],
    ]
    assert found["top1"] == naive(photo_run, sorted((tmp_path / "few").glob("*/*.png")), 8, 8)[0]
    assert heard.heard == [
        "the data has 2 of the run's 3 classes, matched by name; the model still chooses among all "
        "of its own"
    ]


def test_classes_that_the_run_did_not_learn_are_listed(photos, photo_run, tmp_path):
    for name, copy in (("zero", "zero"), ("two", "tow"), ("one", "three")):
        shutil.copytree(photos / "test" / name, tmp_path / "odd" / copy)
    data = tmp_path / "data.yaml"
    data.write_text(f"data: {{source: imagefolder, path: {tmp_path}/odd}}\n")
    with pytest.raises(SpecError) as caught:
        evaluate_run(photo_run, data=data)
    (problem,) = caught.value.problems
    assert problem.what == "the data has classes that the run did not learn: 'three', 'tow'"
    assert problem.fix == ("did you mean 'two'?\nclasses of the run: 'one', 'two', 'zero'")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: {epochs: 3}\n", "no `data` section"),
        ("data: {source: digits}\ntrain: {}\n", "'train' has no place in a data file"),
        ("data: {source: digits, limt: 3}\n", "unknown field 'limt'"),
    ],
)
def test_what_is_no_data_file(photo_run, tmp_path, text, message):
    (tmp_path / "data.yaml").write_text(text)
    with pytest.raises(SpecError, match=message):
        evaluate_run(photo_run, data=tmp_path / "data.yaml")


def test_the_commands_sizes(call, photo_run):
    own = RunDirectory(photo_run).result()
    done = call(photo_run, "--size", "8,8x12", "-q")
    assert done.exit_code == 0, done.output
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in done.stdout.splitlines()]
    rows = [row for row in rows if row]
    assert [row[0] for row in rows] == ["8", "8x12"]
    shown = [f"{own['top1']:.2%}", f"{own['loss']:.4f}", f"{own['calibration_error']:.2%}"]
    assert rows[0][1:4] == shown
    assert "top-5" not in done.stdout  # of three classes all are among the first five
    assert "23 images" in done.stdout
    (only,) = json.loads(call(photo_run, "--size", 8, "--json", "-q").stdout)
    assert figures(only) == figures(own)
    assert call(photo_run, "--size", "8;9").exit_code == 2
    assert call(photo_run, "--size", "1").exit_code == 0


def test_the_confusion_matrix_goes_to_files(call, photo_run, tmp_path):
    names = ["c.png", "c.svg", "c.pdf", "c.csv"]
    options = [word for name in names for word in ("--confusion", name)]
    done = call(photo_run, *options, "--json", "-q")
    assert done.exit_code == 0, done.output
    matrix = json.loads(done.stdout)["confusion_matrix"]
    with (tmp_path / "c.csv").open() as file:
        head, *rows = csv.reader(file)
    assert head[1:] == [row[0] for row in rows] == CLASSES
    assert [[int(cell) for cell in row[1:]] for row in rows] == matrix
    with Image.open(tmp_path / "c.png") as picture:
        assert picture.width > 400
    assert (tmp_path / "c.svg").read_text().startswith("<?xml")
    assert (tmp_path / "c.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--confusion", "c.jpg"), "'c.jpg' names no known format"),
        (("--confusion", "no/c.csv"), "cannot write to no/c.csv"),
        (("--confusion", "c.csv", "--size", "8,9"), "--confusion is for one size"),
    ],
)
def test_a_confusion_matrix_that_cannot_be_written(call, photo_run, options, message):
    done = call(photo_run, *options)
    assert done.exit_code == 2 and message in done.stderr
    assert not Path("c.csv").exists()


def test_two_processes_give_the_same_figures(nifbuild, photo_run, tmp_path):
    """To the last digit, at 23 images in batches of 10; all options reach the processes."""
    options = ("--processes", 2, "--batch-size", 10, "--size", 12, "--split", "test", "-q")
    options += (
        "--checkpoint",
        "last",
        "--confusion",
        "c.csv",
        "--csv",
        "two.csv",
        "--device",
        "cpu",
        "--json",
    )
    done = nifbuild("evaluate", photo_run, *options)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    (found,) = json.loads(done.stdout)
    one = tmp_path / "one.csv"
    expected = evaluate_run(photo_run, size=(12, 12), batch_size=10, csv=one).only.document()
    assert (tmp_path / "two.csv").read_text() == one.read_text()
    assert (found["num_samples"], found["size"]) == (23, [12, 12])
    assert figures(found) == figures(expected)
    assert (tmp_path / "c.csv").exists()
