"""Predicted memory against what the allocator of a CUDA device hands out."""

from pathlib import Path

import pytest
import torch

from nifbuild import load_spec
from nifbuild.report.inspect.inspection import inspect_spec
from nifbuild.report.inspect.targets import Target
from nifbuild.report.inspect.verify import verify
from tests.test_every_spec import each_model

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    "spec", ["architectures/resnet18", "everywhere/resnet18", "architectures/convnext_tiny"]
)
def test_training_peak(spec, precision):
    """Large batches: beside them the libraries' workspaces, which are not predicted, are small."""
    inspection = inspect_spec(
        load_spec(f"specs/{spec}.yaml"), target=Target("cuda", precision), batch_sizes=[64, 128]
    )
    for found in verify(inspection):
        assert abs(found.error) < 0.05, found


@each_model()
def test_peaks_of_every_spec(path: Path) -> None:
    """In bf16, at the spec's own size: cuDNN's workspaces, which nobody predicts, come on top."""
    inspection = inspect_spec(load_spec(path), target=Target("cuda", "bf16"), batch_sizes=[64])
    (found,) = verify(inspection)
    workspace = (768 if path.stem == "vgg16_bn" else 160) * 2**20
    for predicted, measured in (
        (found.predicted_peak_bytes, found.measured_peak_bytes),
        (found.predicted_inference_bytes, found.measured_inference_bytes),
    ):
        assert measured - workspace <= 1.05 * predicted, found
        assert predicted <= 1.05 * measured, found
