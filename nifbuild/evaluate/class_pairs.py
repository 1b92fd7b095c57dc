"""How often images of each class are taken for each: the confusion matrix, also of many classes.

ImageNet-21k has 21,841 classes, and so 477 million pairs of them: 4 GB of counts, nearly all 0. Of
more than `WRITTEN_CLASSES` only the pairs that occur are kept, at most as many as images.
"""

from dataclasses import dataclass
from typing import Any, Self

import torch
from jaxtyping import Int64
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.classification import MulticlassConfusionMatrix

WRITTEN_CLASSES = 1000
"""Up to so many classes the matrix has all its entries, and JSON holds it."""


def confusion_metric(num_classes: int, **shared: Any) -> Metric:
    """What counts pairs of classes; its result is [true class, predicted class], of int64.

    Args:
        num_classes: If there are more than `WRITTEN_CLASSES`, the result is a sparse tensor.
        shared: Settings of torchmetrics.
    """
    if num_classes <= WRITTEN_CLASSES:
        return MulticlassConfusionMatrix(num_classes, **shared)
    return _PairsThatOccur(num_classes, sync_on_compute=shared["sync_on_compute"])


class _PairsThatOccur(Metric):
    """The same matrix, sparse: 8 bytes for each image, whatever the number of classes."""

    full_state_update = False
    pairs: list[Int64[Tensor, " images"]]

    def __init__(self, num_classes: int, **settings: Any) -> None:
        super().__init__(**settings)
        self.num_classes = num_classes
        self.add_state("pairs", default=[], dist_reduce_fx="cat")

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Adds images: logits [images, classes] and classes [images]."""
        self.pairs.append(target * self.num_classes + preds.argmax(1))

    def compute(self) -> Tensor:
        """The counts of all images so far, [classes, classes]."""
        found, counts = torch.cat(self.pairs).unique(return_counts=True)
        places = torch.stack([found // self.num_classes, found % self.num_classes])
        size = (self.num_classes, self.num_classes)
        return torch.sparse_coo_tensor(
            places, counts, size, is_coalesced=True, check_invariants=False
        )


@dataclass(frozen=True)
class Totals:
    """What a confusion matrix says of each class, [classes].

    Attributes:
        true: Its images.
        predicted: Images that are taken for it.
        right: Its images that are.
    """

    true: Tensor
    predicted: Tensor
    right: Tensor

    @classmethod
    def of(cls, confusion: Tensor) -> Self:
        """Of counts [true class, predicted class], sparse or not."""
        if not confusion.is_sparse:
            return cls(confusion.sum(1), confusion.sum(0), confusion.diagonal())
        true, predicted = confusion.indices()
        counts, same = confusion.values(), true == predicted

        def added(classes: Tensor, values: Tensor) -> Tensor:
            return torch.zeros(len(confusion), dtype=torch.int64).index_add(0, classes, values)

        return cls(added(true, counts), added(predicted, counts), added(true[same], counts[same]))
