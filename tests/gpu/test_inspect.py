"""Predicted memory against what the allocator of a CUDA device hands out."""

import pytest
import torch

from nifbuild import load_spec
from nifbuild.report.inspect.inspection import inspect_spec
from nifbuild.report.inspect.targets import Target
from nifbuild.report.inspect.verify import verify

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
