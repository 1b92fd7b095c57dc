"""Figures of masks against a count of pixels, one by one."""

import math

import pytest
import torch

from nifbuild.errors import RunError
from tests.evaluate.test_figures import figures_of


def naive(logits, masks, num_classes):
    """Accuracy, loss, IoU of each class and confusion, from loops over pixels."""
    confusion = [[0] * num_classes for _ in range(num_classes)]
    losses = []
    for image, mask in zip(logits.double().tolist(), masks.tolist(), strict=True):
        for row, line in enumerate(mask):
            for column, wanted in enumerate(line):
                values = [image[c][row][column] for c in range(num_classes)]
                if wanted != 255:
                    confusion[wanted][values.index(max(values))] += 1
                    losses.append(math.log(sum(map(math.exp, values))) - values[wanted])
    total = len(losses)
    right = [confusion[c][c] for c in range(num_classes)]
    unions = [
        sum(confusion[c]) + sum(row[c] for row in confusion) - right[c] for c in range(num_classes)
    ]
    iou = [r / u if u else None for r, u in zip(right, unions, strict=True)]
    return sum(right) / total, sum(losses) / total, iou, confusion, total


@pytest.mark.parametrize(("num_samples", "batch_size"), [(1, 4), (7, 4)])
def test_equals_a_naive_count(num_samples, batch_size):
    torch.manual_seed(num_samples)
    logits = torch.randn(num_samples, 4, 5, 3)
    logits[:, 3] = -9  # never found, and nowhere: it has no IoU
    masks = torch.randint(3, (num_samples, 5, 3)).to(torch.uint8)
    masks[torch.rand(masks.shape) < 0.3] = 255
    found = figures_of(logits, masks, batch_size)
    accuracy, loss, iou, confusion, total = naive(logits, masks, 4)
    assert found.num_samples == num_samples and found.pixels.count == total
    assert found.top1 == accuracy
    assert found.loss == pytest.approx(loss, rel=1e-6)
    assert found.confusion.tolist() == confusion
    assert list(found.pixels.class_iou) == iou and iou[3] is None
    assert found.miou == pytest.approx(sum(iou[:3]) / 3, rel=1e-12)
    document = found.as_document("abcd")
    assert document["miou"] == found.miou and document["num_pixels"] == total
    assert [each["iou"] for each in document["per_class"]] == iou
    assert sum(each["num_samples"] for each in document["per_class"]) == total


def test_an_image_without_classes_counts_for_nothing():
    torch.manual_seed(0)
    logits, masks = torch.randn(3, 2, 4, 4), torch.randint(2, (3, 4, 4)).to(torch.uint8)
    masks[1] = 255
    found = figures_of(logits, masks, 3)
    without = figures_of(logits[[0, 2]], masks[[0, 2]], 3)
    assert (found.top1, found.loss, found.miou) == (without.top1, without.loss, without.miou)
    with pytest.raises(RunError, match="no pixel has a class"):
        figures_of(logits, torch.full_like(masks, 255), 3)


def test_images_with_one_class_have_no_figures_of_pixels():
    found = figures_of(torch.randn(4, 3), torch.tensor([0, 1, 2, 0]), 4)
    assert found.miou is None and found.pixels is None
    assert not {"miou", "num_pixels"} & set(found.as_document("abc"))
