"""The classes of image files."""

import csv
import json
import math
import shutil

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from nifbuild import evaluate_run
from nifbuild.cli.output import guard
from nifbuild.cli.predict import predict
from nifbuild.errors import RunError, SpecError
from nifbuild.evaluate.predict import predict_images


@pytest.fixture
def call(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    app = typer.Typer()
    app.command()(guard(predict, lambda: False))
    return lambda *arguments: CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def mixed(photos, tmp_path):
    """Two photos, one of them in a folder within, and what is none."""
    folder = tmp_path / "mixed"
    (folder / "inner").mkdir(parents=True)
    first, second = sorted((photos / "test" / "zero").glob("*.png"))[:2]
    shutil.copy(first, folder / "b.png")
    shutil.copy(second, folder / "inner" / "a.png")
    (folder / "a.png").write_text("no image")
    (folder / "cut.png").write_bytes(first.read_bytes()[:60])
    (folder / "notes.txt").write_text("not looked at")
    return folder


@pytest.mark.parametrize("size", [(8, 8), (13, 12)])
def test_accuracy_and_loss_are_those_of_the_evaluation(photos, photo_run, size):
    result = evaluate_run(photo_run, size=size).only.document()
    found = predict_images(photo_run, [photos / "test"], top=3, size=size, batch_size=5)
    files = sorted((photos / "test").glob("*/*.png"))
    assert [prediction.image for prediction in found] == [str(file) for file in files]
    right, loss = 0, 0.0
    for file, prediction in zip(files, found, strict=True):
        (first, _), *_ = prediction.classes
        right += first == file.parent.name
        loss -= math.log(dict(prediction.classes)[file.parent.name])
        shares = [share for _, share in prediction.classes]
        assert shares == sorted(shares, reverse=True)
        assert math.fsum(shares) == pytest.approx(1, abs=1e-12)
    assert right / len(files) == result["top1"]
    assert loss / len(files) == pytest.approx(result["loss"], rel=1e-12)


def test_what_cannot_be_read_is_named_and_the_rest_predicted(call, photo_run, mixed):
    done = call(photo_run, mixed, "nowhere.png", "--top", 2, "-q")
    assert done.exit_code == 1
    failed = ("a.png: cannot be read: cannot identify", "cut.png: cannot be read: image file is")
    for words in (*failed, "nowhere.png: there is no such file"):
        assert words in done.stderr
    assert done.stderr.endswith("3 of 5 images could not be predicted\n")
    assert "notes" not in done.stdout
    assert "left out: 1 file whose suffix is no image's (1 .txt), such as" in done.stderr
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in done.stdout.splitlines()]
    rows = [row for row in cells if row]
    assert len(rows) == 4 and all(row[2].endswith("%") for row in rows)
    for prediction in predict_images(photo_run, [mixed / "b.png"], top=2):
        assert [name for name, _ in prediction.classes] == [row[1] for row in rows[:2]]


def test_json_and_csv(call, photo_run, mixed, tmp_path):
    done = call(photo_run, mixed, "--json", "--csv", "p.csv", "--top", 9, "-q")
    assert done.exit_code == 1
    document = json.loads(done.stdout)
    assert (document["num_images"], document["num_failed"]) == (4, 2)
    names = ["a.png", "b.png", "cut.png", "inner/a.png"]
    entries = {entry["image"]: entry for entry in document["predictions"]}
    assert list(entries) == [str(mixed / name) for name in names]
    assert [bool(entry["error"]) for entry in entries.values()] == [True, False, True, False]
    ranked = {
        prediction.image: [{"name": name, "probability": p} for name, p in prediction.classes]
        for prediction in predict_images(photo_run, [mixed / n for n in names], top=3)
    }
    assert {name: entry["classes"] for name, entry in entries.items()} == ranked
    assert len(ranked[str(mixed / "b.png")]) == 3  # all there are
    with (tmp_path / "p.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row, entry in zip(rows, entries.values(), strict=True):
        assert row["image"] == entry["image"]
        assert row["error"] == (entry["error"] or "")
        for rank, found in enumerate(entry["classes"], 1):
            assert row[f"class_{rank}"] == found["name"]
            assert float(row[f"probability_{rank}"]) == found["probability"]


def test_nothing_to_predict(call, photo_run, tmp_path):
    (tmp_path / "empty").mkdir()
    done = call(photo_run, "nowhere.png", "empty")
    assert done.exit_code == 2
    assert "nowhere.png: there is no such file" in done.stderr
    assert "empty: the folder has no image" in done.stderr
    assert call(photo_run).exit_code == 2


def test_options_are_checked_and_have_their_effects(call, photo_run, mixed):
    image = mixed / "b.png"
    for options, words in (
        (("--size", "8,9"), "'8,9' is more than one size"),
        (("--csv", "table.txt"), "'table.txt' names no known format"),
        (("--device", "cuda:77"), "'cuda:77' is not available"),
    ):
        done = call(photo_run, image, *options)
        assert done.exit_code == 2 and words in done.stderr
    plain = json.loads(call(photo_run, image, "--json").stdout)["predictions"]
    options = ("--size", 14, "--checkpoint", "last", "--batch-size", 1, "--device", "cpu")
    other = json.loads(call(photo_run, image, *options, "--json").stdout)["predictions"]
    assert len(plain[0]["classes"]) == len(other[0]["classes"]) == 1
    assert plain != other


def test_images_of_another_kind_are_converted(photo_run, tmp_path):
    gray = Image.linear_gradient("L").resize((10, 8))
    gray.save(tmp_path / "gray.png")
    gray.convert("RGB").save(tmp_path / "colour.png")
    one, other = predict_images(photo_run, sorted(tmp_path.glob("*.png")), top=3)
    assert one.classes == other.classes and one.classes


def test_the_checkpoint_is_the_named_one(photo_run, mixed, tmp_path):
    with pytest.raises(SpecError, match="is not a run directory"):
        predict_images(tmp_path, [mixed])
    copy = shutil.copytree(photo_run, tmp_path / "copy")
    with pytest.raises(SpecError, match=f"name one of the runs in it: {copy}$"):
        predict_images(tmp_path, [mixed])
    best = {"checkpoint": "step_9", "step": 9, "epoch": 1, "figure": 0.5}
    (copy / "best.json").write_text(json.dumps(best))
    (found,) = predict_images(copy, [mixed / "b.png"], checkpoint="last")
    assert found.classes
    with pytest.raises(RunError, match=r"although best\.json names it"):
        predict_images(copy, [mixed / "b.png"], checkpoint="best")
