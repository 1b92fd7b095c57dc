import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from nifbuild.spec.resolve import Resolved, load_spec
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


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def spec_file(tmp_path: Path) -> Callable[..., Path]:
    """Writes the tiny spec; `dropout` puts one before the last layer."""

    def write(*, dropout: bool = False) -> Path:
        path = tmp_path / "tiny.yaml"
        op = "{op: dropout, p: 0.3}" if dropout else "{op: identity}"
        path.write_text(SPEC.replace("DROPOUT", op))
        return path

    return write


@pytest.fixture
def resolve(spec_file: Callable[..., Path]) -> Callable[..., Resolved]:
    """The tiny spec with other values, as `--set` takes them."""

    def load(*overrides: str, dropout: bool = False) -> Resolved:
        return load_spec(spec_file(dropout=dropout), overrides=overrides)

    return load


@pytest.fixture(scope="session")
def two_epochs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the tiny spec for two epochs; not to be changed."""
    folder = tmp_path_factory.mktemp("two_epochs")
    (folder / "tiny.yaml").write_text(SPEC.replace("DROPOUT", "{op: identity}"))
    train_run(load_spec(folder / "tiny.yaml", overrides=["train.epochs=2"]), folder / "run")
    return folder / "run"


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of image files of the digits 0, 1 and 2, wider than high: 60 train, 23 test."""
    root = tmp_path_factory.mktemp("photos")
    digits, noise = load_digits(n_class=3), np.random.RandomState(0)
    for i, (scan, digit) in enumerate(zip(digits.images[:83], digits.target, strict=False)):
        pixels = noise.randint(0, 17, (8, 12))
        pixels[:, 2:10] = scan
        name = ("zero", "one", "two")[digit]
        path = root / ("train" if i < 60 else "test") / name / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.rint(pixels * 255 / 16).astype(np.uint8)).save(path)
    return root


@pytest.fixture(scope="session")
def photo_run(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the tiny spec on these photos; not to be changed."""
    folder = tmp_path_factory.mktemp("photo_run")
    spec = folder / "tiny.yaml"
    data = f"data: {{source: imagefolder, path: {photos}, validation: 0}}"
    text = SPEC.replace("DROPOUT", "{op: identity}").replace("num_classes: 10", "num_classes: 3")
    lines = [data if line.startswith("data:") else line for line in text.splitlines()]
    spec.write_text("\n".join(lines))
    train_run(load_spec(spec, overrides=["train.epochs=6"]), folder / "run")
    return folder / "run"


Command = Callable[..., "subprocess.CompletedProcess[str]"]
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def child_environment() -> dict[str, str]:
    """Of a child process: this one's, without what a launcher or a terminal would add."""
    drop = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_PORT", "FORCE_COLOR")
    kept = {key: value for key, value in os.environ.items() if key not in drop}
    return {**kept, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}


@pytest.fixture
def start(tmp_path: Path, child_environment: dict[str, str]) -> Start:
    """Starts the command in the background, in the temporary directory."""

    def run(*arguments: Any) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "nifbuild", *map(str, arguments)],
            cwd=tmp_path,
            env=child_environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    return run


@pytest.fixture
def nifbuild(start: Start) -> Command:
    """Runs the command in a process of its own, to its end."""

    def run(*arguments: Any) -> "subprocess.CompletedProcess[str]":
        process = start(*arguments)
        stdout, stderr = process.communicate(timeout=100)
        return subprocess.CompletedProcess(arguments, process.returncode, stdout, stderr)

    return run
