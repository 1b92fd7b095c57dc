"""What a run leaves for people at its end, and that training does not notice."""

import base64
import html
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import nifbuild
from nifbuild.machine.progress import Reporter
from nifbuild.runs.directory import RunDirectory
from nifbuild.spec.resolve import load_spec
from nifbuild.train.run import train_run
from tests.tiny_runs import contents, photo_text, spec_text, without_times

MASKS = """
version: 1
name: masks
vars: {num_classes: 2}
input: {channels: 1, size: 12}
model: [{id: head, op: conv, kernel_size: 3, out_channels: $num_classes}]
data: {source: distant_mark, distance: 5, size: [12, 12], images: 40, augment: {crop: 3}}
train: {epochs: 1, batch_size: 8, trackers: [], device: cpu}
"""


class Heard(Reporter):
    """Keeps warnings, and calls something after each epoch."""

    def __init__(self, after=lambda: None):
        self.warnings, self.after = [], after

    def warning(self, text):
        self.warnings.append(text)

    def epoch(self, line):
        self.after()


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(spec_text(dropout=True))
    return tmp_path / "tiny.yaml"


def pictures(text):
    """The size of each picture of a page, by its heading."""
    found = re.findall(r'<img alt="([^"]*)" src="data:image/png;base64,([^"]+)"', text)
    return {name: Image.open(io.BytesIO(base64.b64decode(data))).size for name, data in found}


def rows(text):
    """The texts of each row of a page's tables."""
    found = re.findall(r"<tr>(.*?)</tr>", text)
    return [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in found]


def test_training_does_not_notice(tiny, tmp_path):
    settings = ["data.augment={crop: 1, mixup: 0.4}", "train.ema=0.9"]
    plain = train_run(load_spec(tiny, overrides=settings), tmp_path / "plain")
    told = nifbuild.train_spec(tiny, overrides=settings)
    assert str(contents(tmp_path / "plain")) == str(contents("runs/tiny"))
    ours, theirs = (without_times(run.document()) for run in (told, plain))
    assert ours == theirs
    assert not (tmp_path / "plain" / "report.html").exists()


def test_what_the_page_shows(tiny, tmp_path):
    result = nifbuild.train_spec(tiny)
    text = (tmp_path / "runs/tiny/report.html").read_text()
    assert list(pictures(text)) == ["Curves", "Worst mistakes", "Training images"]
    figures = {"top-1": f"{result.top1:.2%}", "loss": f"{result.loss:.4f}"}
    figures["parameters"] = f"{result.params:,}"
    assert all([name, value] in rows(text) for name, value in figures.items())
    assert "http" not in text.replace("<!doctype html>", "") and "<script" not in text
    shown = html.unescape(re.search("<pre>(.*?)</pre>", text, re.DOTALL)[1])
    assert shown == (tmp_path / "runs/tiny/spec.yaml").read_text().rstrip("\n")
    for each in result.per_class:
        assert f"<tr><td>{each.name}</td>" in text


def test_without_mistakes_none_are_shown(tmp_path, tiny):
    settings = ["train.epochs=1", "data.limit={train: 400, test: 1}"]
    for seed in range(30):
        done = nifbuild.train_spec(tiny, overrides=settings, seed=seed, overwrite=True)
        if done.top1 == 1:
            break
    assert done.top1 == 1
    text = (tmp_path / "runs/tiny/report.html").read_text()
    assert list(pictures(text)) == ["Curves", "Training images"]


def test_where_each_pixel_has_a_class(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "masks.yaml").write_text(MASKS)
    result = nifbuild.train_spec("masks.yaml")
    text = (tmp_path / "runs/masks/report.html").read_text()
    assert list(pictures(text)) == ["Curves", "Training images"]
    assert ["mean IoU", f"{result.miou:.2%}"] in rows(text)
    card = (tmp_path / "runs/masks/README.md").read_text()
    assert "pipeline_tag: image-segmentation" in card and "metrics: [mean_iou]" in card
    assert "gives each pixel a class" in card and "nifbuild predict" not in card
    code = re.search(r"```python\n(.*?)```", card, re.DOTALL)[1]
    monkeypatch.chdir("runs/masks")
    Image.fromarray(np.zeros((12, 12), np.uint8)).save("photo.jpg")
    names = {}
    exec(code, names)
    assert names["classes"].shape == (1, 12, 12)


def test_names_are_text(tmp_path, photos, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(photos, "photos")
    for split in ("train", "test"):
        (tmp_path / "photos" / split / "two").rename(tmp_path / "photos" / split / "<b>$x_1$")
    (tmp_path / "tiny.yaml").write_text(photo_text("photos"))
    nifbuild.train_spec("tiny.yaml", epochs=1)
    page = (tmp_path / "runs/tiny/report.html").read_text()
    assert "<b>" not in page and "<td>&lt;b&gt;$x_1$</td>" in page


@pytest.mark.parametrize("name", ["README.md", "report.html"])
def test_what_cannot_be_written_is_a_warning(tiny, tmp_path, name):
    block = tmp_path / "runs" / "tiny" / f".writing_{name}"
    heard = Heard(lambda: block.mkdir(exist_ok=True))
    result = nifbuild.train_spec(tiny, report=heard)
    assert result.top1 == json.loads((block.parent / "metrics.json").read_text())["top1"]
    other = {"README.md": "report.html", "report.html": "README.md"}[name]
    assert (block.parent / other).exists() and not (block.parent / name).exists()
    assert heard.warnings and all("could not be" in text for text in heard.warnings)


def test_what_fails_in_the_telling_is_a_warning(tiny, tmp_path):
    def fail(finished):
        raise ZeroDivisionError("something else")

    heard = Heard()
    result = train_run(load_spec(tiny), tmp_path / "run", report=heard, telling=fail)
    assert RunDirectory(tmp_path / "run").result()["top1"] == result.top1
    assert heard.warnings == [
        f"{tmp_path}/run is complete, but could not be described: something else"
    ]


def test_a_longer_run_tells_of_itself(tiny, tmp_path):
    nifbuild.train_spec(tiny, epochs=1)
    nifbuild.train_spec(tiny, epochs=2, resume=True)
    run = tmp_path / "runs/tiny"
    assert "2 epochs" in (run / "report.html").read_text()
    assert "  epochs: 2\n" in (run / "README.md").read_text()
    (run / "README.md").write_text("my notes")
    nifbuild.train_spec(tiny, epochs=3, resume=True)
    assert (run / "README.md").read_text() == "my notes"
    assert "3 epochs" in (run / "report.html").read_text()


def test_the_end_names_the_report_of_this_training_alone(tiny, cli):
    words = ("train", tiny, "--resume", "--out", "run")
    page = Path("run/report.html")
    assert f"\nreport: {page}\n" in cli(*words, "--epochs", 1).stdout
    page.write_text(page.read_text() + "my notes")
    told = " ".join(cli(*words, "--epochs", 2).stdout.split())
    assert f"report: {page}" not in told
    assert f"no report of this training: {page} was not made by nifbuild, or was changed" in told


def test_a_kill_before_the_card_loses_none(tiny, tmp_path):
    nifbuild.train_spec(tiny, epochs=1)
    card = tmp_path / "runs/tiny/README.md"
    text = card.read_text()
    card.unlink()
    (card.parent / ".writing_README.md").write_text("half of a")
    nifbuild.train_spec(tiny, epochs=1, resume=True)
    assert card.read_text() == text
    (card.parent / ".writing_report.html").write_text("half of a")
    nifbuild.train_spec(tiny, epochs=1, resume=True)
    assert not [path for path in card.parent.iterdir() if path.name.startswith(".")]


def test_overwriting_deletes_both(tiny, tmp_path):
    nifbuild.train_spec(tiny, epochs=1)
    RunDirectory("runs/tiny").create(overwrite=True)
    assert not (tmp_path / "runs/tiny/README.md").exists()
    assert not (tmp_path / "runs/tiny/report.html").exists()
