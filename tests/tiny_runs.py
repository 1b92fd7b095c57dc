"""A run that takes a quarter of a second, how to interrupt it, and what two of them have in common.

The fixtures of `conftest.py` write and train it.
"""

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits

from nifbuild.machine.progress import Reporter
from nifbuild.runs.directory import RunDirectory
from nifbuild.spec.resolve import load_spec
from nifbuild.train.run import train_run

SPEC = """
version: 1
name: tiny
vars: {num_classes: 10}
input: {channels: 1, size: [8, 8]}
model:
  - {id: conv1, op: conv, out_channels: 6, kernel_size: 3}
  - {id: bn1, op: batch_norm}
  - relu
  - {id: conv2, op: conv, out_channels: 8, kernel_size: 3, kind: implicit_frequency}
  - {id: bn2, op: batch_norm}
  - relu
  - {op: global_avg_pool}
  - {op: flatten}
  - DROPOUT
  - {id: fc, op: linear, out_features: $num_classes}
data: {source: digits, limit: {train: 40, validation: 21, test: 17}}
train:
  epochs: 3
  batch_size: 8
  optimizer: {name: adamw, lr: 0.01}
  trackers: []
  device: cpu
"""

TIMES = (
    "seconds",
    "train_images_per_second",
    "data_wait_share",
    "images_per_second",
    "directory",
)


def spec_text(*, dropout: bool = False) -> str:
    """The spec; `dropout` puts one before the last layer."""
    return SPEC.replace("DROPOUT", "{op: dropout, p: 0.3}" if dropout else "{op: identity}")


def photo_text(folder: str | Path, fields: str = "") -> str:
    """The spec on photos in a folder, as of `write_photos`; `fields` are more of its `data`."""
    text = spec_text().replace("num_classes: 10", "num_classes: 3")
    data = f"data: {{source: imagefolder, path: {folder}, {fields}}}"
    lines = [data if line.startswith("data:") else line for line in text.splitlines()]
    return "\n".join(lines) + "\n"


def trained(folder: Path, text: str, *overrides: str) -> Path:
    """The directory of a complete run of a spec."""
    (folder / "tiny.yaml").write_text(text)
    train_run(load_spec(folder / "tiny.yaml", overrides=overrides), folder / "run")
    return folder / "run"


def write_photos(root: Path) -> Path:
    """The digits 0, 1 and 2 as image files, wider than high, in a folder for each class."""
    digits, noise = load_digits(n_class=3), np.random.RandomState(0)
    for i, (scan, digit) in enumerate(zip(digits.images[:83], digits.target, strict=False)):
        pixels = noise.randint(0, 17, (8, 12))
        pixels[:, 2:10] = scan
        name = ("zero", "one", "two")[digit]
        path = root / ("train" if i < 60 else "test") / name / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.rint(pixels * 255 / 16).astype(np.uint8)).save(path)
    return root


class Stop(Reporter):
    """Sends this process a signal in the middle of a run."""

    def __init__(self, at_step=None, at_batch=None, number=signal.SIGTERM):
        self.at_step, self.at_batch, self.number, self.batches = at_step, at_batch, number, 0

    def step(self, step, loss, images_per_second, memory):
        if step == self.at_step:
            os.kill(os.getpid(), self.number)

    def batch(self):
        self.batches += 1
        if self.batches == self.at_batch:
            os.kill(os.getpid(), self.number)


def without_times(document: dict[str, Any]) -> dict[str, Any]:
    """Figures that are the same in two equal runs."""
    return {key: value for key, value in document.items() if key not in TIMES}


def best_of(run: RunDirectory) -> Any:
    """What best.json says; None without one."""
    path = run.path / "best.json"
    return json.loads(path.read_text()) if path.exists() else None


def contents(directory):
    """All that two equal runs share, bit for bit."""
    run = RunDirectory(directory)
    weights = {
        f"{path.name}/{file.name}": file.read_bytes()
        for path in run.checkpoints
        for file in path.glob("*.safetensors")
    }
    states = {
        path.name: torch.load(path / "optimizer.pt", weights_only=True) for path in run.checkpoints
    }
    lines = [without_times(line) for line in run.metrics()]
    return weights, str(states), lines, best_of(run)


def losses(directory):
    """The mean training loss of each epoch."""
    return [line["train_loss"] for line in RunDirectory(directory).metrics()]
