import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nifbuild.ablate.cells import Store
from nifbuild.cli.app import app

TINY = """
version: 1
name: tiny
vars: {width: 4, num_classes: 10}
input: {channels: 1, size: [8, 8]}
model:
  - {id: conv1, op: conv, out_channels: $width}
  - {id: bn1, op: batch_norm}
  - relu
  - {id: conv2, op: conv}
  - {id: bn2, op: batch_norm}
  - global_avg_pool
  - flatten
  - {id: fc, op: linear, out_features: $num_classes}
data: {source: digits, limit: {train: 64, test: 50}, validation: 0}
train:
  epochs: 2
  batch_size: 16
  optimizer: {lr: 0.02}
  trackers: []
  device: cpu
"""
STUDY = """
base: tiny.yaml
baseline: standard
matrix:
  filters:
    standard: {}
    implicit: {patch: [{match: conv2, set: {kind: implicit_frequency}, expect: 1}]}
seeds: [0, 1]
gates:
  - {metric: top1, versus: baseline, margin: -90pp}
  - {metric: params, max: 1M}
"""


ORIGIN = {"data": "d1", "init": None, "nifbuild": "0.1.0", "torch": "2.13", "code": "c1"}
ENVIRONMENT = {
    "device": "cpu", "device_name": "x", "threads": 1, "precision": "fp32", "git_commit": None,
    "packages": {"nifbuild": "0.1.0", "torch": "2.13.0+cpu"},
    "started": "2026-01-01T00:00:00+00:00",
}  # fmt: skip


def result_of(**figures):
    """All that a cell's result has to have; these figures are its own."""
    return {
        "spec_hash": "s1", "origin": ORIGIN, "weights": "w", "split": "test",
        "top1": 0.9, "top5": 1.0, "loss": 0.1, "num_samples": 1000, "train_images": 64, "epoch": 2,
        "checkpoint": "step_00000008", "seconds": 1.5, "effective_size": None,
        "effective_size_at_init": None, "layers": [], "environment": ENVIRONMENT, **figures,
    }  # fmt: skip


def write_study(folder: Path, text: str = STUDY, name: str = "study") -> Path:
    """The study beside its base."""
    (folder / "tiny.yaml").write_text(TINY)
    path = folder / f"{name}.yaml"
    path.write_text(text)
    return path


def done_cells(folder):
    """The cells of a folder that have figures."""
    return [cell for cell in Store(folder).cells() if cell.has_result]


def forget_looks(folder):
    """As if nothing had been shown of a study yet."""
    (folder / "looks.json").unlink(missing_ok=True)
    shutil.rmtree(folder / "report", ignore_errors=True)


def ablate(*arguments):
    """Calls the command in this process."""
    return CliRunner().invoke(app, ["ablate", *(str(a) for a in arguments)])


def document(*arguments):
    """What it prints with --json."""
    done = ablate(*arguments, "--json")
    assert done.exit_code in (0, 1, 3), done.output
    return json.loads(done.stdout)


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A study that has run, with a variant that failed: its file, its folder, what `run` said."""
    folder = tmp_path_factory.mktemp("finished")
    broken = "    broken: {train: {optimizer: {lr: 1.0e12}}}\n"
    study = write_study(folder, STUDY.replace("seeds:", broken + "seeds:"))
    said = ablate("run", study, "--dir", folder / "cells", "--workers", 2)
    return study, folder / "cells", said
