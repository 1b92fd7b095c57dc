"""What the tests of reports share."""

from pathlib import Path

import pytest
import torch

from nifbuild.report.bench.contenders import InputShape
from nifbuild.report.bench.crossover import Crossover
from nifbuild.report.bench.growth import GrowthReport, SizeFigures
from nifbuild.report.bench.layers import Failure, Figures, LayersReport, ShapeFigures
from nifbuild.report.bench.setting import Setting
from nifbuild.report.bench.step import StepFigures, StepReport
from nifbuild.report.measure import Quartiles
from nifbuild.spec.resolve import load_spec
from nifbuild.train.run import train_run

ENVIRONMENT = {
    "device": "cpu",
    "device_name": "Some CPU",
    "threads": 2,
    "packages": {"torch": "2.13.0"},
    "precision": "float32",
    "started": "2026-11-24T10:00:00+00:00",
}


@pytest.fixture
def setting() -> Setting:
    return Setting(torch.device("cpu"), repeats=2, seconds=0.0)


def quartiles(median: float, count: int = 5) -> Quartiles:
    return Quartiles(median, 0.9 * median, 1.1 * median, count)


def figures(name: str, label: str, ratio: float, count: int = 5) -> Figures:
    return Figures(
        name=name,
        label=label,
        num_parameters=10,
        forward_ms=quartiles(2 * ratio),
        forward_backward_ms=quartiles(6 * ratio),
        forward_ratio=quartiles(ratio + 1),
        forward_backward_ratio=quartiles(ratio, count),
        forward_floors=quartiles(20 * ratio),
        forward_backward_floors=quartiles(60 * ratio),
        peak_bytes=round(ratio * 3 * 2**20),
        saved_bytes=2**20,
    )


@pytest.fixture
def layers_report() -> LayersReport:
    """Made up: the published formula takes 2 and 8 times as long, a wide kernel 300 times."""
    layer = figures("implicit_frequency", "this layer", 1)
    wide = figures("depthwise-31", "depthwise 31x31", 12345.6, count=1)
    small, large = InputShape(2, 4, 8, 8), InputShape(32, 64, 56, 56)
    return LayersReport(
        ENVIRONMENT,
        "depthwise",
        (
            ShapeFigures(
                small,
                quartiles(0.0123),
                (layer, figures("published", "published", 2)),
                (Failure("depthwise-31", "depthwise 31x31", "out of memory"),),
                Crossover(None, 7, {3: quartiles(0.5), 5: quartiles(0.7), 7: quartiles(0.9)}),
            ),
            ShapeFigures(
                large,
                quartiles(1.5),
                (layer, figures("published", "published", 8), wide),
                (),
                Crossover(5, 55, {3: quartiles(0.5), 5: quartiles(1.5)}),
            ),
        ),
    )


@pytest.fixture
def growth_report() -> GrowthReport:
    return GrowthReport(
        ENVIRONMENT,
        tuple(
            SizeFigures(
                size=size,
                shape=InputShape(32, 2 * (64 // size) ** 2, size, size),
                forward_backward_ms=quartiles(100 * growth),
                growth=quartiles(growth),
                n_log_n_growth=growth + 0.1,
                floors=quartiles(30),
            )
            for size, growth in ((32, 1.0), (64, 1.25))
        ),
    )


@pytest.fixture
def step_report() -> StepReport:
    return StepReport(
        ENVIRONMENT,
        16,
        tuple(
            StepFigures(
                name=name,
                spec=f"specs/{name}.yaml",
                input_shape=(3, 32, 32),
                num_parameters=1000,
                step_ms=quartiles(200 * ratio),
                ratio=quartiles(ratio),
                peak_bytes=round(ratio * 2**22),
                saved_bytes=2**20,
            )
            for name, ratio in (("light", 1), ("heavy", 1.6))
        ),
    )


RUN_SPEC = """
version: 1
name: tiny
vars: {num_classes: 10}
input: {channels: 1, size: [8, 8]}
model:
  - {op: conv, out_channels: 6, kernel_size: 3}
  - {id: bn1, op: batch_norm}
  - relu
  - op: residual
    body: [{op: conv, kind: implicit_frequency, bias: false}]
  - {op: conv, out_channels: 8, stride: 2, kind: implicit_frequency, mixing: low_rank, rank: 4}
  - relu
  - {id: full, op: conv, kind: free_frequency, mixing: full, padding_mode: zeros}
  - {op: global_avg_pool}
  - {op: flatten}
  - {id: fc, op: linear, out_features: $num_classes}
data: {source: digits, limit: {train: 120, validation: 40, test: 50}}
train:
  epochs: 2
  batch_size: 20
  kernel_spread: 0.01
  optimizer: {name: adamw, lr: 0.02}
  schedule: {warmup_epochs: 0}
  trackers: []
  device: cpu
"""


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete run with three layers whose filters are as large as the image."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "tiny.yaml").write_text(RUN_SPEC)
    train_run(load_spec(folder / "tiny.yaml"), folder / "run")
    return folder / "run"
