"""Images that change under a run."""

import numpy as np
import pytest
from PIL import Image

from nifbuild.errors import InterruptedRun, SpecError
from nifbuild.runs.directory import RunDirectory
from nifbuild.train.run import train_run
from tests.tiny_runs import Stop


@pytest.fixture
def images(tmp_path):
    """Two classes with 20 images each."""
    rng = np.random.default_rng(0)
    for label in ("a", "b"):
        (tmp_path / "images" / label).mkdir(parents=True)
        for i in range(20):
            pixels = rng.integers(0, 255, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / label / f"{i:02}.png")
    return tmp_path / "images"


def test_a_data_set_that_changed_since_the_checkpoint(resolve, images, tmp_path):
    fields = f"source: imagefolder, path: {images}, validation: 0, test: 0"
    resolved = resolve(f"data={{{fields}}}")
    with pytest.raises(InterruptedRun):
        train_run(resolved, tmp_path / "run", report=Stop(at_step=2))
    first = images / "a" / "00.png"
    before = first.read_bytes()
    first.write_bytes((images / "b" / "00.png").read_bytes())
    with pytest.raises(SpecError, match="the data's fingerprint has changed since the run"):
        train_run(resolved, tmp_path / "run", resume=True)
    assert [path.name for path in RunDirectory(tmp_path / "run").checkpoints] == ["step_00000002"]
    first.write_bytes(before)
    train_run(resolved, tmp_path / "run", resume=True)
