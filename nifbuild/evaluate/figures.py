"""Accuracy, loss and calibration on a split, each image counted once however many processes."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn

from nifbuild.errors import Problem, RunError
from nifbuild.evaluate.class_pairs import WRITTEN_CLASSES, Totals, confusion_metric
from nifbuild.spec.pixel_data import IGNORED


@dataclass(frozen=True)
class Figures:
    """What an evaluation found.

    Where each pixel has a class, shares and means are over all pixels that have one, `num_samples`
    still counts images, and `confusion` pixels.

    Attributes:
        loss: Mean cross-entropy against the labels, in nats.
        top1: Share of images whose most probable class is right.
        top5: Share whose class is among the five most probable (or all, where there are fewer).
        calibration_error: The expected one, 0 to 1; see `nifbuild.evaluate.figures`.
        class_accuracy: Top-1 of each class's images; None for a class that has none.
        confusion: Counts [true class, predicted class]; sparse where there are many classes, see
            `nifbuild.evaluate.class_pairs`.
        pixels: Those of masks; None where an image has one class.
    """

    num_samples: int
    loss: float
    top1: float
    top5: float
    calibration_error: float
    class_accuracy: tuple[float | None, ...]
    confusion: Tensor = field(compare=False, repr=False)
    pixels: "PixelFigures | None" = None

    @property
    def miou(self) -> float | None:
        """The mean IoU; None where an image has one class."""
        return None if self.pixels is None else self.pixels.miou

    def require_finite(self, split: str) -> "Figures":
        """These figures, if the model's outputs were numbers.

        Raises:
            RunError: They were not, so that the class of an image is anybody's guess.
        """
        if not math.isfinite(self.loss):
            what = f"the model's outputs on {split} are not finite: the loss is {self.loss}"
            fix = "evaluate at the size and in the precision that it was trained with"
            raise RunError(Problem(what, fix=fix, code="not-finite"))
        return self

    def as_document(self, class_names: Sequence[str]) -> dict[str, Any]:
        """Plain data for JSON; of more than 1,000 classes without the confusion matrix."""
        images = Totals.of(self.confusion).true.tolist()
        per_class = [
            {"name": name, "accuracy": accuracy, "num_samples": count}
            for name, accuracy, count in zip(class_names, self.class_accuracy, images, strict=True)
        ]
        pixels: dict[str, Any] = {}
        if self.pixels is not None:
            pixels = {"num_pixels": self.pixels.count, "miou": self.pixels.miou}
            for entry, iou in zip(per_class, self.pixels.class_iou, strict=True):
                entry["iou"] = iou
        return {
            "num_samples": self.num_samples,
            **pixels,
            "top1": self.top1,
            "top5": self.top5,
            "loss": self.loss,
            "calibration_error": self.calibration_error,
            "per_class": per_class,
            **self._confusion_document(),
        }

    def _confusion_document(self) -> dict[str, Any]:
        num_classes = len(self.confusion)
        if num_classes <= WRITTEN_CLASSES:
            return {"confusion_matrix": self.confusion.tolist()}
        why = f"confusion_matrix, as {num_classes:,} classes are more than {WRITTEN_CLASSES:,}"
        return {
            "confusion_matrix": None,
            "left_out": f"{why}: `nifbuild evaluate RUN --confusion FILE.csv` writes it",
        }


@dataclass(frozen=True)
class PixelFigures:
    """What is found of masks besides.

    Attributes:
        count: Pixels that have a class.
        class_iou: Of each class, the pixels that have it and are found over those that have it or
            are taken for it (intersection over union); None where there are none.
        miou: The mean of these.
    """

    count: int
    class_iou: tuple[float | None, ...]
    miou: float


Hearing = Callable[[Tensor, Tensor, Tensor], None]
"""What hears the outputs for each image."""


@torch.no_grad()
def evaluate(
    model: nn.Module,
    batches: Any,
    prepare: Callable[[Tensor], Tensor],
    accelerator: Accelerator,
    num_classes: int,
    after_batch: Callable[[], None] = lambda: None,
    hear: Hearing | None = None,
) -> Figures:
    """Evaluates `model` on all batches.

    Args:
        model: On its device, not wrapped for gradients; put in eval mode and back.
        batches: A prepared DataLoader over all processes, of {"images", "labels"}. Labels are
            classes [batch], or masks [batch, height, width].
        prepare: Images as bytes to the model's input.
        accelerator: Says how processes meet, and the precision.
        num_classes: Width of the model's output.
        after_batch: Called after each batch, on every process; what it raises ends the evaluation.
        hear: Gets logits, classes and places of the images of each batch, on the CPU, all of them
            on every process. None: nobody does.
    """
    seen = _Seen(num_classes)
    was_training = model.training
    model.eval()
    try:
        for batch in batches:
            with accelerator.autocast():
                logits = model(prepare(batch["images"]))
            # Repeated images, which even out the last batch over the processes, are left out here.
            # Then every process counts all images, so that the metrics must not be summed again.
            given = (logits.float(), batch["labels"], *([batch["index"]] if hear else []))
            # On the CPU, where float64 exists whatever the device.
            logits, labels, *index = (t.cpu() for t in accelerator.gather_for_metrics(given))
            if hear is not None:
                hear(logits, labels, *index)
            seen.add(logits, labels)
            after_batch()
    finally:
        model.train(was_training)
    return seen.figures()


class _Seen:
    """What is known of the images so far."""

    def __init__(self, num_classes: int) -> None:
        shared = {"sync_on_compute": False, "validate_args": False}
        self.confusion, self.calibration = confusion_metric(num_classes, **shared), Calibration()
        self.top5 = 0
        self.of_pixels = False
        self.loss_sum = torch.zeros((), dtype=torch.float64)
        self.images = self.count = 0

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Takes in a batch, on the CPU; of masks, the pixels of one image after another."""
        self.images += len(labels)
        if labels.ndim == 1:
            self._add(logits, labels)
            return
        self.of_pixels = True
        for image, mask in zip(logits, labels.long(), strict=True):
            has_class = mask != IGNORED
            if has_class.any():
                self._add(image.movedim(0, -1)[has_class], mask[has_class])

    def _add(self, logits: Tensor, labels: Tensor) -> None:
        self.loss_sum += F.cross_entropy(logits.double(), labels, reduction="sum")
        self.count += len(labels)
        self.confusion.update(logits, labels)
        # What torchmetrics has for it takes some 50 times as long where there are 20,000 classes.
        likely = logits.topk(min(5, logits.shape[1])).indices
        self.top5 += int((likely == labels[:, None]).sum())
        self.calibration.update(logits, labels)

    def figures(self) -> Figures:
        """Those of all images.

        Raises:
            RunError: No pixel has a class.
        """
        if not self.count:
            what = "no pixel has a class: all are ignored"
            fix = "look at the masks, and ignore_index"
            raise RunError(Problem(what, path="data", fix=fix, code="no-pixels"))
        confusion = self.confusion.compute()
        totals = Totals.of(confusion)
        return Figures(
            num_samples=self.images,
            loss=self.loss_sum.item() / self.count,
            top1=int(totals.right.sum()) / self.count,
            top5=self.top5 / self.count,
            calibration_error=self.calibration.compute(),
            class_accuracy=_quotients(totals.right, totals.true),
            confusion=confusion,
            pixels=_pixel_figures(totals, self.count) if self.of_pixels else None,
        )


def _pixel_figures(totals: Totals, count: int) -> PixelFigures:
    unions = totals.true + totals.predicted - totals.right
    class_iou = _quotients(totals.right, unions)
    known = [share for share in class_iou if share is not None]
    return PixelFigures(count, class_iou, sum(known) / len(known))


def _quotients(parts: Tensor, wholes: Tensor) -> tuple[float | None, ...]:
    """Of whole numbers, as Python has them; None where there is nothing to divide by."""
    pairs = zip(parts.tolist(), wholes.tolist(), strict=True)
    return tuple(part / whole if whole else None for part, whole in pairs)


NUM_BINS = 15
"""As in the source."""


class Calibration:
    """The expected calibration error, 0 to 1.

    Images are put into bins of equal width by the probability of their most probable class; the
    error is the mean over bins, weighted by their images, of |accuracy - mean confidence|. Source:
    Guo et al., "On Calibration of Modern Neural Networks", arXiv 1706.04599, equations 2 and 3.

    Unlike torchmetrics', it sums in float64, keeps no image's confidence, and never takes logits
    that happen to lie between 0 and 1 for probabilities.
    """

    def __init__(self) -> None:
        # A confidence on the edge of two bins belongs to the lower one, as in the source.
        self._edges = torch.linspace(0, 1, NUM_BINS + 1, dtype=torch.float64)[1:-1]
        self._excess = torch.zeros(NUM_BINS, dtype=torch.float64)
        self._count = 0

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Adds images: logits [batch, classes] and classes [batch], on the CPU."""
        confidence, predicted = logits.double().softmax(1).max(1)
        bins = torch.bucketize(confidence, self._edges)
        self._excess.index_add_(0, bins, confidence - predicted.eq(labels).double())
        self._count += len(labels)

    def compute(self) -> float:
        """The error over all images so far."""
        return self._excess.abs().sum().item() / self._count
