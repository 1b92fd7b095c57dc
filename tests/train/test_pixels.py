"""Runs whose data has a class for each pixel."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

import nifbuild
from nifbuild.errors import InterruptedRun, SpecError
from nifbuild.runs.directory import RunDirectory
from nifbuild.train.objective import Objective
from nifbuild.train.run import train_run
from tests.tiny_runs import Stop, contents

SPEC = """
version: 1
name: shift
vars: {num_classes: 2}
input: {channels: 1, size: 10}
model:
  - {id: wide, op: conv, out_channels: 4, kernel_size: 7}
  - {id: norm, op: batch_norm}
  - relu
  - {id: head, op: conv, out_channels: $num_classes, kernel_size: 1}
auxiliary:
  early: {from: wide, weight: 0.3, body: {op: conv, out_channels: $num_classes, kernel_size: 1}}
data: {source: distant_mark, distance: 2, size: [10, 10], images: 60}
train:
  epochs: 4
  batch_size: 8
  optimizer: {lr: 0.03}
  monitor: miou
  trackers: []
  device: cpu
"""


@pytest.fixture
def load(tmp_path):
    def resolve(*overrides, text=SPEC):
        path = tmp_path / "shift.yaml"
        path.write_text(text)
        return nifbuild.load_spec(path, overrides=overrides)

    return resolve


@pytest.mark.parametrize("weights", [None, (0.5, 2.0, 3.0)])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_the_loss_written_out(weights, smoothing):
    """The mean over pixels that have a class of what an image of that class would give."""
    torch.manual_seed(0)
    logits, masks = torch.randn(2, 3, 4, 5), torch.randint(3, (2, 4, 5)).to(torch.uint8)
    masks[0, 1:3] = 255
    total, count = 0.0, 0
    for image, mask in zip(logits.double().tolist(), masks.tolist(), strict=True):
        for row in range(4):
            for column in range(5):
                if mask[row][column] == 255:
                    continue
                values = [image[c][row][column] for c in range(3)]
                norm = math.log(sum(map(math.exp, values)))
                for c in range(3):
                    share = (1 - smoothing) * (c == mask[row][column]) + smoothing / 3
                    total += (1 if weights is None else weights[c]) * share * (norm - values[c])
                count += 1
    objective = Objective(smoothing, None if weights is None else torch.tensor(weights))
    found = objective(lambda images: logits, logits, masks, torch.enable_grad)
    assert found.loss.item() == pytest.approx(total / count, rel=1e-5)
    nothing = objective(lambda images: logits, logits, torch.full_like(masks, 255), torch.no_grad)
    assert nothing.loss.item() == 0


def test_a_run_learns_and_is_evaluated_again(load, tmp_path):
    result = train_run(load(), tmp_path / "run")
    assert result.top1 > 0.95 and result.miou > 0.9
    assert result.num_samples == 12 and result.num_pixels == 12 * 10 * 8
    counts = [c.num_samples for c in result.per_class]
    assert counts == result.confusion_matrix.sum(1).tolist()
    assert all(0.8 < c.iou <= 1 for c in result.per_class)
    run = RunDirectory(tmp_path / "run")
    lines = run.metrics()
    assert all(0 <= line["miou"] <= 1 for line in lines)
    best = max(range(4), key=lambda i: (lines[i]["miou"], i))
    assert run.result()["epoch"] == best + 1
    assert run.result()["selected"] == "best miou on validation"
    again = nifbuild.evaluate_run(tmp_path / "run").only
    assert (again.top1, again.miou, again.loss) == (result.top1, result.miou, result.loss)
    assert torch.equal(again.confusion_matrix, result.confusion_matrix)


def test_an_interrupted_run_goes_on_bit_for_bit(load, tmp_path):
    train_run(load("data.augment.crop=2"), tmp_path / "whole")
    with pytest.raises(InterruptedRun):
        train_run(load("data.augment.crop=2"), tmp_path / "cut", report=Stop(at_step=7))
    train_run(load("data.augment.crop=2"), tmp_path / "cut", resume=True)
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_predicted_memory_is_what_is_measured(load):
    path = load().source.mark.file
    (found,) = nifbuild.inspect(path, batch_sizes="16", device="cpu", verify=True).only.verified
    assert abs(found.error) < 0.05 and abs(found.inference_error) < 0.05


def test_what_is_for_classes_of_images_is_told(load, tmp_path):
    train_run(load("train.epochs=1"), tmp_path / "run")
    with pytest.raises(SpecError, match="leave out --csv and --mistakes"):
        nifbuild.evaluate_run(tmp_path / "run", csv=tmp_path / "images.csv")
    Image.new("L", (10, 10)).save(tmp_path / "one.png")
    with pytest.raises(SpecError, match=r"(?s)gives each pixel a class.*argmax\(1\)"):
        nifbuild.predict(tmp_path / "run", [tmp_path / "one.png"])
    (tmp_path / "digits.yaml").write_text("data: {source: digits}\n")
    with pytest.raises(SpecError, match="in the data each image has one"):
        nifbuild.evaluate_run(tmp_path / "run", data=tmp_path / "digits.yaml")


def test_mask_files_are_trained_on_and_evaluated_on(load, tmp_path):
    """On images of another folder, and not where its classes have other numbers."""
    draw = np.random.RandomState(0)
    for folder in ("scenes", "others"):
        for number in range(16):
            classes = np.kron(draw.randint(0, 3, (5, 5)), np.ones((2, 2))).astype(np.uint8)
            for name, values in (("images", 100 * classes), ("masks", classes)):
                path = tmp_path / folder / name / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(values).save(path)
    source = "{source: segmentation, path: FOLDER, classes: [dark, gray, bright]}"
    line = SPEC.split("\ndata: ")[1].split("\n")[0]
    text = SPEC.replace(line, source).replace("num_classes: 2", "num_classes: 3")
    resolved = load(text=text.replace("FOLDER", str(tmp_path / "scenes")))
    result = train_run(resolved, tmp_path / "run")
    assert result.num_pixels == result.num_samples * 100 and len(result.per_class) == 3
    data = tmp_path / "others.yaml"
    data.write_text("data: " + source.replace("FOLDER", str(tmp_path / "others")) + "\n")
    found = nifbuild.evaluate_run(tmp_path / "run", data=data).only
    assert found.num_pixels and found.miou > 1 / 6
    data.write_text(data.read_text().replace("dark, gray", "gray, dark"))
    with pytest.raises(SpecError, match="masks hold class numbers"):
        nifbuild.evaluate_run(tmp_path / "run", data=data)
