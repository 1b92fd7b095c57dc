import math
from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nifbuild.data.batches import evaluation_batches
from nifbuild.data.images import Batch, ImageSet
from nifbuild.evaluate.class_pairs import Totals
from nifbuild.evaluate.figures import evaluate
from nifbuild.machine.device import accelerator_on


class Numbers(ImageSet):
    """Images whose pixels are the logits."""

    def __init__(self, logits, labels):
        self.logits, self.labels = logits, labels

    def _images(self, index):
        raise NotImplementedError

    def __getitems__(self, indices):
        index = torch.tensor(indices)
        return Batch(images=self.logits[index], labels=self.labels[index], index=index)


def figures_of(logits, labels, batch_size):
    with accelerator_on(torch.device("cpu"), precision="fp32") as accelerator:
        batches = evaluation_batches(Numbers(logits, labels), batch_size, 0, accelerator)
        model = nn.Identity().train()
        found = evaluate(model, batches, lambda x: x, accelerator, logits.shape[1])
        assert model.training  # put back
        return found


@pytest.mark.parametrize("num_samples", [1, 7, 8, 9, 23])
def test_equals_a_naive_count(num_samples):
    torch.manual_seed(num_samples)
    logits, labels = torch.randn(num_samples, 7), torch.randint(6, (num_samples,))
    found = figures_of(logits, labels, batch_size=8)
    order = logits.argsort(1, descending=True)
    top = [(order[:, :k] == labels[:, None]).any(1) for k in (1, 5)]
    assert found.num_samples == num_samples
    assert found.top1 == top[0].sum().item() / num_samples
    assert found.top5 == top[1].sum().item() / num_samples
    expected = F.cross_entropy(logits.double(), labels).item()
    assert found.loss == pytest.approx(expected, rel=1e-12)
    for c in range(7):
        of_class = top[0][labels == c]
        share = of_class.double().mean().item() if len(of_class) else None
        assert found.class_accuracy[c] == share
        row = [int(((labels == c) & (order[:, 0] == d)).sum()) for d in range(7)]
        assert found.confusion[c].tolist() == row
    assert found.class_accuracy[6] is None


def naive_calibration_error(logits, labels):
    """Guo et al., equations 2 and 3, image by image: bin m of 15 is ((m - 1) / 15, m / 15]."""
    bins = [[] for _ in range(15)]
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        exponentials = [math.exp(value) for value in row]
        confidence = max(exponentials) / math.fsum(exponentials)
        (place,) = (m for m in range(1, 16) if (m - 1) / 15 < confidence <= m / 15)
        bins[place - 1].append((confidence, row.index(max(row)) == label))
    gaps = [abs(sum(c for c, _ in b) - sum(right for _, right in b)) for b in bins]
    return sum(gaps) / len(labels)


@pytest.mark.parametrize("scale", [0.0, 0.2, 3.0, 30.0])
def test_calibration_error_equals_a_naive_loop(scale):
    torch.manual_seed(1)
    logits = scale * torch.randn(203, 7)
    labels = torch.where(torch.rand(203) < 0.4, logits.argmax(1), torch.randint(7, (203,)))
    found = figures_of(logits, labels, batch_size=8).calibration_error
    assert found == pytest.approx(naive_calibration_error(logits, labels), rel=1e-12)
    assert found > 0.01


def test_calibration_error_of_known_models():
    always, labels = torch.tensor([[50.0, 0.0]]).repeat(8, 1), torch.tensor([0] * 6 + [1] * 2)
    assert figures_of(always, labels, 3).calibration_error == pytest.approx(0.25)  # sure, 3/4 right
    honest = torch.tensor([[math.log(3), 0.0]]).repeat(8, 1)  # a confidence of 3/4
    assert figures_of(honest, labels, 3).calibration_error == pytest.approx(0, abs=1e-7)


def test_top5_of_three_classes_is_all():
    found = figures_of(torch.randn(10, 3), torch.randint(3, (10,)), batch_size=4)
    assert found.top5 == 1.0


def test_loss_is_summed_in_float64():
    logits = torch.zeros(3000, 2)
    logits[0, 1] = 60.0  # one large loss that float32 would keep from seeing the small ones exactly
    found = figures_of(logits, torch.zeros(3000, dtype=torch.int64), batch_size=1000)
    assert found.loss == pytest.approx((60 + 2999 * math.log(2)) / 3000, rel=1e-13)


def test_what_after_batch_raises_ends_it():
    def stop():
        raise KeyboardInterrupt

    with accelerator_on(torch.device("cpu"), precision="fp32") as accelerator:
        images = Numbers(torch.randn(8, 3), torch.zeros(8, dtype=torch.int64))
        batches = evaluation_batches(images, 4, 0, accelerator)
        with pytest.raises(KeyboardInterrupt):
            evaluate(nn.Identity(), batches, lambda x: x, accelerator, 3, stop)


def test_as_document():
    found = figures_of(torch.eye(3), torch.tensor([0, 1, 1]), batch_size=3)
    document = found.as_document(["ape", "bee", "cat"])
    assert document["per_class"] == [
        {"name": "ape", "accuracy": 1.0, "num_samples": 1},
        {"name": "bee", "accuracy": 0.5, "num_samples": 2},
        {"name": "cat", "accuracy": None, "num_samples": 0},
    ]
    assert document["confusion_matrix"] == [[1, 0, 0], [0, 1, 1], [0, 0, 0]]


def test_of_many_classes_only_pairs_that_occur_are_kept():
    """The same figures as of so many columns with nothing in them, in bounded memory."""
    torch.manual_seed(0)
    logits, labels = torch.randn(50, 9), torch.randint(8, (50,))
    few = figures_of(logits, labels, batch_size=8)
    many = figures_of(F.pad(logits, (0, 21_832), value=-99.0), labels, batch_size=8)
    assert not few.confusion.is_sparse and many.confusion.is_sparse
    places = zip(labels.tolist(), logits.argmax(1).tolist(), strict=True)
    counts = Counter(places)
    assert set(zip(*many.confusion.indices().tolist(), strict=True)) == set(counts)
    assert all(many.confusion[place] == count for place, count in counts.items())
    assert many.class_accuracy[:9] == few.class_accuracy
    assert many.class_accuracy[9:] == (None,) * 21_832
    assert (many.top1, many.top5) == (few.top1, few.top5)
    document = many.as_document([str(i) for i in range(21_841)])
    assert document["confusion_matrix"] is None
    assert document["left_out"].startswith("confusion_matrix, as 21,841 classes are more than 1,0")
    per_class = few.as_document([str(i) for i in range(9)])["per_class"]
    assert document["per_class"][:9] == per_class


@pytest.mark.parametrize(("num_classes", "is_sparse"), [(1000, False), (1001, True)])
def test_totals_of_classes(num_classes, is_sparse):
    torch.manual_seed(0)
    logits, labels = torch.randn(40, num_classes), torch.randint(5, (40,))
    predicted = torch.where(torch.rand(40) < 0.5, labels, torch.randint(7, (40,)))
    logits[range(40), predicted] = 9
    found = figures_of(logits, labels, batch_size=8)
    assert found.confusion.is_sparse == is_sparse
    totals = Totals.of(found.confusion)
    for c in range(num_classes):
        right = (labels == c) & (predicted == c)
        counted = [int(mask.sum()) for mask in (labels == c, predicted == c, right)]
        assert [int(t[c]) for t in (totals.true, totals.predicted, totals.right)] == counted
