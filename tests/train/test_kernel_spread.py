import pytest
import torch

from nifbuild.errors import SpecError
from nifbuild.nn import GlobalConv2d
from nifbuild.runs.loaded import load_run
from nifbuild.train.run import train_run


def reach(directory):
    """Mean distance of the filters' mass from their centre, in pixels."""
    distances = []
    for layer in load_run(directory).model.modules():
        if isinstance(layer, GlobalConv2d):
            with torch.no_grad():
                mass = layer.spatial_kernel(8, 8, centered=True).abs()
            offsets = torch.arange(8.0) - 4
            radius = (offsets[:, None] ** 2 + offsets**2).sqrt()
            distances.append(((mass * radius).sum((1, 2)) / mass.sum((1, 2))).mean().item())
    return sum(distances) / len(distances)


def test_a_penalty_makes_filters_smaller(resolve, tmp_path):
    for weight in (0, 10):
        spec = resolve(f"train.kernel_spread={weight}", "train.epochs=8")
        train_run(spec, tmp_path / str(weight))
    assert reach(tmp_path / "10") < 0.7 * reach(tmp_path / "0")


def test_needs_a_filter_to_penalise(resolve, tmp_path):
    spec = resolve("train.kernel_spread=0.1", "model.3.kind=standard")
    with pytest.raises(SpecError, match="no filter of this model is as large as the image"):
        train_run(spec, tmp_path / "run")
