import math

import pytest
import torch

from nifbuild.errors import SpecError
from nifbuild.train.objective import Objective, class_weights
from nifbuild.train.run import train_run


def loss_of(objective, logits, targets):
    return objective(lambda images: logits, logits, targets, torch.no_grad).loss.item()


def by_hand(logits, shares, weights):
    """The mean over images of sum over classes of weight x share x -log softmax."""
    total = 0.0
    for row, share in zip(logits.tolist(), shares, strict=True):
        norm = math.log(sum(math.exp(value) for value in row))
        total += sum(w * s * (norm - z) for w, s, z in zip(weights, share, row, strict=True))
    return total / len(logits)


LOGITS = torch.tensor([[1.0, 0.5, -2.0], [0.0, 3.0, 1.0], [0.2, 0.1, 0.3], [4.0, 0.0, 0.0]])
CLASSES = torch.tensor([0, 1, 1, 2])


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("weights", [None, (0.5, 2.0, 3.0)])
@pytest.mark.parametrize("blended", [False, True])
def test_the_loss_written_out(smoothing, weights, blended):
    shares = torch.nn.functional.one_hot(CLASSES, 3).double()
    if blended:
        shares = 0.7 * shares + 0.3 * shares.flip(0)
    targets = shares.float() if blended else CLASSES
    objective = Objective(smoothing, None if weights is None else torch.tensor(weights))
    smooth = ((1 - smoothing) * shares + smoothing / 3).tolist()
    expected = by_hand(LOGITS.double(), smooth, weights or (1, 1, 1))
    assert loss_of(objective, LOGITS, targets) == pytest.approx(expected, rel=1e-6)


def test_balanced_classes_weigh_the_same():
    labels = torch.tensor([0] * 6 + [1] * 3 + [3])
    weights = class_weights("balanced", ("a", "b", "none", "d"), labels)
    totals = [weights[label].item() * (labels == label).sum().item() for label in (0, 1, 3)]
    assert totals == pytest.approx([10 / 4] * 3)
    assert weights[2] == 0
    assert class_weights(None, ("a",), labels) is None


def test_weights_by_name():
    found = class_weights({"b": 2.5}, ("a", "b"), torch.tensor([0]))
    assert found.tolist() == [1.0, 2.5]
    with pytest.raises(SpecError, match=r"(?s)no class is called 'bee'.*classes: bea, b"):
        class_weights({"bee": 2.0}, ("bea", "b"), torch.tensor([0]))


def test_a_run_with_weights_of_classes(resolve, tmp_path):
    """Where all classes are found equally probable, the loss is the mean weight times log 10."""
    resolved = resolve(
        "init.linear={name: zeros, bias: 0}",
        "train.class_weights={'3': 5.0, '7': 0.0}",
        "train.label_smoothing=0",
        "train.batch_size=40",  # one step: its figures are of before it
        "train.epochs=1",
    )
    result = train_run(resolved, tmp_path / "run")
    from nifbuild.data.catalog import open_data

    labels = open_data(resolved.spec.data).sources["train"].labels
    weights = [{3: 5.0, 7: 0.0}.get(int(label), 1.0) for label in labels]
    assert result.train_loss == pytest.approx(sum(weights) / len(weights) * math.log(10), rel=1e-5)


def test_a_class_that_is_none_is_told(resolve, tmp_path):
    with pytest.raises(SpecError, match="no class is called 'x'"):
        train_run(resolve("train.class_weights={x: 2.0}"), tmp_path / "run")
