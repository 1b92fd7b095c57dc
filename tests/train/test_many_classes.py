"""As many classes as ImageNet-21k has, from the data to the report."""

import json
import os
import resource
import sys
from pathlib import Path
from typing import Any

import datasets
import pytest
from typer.testing import CliRunner

from nifbuild.cli.app import app
from tests.children import in_child

CLASSES = 21_841
PEAK_BYTES = 2 * 2**30
"""A process that has loaded torch and its kin takes a third of it; all pairs of classes, twice."""

SPEC = """
version: 1
name: many
vars: {num_classes: 21841}
input: {channels: 1, size: 4}
model:
  - {id: conv, op: conv, out_channels: 4, kernel_size: 3}
  - relu
  - global_avg_pool
  - flatten
  - {id: fc, op: linear, out_features: $num_classes}
data:
  source: parquet
  files: {train: train.parquet, test: test.parquet}
  validation: 0.25
train: {epochs: 2, batch_size: 100, trackers: [], device: cpu, class_weights: balanced}
"""


def pgm(value: int) -> bytes:
    """An image of 4x4 pixels of one gray."""
    return b"P5 4 4 255\n" + bytes([value]) * 16


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Parquet files whose labels are any of so many classes, those of 500 tiny images."""
    names = [f"n{place:08d}" for place in range(CLASSES)]
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=names)}
    )
    labels = [place * (CLASSES - 1) // 499 for place in range(500)]
    for split, kept in (("train", labels * 2), ("test", labels[::2] + labels[-1:])):
        images = [{"bytes": pgm(label % 256), "path": None} for label in kept]
        rows = datasets.Dataset.from_dict({"image": images, "label": kept}, features=features)
        rows.to_parquet(tmp_path / f"{split}.parquet")
    (tmp_path / "many.yaml").write_text(SPEC)
    return tmp_path


def commands(folder: Path) -> tuple[list[tuple[int, str, str]], int]:
    """What each command ends with and prints, and the peak memory of this process in bytes."""
    datasets.config.HF_DATASETS_CACHE = folder / "cache"
    os.chdir(folder)
    evaluation = ("evaluate", "runs/many", "-q", "--confusion", "c.png", "--confusion", "c.csv")
    told = []
    for words in (("train", "many.yaml"), (*evaluation, "--json")):
        done = CliRunner().invoke(app, words)
        told.append((done.exit_code, done.stdout, done.stderr))
    unit = 1 if sys.platform == "darwin" else 1024
    return told, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def test_21841_classes_train_and_evaluate(data: Path) -> None:
    told, peak_bytes = in_child(commands, data)
    (code, shown, said), (other_code, printed, errors) = told
    assert (code, other_code) == (0, 0), said + errors
    assert peak_bytes < PEAK_BYTES
    assert "21,841 classes" in said
    metrics = json.loads((data / "runs" / "many" / "metrics.json").read_text())
    assert metrics["confusion_matrix"] is None
    assert len(metrics["per_class"]) == CLASSES
    assert sum(each["num_samples"] for each in metrics["per_class"]) == metrics["num_samples"]
    for line in ("the lowest of 21,841 classes", "and 21,831 more: --json has all"):
        assert line in shown
    assert "left out: confusion_matrix, as 21,841 classes are more than 1,000" in joined(shown)
    assert len(shown.splitlines()) < 50
    document: dict[str, Any] = json.loads(printed)
    same = ("top1", "top5", "loss", "per_class", "confusion_matrix", "left_out")
    assert [document[key] for key in same] == [metrics[key] for key in same]
    rows = [line.split(",") for line in (data / "c.csv").read_text().splitlines()]
    assert rows[0] == ["true", "predicted", "images"]
    assert sum(int(row[2]) for row in rows[1:]) == metrics["num_samples"]
    assert (data / "c.png").stat().st_size > 10_000


def joined(text: str) -> str:
    """Without the breaks of lines that a narrow terminal asks for."""
    return " ".join(text.split())
