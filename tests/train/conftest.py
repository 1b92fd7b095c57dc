import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from nifbuild.spec.resolve import Resolved, load_spec

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
