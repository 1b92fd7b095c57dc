"""Parts of images that are cut where they are decoded: the same whoever decodes, and when."""

import contextlib
import hashlib
import json
import warnings

import pytest
import torch

from nifbuild.data.batches import epoch_batches, training_batches, training_images
from nifbuild.errors import InterruptedRun
from nifbuild.machine import processes
from nifbuild.machine.device import accelerator_on
from nifbuild.machine.progress import Reporter
from nifbuild.runs.directory import RunDirectory
from nifbuild.runs.opened_data import load_images, open_for
from nifbuild.spec.resolve import load_spec
from nifbuild.train.run import train_run
from tests.children import in_child, in_children
from tests.tiny_runs import Stop, contents, losses, spec_text

CORES = 6
"""As if there were so many processors, so that two processes may have three workers each."""


@pytest.fixture
def spec(photos, tmp_path):
    """The tiny spec on photos, of which it sees parts; 60 to train on."""
    data = f"data: {{source: imagefolder, path: {photos}, validation: 0, interpolation: bicubic,"
    data += " augment: {resized_crop: [0.2, 1]}}"
    text = spec_text().replace("num_classes: 10", "num_classes: 3")
    lines = [data if line.startswith("data:") else line for line in text.splitlines()]
    path = tmp_path / "crops.yaml"
    path.write_text("\n".join(lines))
    return path


def many_cores():
    processes.available_cores = lambda: CORES
    # PyTorch counts for itself, and finds more workers than processors here.
    warnings.filterwarnings("ignore", message="This DataLoader will create")


def seen(path, workers, done):
    """For two epochs the hash of each image as it comes out of the loader: (place, hash), in order.

    The first batches of the first epoch are left out, as by a run that goes on from there.
    """
    many_cores()
    resolved = load_spec(path, overrides=[f"data.workers={workers}", "train.batch_size=12"])
    found = []
    with accelerator_on(torch.device("cpu"), precision="fp32") as accelerator:
        catalog, resolved = open_for(resolved)
        data = load_images(catalog, resolved, accelerator, Reporter())
        images = training_images(data, resolved)
        assert data.workers_for(images) == workers
        batches = training_batches(images, resolved.spec.train, workers, accelerator)
        for epoch in (3, 4):
            skipped = done if epoch == 3 else 0
            for batch in epoch_batches(batches, epoch, skipped, accelerator):
                for place, image in zip(batch["index"], batch["images"], strict=True):
                    text = hashlib.sha256(image.numpy().tobytes()).hexdigest()
                    found.append((epoch, int(place), text))
    return found


def test_whoever_decodes_sees_the_same_parts(spec):
    alone = in_child(seen, spec, 0, 0)
    assert len(alone) == len(set(alone)) == 2 * 60
    epochs = [{text for epoch, _, text in alone if epoch == number} for number in (3, 4)]
    assert len(epochs[0] & epochs[1]) < 3  # other parts in another epoch
    for workers in (1, 3):
        assert in_child(seen, spec, workers, 0) == alone
    for workers in (0, 3):
        assert in_child(seen, spec, workers, 2) == alone[2 * 12 :]
        both = in_children(seen, spec, workers, 2)
        assert {*both[0], *both[1]} == {*alone[2 * 12 :]} and not {*both[0]} & {*both[1]}


def train(path, out, workers, stop):
    """Trains; with `stop`, ends after so many steps and goes on from there."""
    many_cores()
    # Not Adam, in whose steps the noise of adding up in another order grows.
    settings = [f"data.workers={workers}", "train.optimizer={name: sgd, lr: 0.1}"]
    resolved = load_spec(path, overrides=settings)
    if stop is not None:
        with contextlib.suppress(InterruptedRun):
            train_run(resolved, out, report=Stop(at_step=stop))
    return train_run(resolved, out, resume=stop is not None).document()


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_resumed_within_an_epoch_by_any_number_of_workers(spec, tmp_path, workers):
    """Seven steps in each of three epochs; it is stopped in the middle of the second."""
    in_child(train, spec, tmp_path / "whole", 0, None)
    in_child(train, spec, tmp_path / "parts", workers, 10)
    assert len(json.loads((tmp_path / "parts/environment.json").read_text())["starts"]) == 2
    whole, parts = (contents(tmp_path / name) for name in ("whole", "parts"))
    assert parts[2:] == whole[2:]
    last = "step_00000021/model.safetensors"
    assert parts[0][last] == whole[0][last]


@pytest.mark.parametrize("workers", [0, 3])
def test_resumed_on_two_processes(spec, tmp_path, workers):
    in_children(train, spec, tmp_path / "whole", 1, None)
    in_children(train, spec, tmp_path / "parts", workers, 10)
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    last = RunDirectory(tmp_path / "parts").checkpoints[-1] / "model.safetensors"
    name = last.relative_to(tmp_path / "parts")
    assert last.read_bytes() == (tmp_path / "whole" / name).read_bytes()
    one = in_child(train, spec, tmp_path / "one", 0, None)
    assert one["train_loss"] == pytest.approx(losses(tmp_path / "whole")[-1], rel=1e-5)
