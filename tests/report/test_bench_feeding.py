import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from nifbuild.errors import SpecError
from nifbuild.machine.device import accelerator_on
from nifbuild.machine.progress import Reporter
from nifbuild.report.bench.feeding import FeedRequest, Feeds, waiting_shares
from nifbuild.report.bench.report_tables import print_report
from nifbuild.runs.opened_data import load_images, open_for
from nifbuild.spec.resolve import load_spec

SPEC = """
version: 1
name: small
vars: {num_classes: 2}
input: {channels: 3, size: [8, 8]}
model: [global_avg_pool, flatten, {op: linear, out_features: $num_classes}]
data: {source: imagefolder, path: PATH, validation: 0, augment: {flip: 0.5}}
train: {batch_size: 4, accumulate: 2}
"""


@pytest.fixture
def spec(tmp_path):
    rng = np.random.default_rng(0)
    for at in range(26):
        path = tmp_path / "images" / "ab"[at % 2] / f"{at:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20 + at, 31, 3), dtype=np.uint8)).save(path)
    path = tmp_path / "small.yaml"
    path.write_text(SPEC.replace("PATH", str(tmp_path / "images")))
    return path


def test_all_ways_are_timed_in_turn(setting, spec, capsys):
    heard = []
    request = FeedRequest(replace(setting, seconds=300), spec, size=(6, 4), model_speed=1e9)
    report = request.measure(heard.append)
    assert heard[0] == "warm-up" and len(heard) == 1 + 2 * 4
    assert (report.batch, report.images, report.input_shape) == (4, 20, (3, 6, 4))
    document = json.loads(json.dumps(report.document()))
    assert document["report"] == "feeding"
    for name in ("core", "bare", "loader", "augment"):
        assert document[f"{name}_images_per_second"]["median"] > 0
    assert document["ratio"]["count"] == 2
    assert 0 <= document["waiting_share"]["median"] <= 1
    print_report(report)
    out = capsys.readouterr().out
    for words in ("images of small, 4 at once, at 3x6x4", "by a bare loop", "would wait"):
        assert words in out
    unasked = FeedRequest(setting, spec).measure()
    assert unasked.waiting_share is None
    print_report(unasked)
    assert "would wait" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "setting",
    ["resized_crop=[0.1, 1]", "resized_crop={scale: [0.9, 1], ratio: [3, 4]}", "flip=0"],
)
@pytest.mark.parametrize("more", ["input.channels=3", "input.channels=1", "data.resize=stretch"])
def test_both_loops_decode_to_the_same_pixels(spec, setting, more):
    settings = [f"data.augment.{setting}", more, "data.crop_share=0.8", "data.in_memory=false"]
    resolved = load_spec(spec, overrides=settings)
    with accelerator_on(torch.device("cpu"), precision="fp32") as accelerator:
        catalog, resolved = open_for(resolved)
        feeds = Feeds(
            resolved, load_images(catalog, resolved, accelerator, Reporter()), accelerator
        )
        assert torch.equal(feeds.core(), feeds.bare())
        assert feeds.images == 20


def test_the_share_of_waiting():
    assert waiting_shares([4.0, 1.0, 2.0], [1.0, 4.0, 2.0], overlap=True) == [0.75, 0, 0]
    assert waiting_shares([4.0, 1.0], [1.0, 4.0], overlap=False) == [0.8, 0.2]


def test_a_spec_without_data(setting, spec):
    lines = spec.read_text().splitlines()
    spec.write_text("\n".join(line for line in lines if not line.startswith("data")))
    with pytest.raises(SpecError, match="small has no images to decode"):
        FeedRequest(setting, spec).measure()


def test_fewer_images_than_a_batch(setting, spec):
    with pytest.raises(SpecError, match="a batch of 64 is more than the 21 training images"):
        FeedRequest(setting, spec, batch=64).measure()
