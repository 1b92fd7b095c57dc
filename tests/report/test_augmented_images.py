"""The sheet of augmented images has the pixels that a step of training gets."""

import dataclasses
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import nifbuild
from nifbuild.data import Preprocess
from nifbuild.data.batches import training_images
from nifbuild.machine.device import Placement, accelerator_on
from nifbuild.report.augmented_images import augmented_images, plot_augmented
from nifbuild.report.show.plots import SCREEN
from nifbuild.runs.opened_data import open_for
from nifbuild.spec.resolve import load_spec
from nifbuild.train.objective import Objective
from nifbuild.train.optim import build_optimizer
from nifbuild.train.step import TrainingStep
from tests.tiny_runs import photo_text, spec_text

STRONG = (
    "data.augment={crop: 1, flip: 0.5, randaugment: {num_ops: 1, magnitude: 20}, erasing: 0.5, "
    "mixup: 0.4, cutmix: 1.0}"
)
MASKS = """
version: 1
vars: {num_classes: 2}
input: {channels: 1, size: 12}
model: [{id: head, op: conv, kernel_size: 1, out_channels: $num_classes}]
data: {source: distant_mark, distance: 5, size: [12, 12], images: 40, augment: {crop: 3}}
train: {batch_size: 8, trackers: [], device: cpu}
"""


class Listening(nn.Module):
    """Keeps what the model is given."""

    def __init__(self, model):
        super().__init__()
        self.model, self.seen = model, []

    def forward(self, images):
        self.seen.append(images.detach().clone())
        return self.model(images)


def seen_in_training(resolved, data, places, steps):
    """What a step's model gets of these images, in each of the first epochs."""
    spec, device = resolved.spec, torch.device("cpu")
    images = training_images(data, resolved)
    augment = spec.data.augment
    preprocess = Preprocess(augment, len(data.class_names), data.mean, data.std)
    place = Placement(device, False, preprocess.eval)
    with accelerator_on(device, precision="fp32", seed=spec.train.seed) as accelerator:
        module = nifbuild.build_model(resolved)
        listening = Listening(module)
        optimizer = accelerator.prepare(build_optimizer(module, spec.train.optimizer))
        objective = Objective.of(module, resolved, None)
        step = TrainingStep(
            spec.train,
            accelerator,
            module,
            listening,
            None,
            optimizer,
            objective,
            preprocess,
            place,
        )
        for number in range(steps):
            images.set_epoch(number)
            step(images.__getitems__(places), number, 0.0)
    return torch.stack(listening.seen)


def opened(resolved):
    catalog, resolved = open_for(resolved)
    shape = resolved.spec.input
    return catalog.load(shape.channels, shape.size), resolved


def assert_same(found, resolved, data, places):
    seen = seen_in_training(resolved, data, places, len(found.versions))
    mean, std = (values.view(-1, 1, 1) for values in (data.mean, data.std))
    expected = (seen.double() * std + mean).clamp(0, 1)
    assert seen.shape == found.versions.shape
    assert (found.versions - expected).abs().max() < 1e-5


def test_pixels_are_those_of_training(resolve):
    data, resolved = opened(resolve(STRONG))
    found = augmented_images(resolved, data, rows=4, columns=5)
    places = [0, 13, 26, 39]
    assert_same(found, resolved, data, places)
    original = data.splits["train"].images[places]
    assert (found.originals * 255).round().equal(original.float())
    assert found.labels.tolist() == data.splits["train"].labels[places].tolist()
    assert len({v.numpy().tobytes() for v in found.versions}) == 5
    again = augmented_images(resolved, data, rows=4, columns=5)
    assert again.versions.equal(found.versions)


@pytest.mark.parametrize("in_memory", ["true", "false"])
def test_so_are_parts_cut_where_images_are_decoded(resolve, photos, in_memory):
    overrides = [
        "vars.num_classes=3",
        f"data={{source: imagefolder, path: {photos}, in_memory: {in_memory}, "
        "augment: {resized_crop: [0.2, 0.8], flip: 0.5}}",
    ]
    data, resolved = opened(resolve(*overrides))
    found = augmented_images(resolved, data, rows=3, columns=3)
    assert len(data.splits["train"]) == 54
    assert_same(found, resolved, data, [0, 26, 53])


def test_masks_move_with_their_images(tmp_path):
    (tmp_path / "masks.yaml").write_text(MASKS)
    data, resolved = opened(load_spec(tmp_path / "masks.yaml"))
    found = augmented_images(resolved, data, rows=2, columns=3)
    assert_same(found, resolved, data, [0, len(data.splits["train"]) - 1])
    assert found.masks.shape == (4, 2, 12, 12)
    for version in range(4):
        pixels = found.originals if version == 0 else found.versions[version - 1]
        mask = found.masks[version]
        # The class of a pixel is what stands 5 to its left; borders of crops have none.
        left, right = pixels[:, 0, :, :-5], mask[:, :, 5:]
        known = right != 255
        assert known.any() and (left[known].round() == right[known]).all()
    assert plot_augmented(found).legends


def test_a_run_does_not_notice(resolve, two_epochs):
    """The images are those that it had: neither their order nor the generator is touched."""
    data, resolved = opened(resolve(STRONG))
    torch.manual_seed(3)
    expected = torch.rand(())
    torch.manual_seed(3)
    augmented_images(resolved, data)
    assert torch.rand(()).equal(expected)


@pytest.mark.parametrize("augment", ["crop: 1", "erasing: 0.9", "resized_crop: [0.2, 0.8]"])
def test_the_file_needs_little_and_shows_the_same(resolve, tmp_path, photos, augment):
    (tmp_path / "photos.yaml").write_text(photo_text(photos, f"augment: {{{augment}}}"))
    nifbuild.inspect(tmp_path / "photos.yaml", augmented=tmp_path / "sheet.png")
    full, resolved = opened(load_spec(tmp_path / "photos.yaml"))
    found = augmented_images(resolved, full)
    (tmp_path / "expected.png").write_bytes(SCREEN.png(plot_augmented(found)))
    ours, expected = (
        np.asarray(Image.open(tmp_path / name)) for name in ("sheet.png", "expected.png")
    )
    assert np.array_equal(ours, expected)


def test_few_images_are_all_shown(resolve):
    data, resolved = opened(resolve("data.limit.train=2", "train.batch_size=2"))
    found = augmented_images(resolved, data)
    assert len(found.originals) == 2
    narrow = dataclasses.replace(found, versions=found.versions[:1])
    assert plot_augmented(narrow).axes


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("tiny.yaml", "--augmented", "sheet.gif"), "end it in .png, .svg, .pdf"),
        (("tiny.yaml", "--augmented", "taken.png"), "--overwrite"),
        (("tiny.yaml", "tiny.yaml", "--augmented", "a.png"), "one spec, not several"),
        (("tiny.yaml", "--augmented", "a.png", "--set", "data=null"), "has no data"),
        (("tiny.yaml", "--augmented", "absent/a.png"), "there is no folder"),
    ],
)
def test_wrong_input_is_one_error(cli, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(spec_text())
    (tmp_path / "taken.png").write_text("mine")
    done = cli("inspect", *arguments)
    assert done.exit_code == 2 and words in done.stderr
    assert done.stderr.count("error:") == 1 and "Traceback" not in done.output
    assert (tmp_path / "taken.png").read_text() == "mine"


def test_an_image_that_cannot_be_read_is_named(cli, tmp_path, photos, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(photos, "photos")
    for path in (tmp_path / "photos/train").rglob("*.png"):
        path.write_bytes(b"no image")
    (tmp_path / "tiny.yaml").write_text(photo_text("photos"))
    done = cli("inspect", "tiny.yaml", "--augmented", "a.png")
    assert done.exit_code == 1 and "photos/train/one/01.png" in done.stderr
    assert not (tmp_path / "a.png").exists()
