"""What an evaluation finds of each single image."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from nifbuild.data.images import ImageSet


@dataclass(frozen=True)
class ImageFigures:
    """One image.

    Attributes:
        place: Of the image in its split.
        label: Its class.
        predicted: The most probable class.
        confidence: The probability of that one.
        loss: Cross-entropy against the label, in nats.
    """

    place: int
    label: int
    predicted: int
    confidence: float
    loss: float

    @property
    def is_right(self) -> bool:
        """Whether the most probable class is that of the image."""
        return self.predicted == self.label


class PerImage:
    """Hears the outputs of an evaluation, image by image."""

    def __init__(self) -> None:
        self._parts: list[Tensor] = []
        self._images: ImageSet | None = None
        self.class_names: Sequence[str] = ()

    def begin(self, images: ImageSet, class_names: Sequence[str]) -> None:
        """These images are about to be evaluated."""
        self._parts.clear()
        vars(self).pop("figures", None)  # of images before
        self._images, self.class_names = images, class_names

    def add(self, logits: Tensor, labels: Tensor, index: Tensor) -> None:
        """Takes logits [batch, classes], classes [batch] and places [batch], on the CPU."""
        logits = logits.double()
        confidence, predicted = logits.softmax(1).max(1)
        losses = F.cross_entropy(logits, labels, reduction="none")
        self._parts.append(torch.stack([index, labels, predicted, confidence, losses], dim=1))

    @cached_property
    def figures(self) -> list[ImageFigures]:
        """Of each image, in the order of the split, once all have been heard."""
        rows = torch.cat(self._parts).tolist()
        return [
            ImageFigures(int(place), int(label), int(predicted), confidence, loss)
            for place, label, predicted, confidence, loss in sorted(rows)
        ]

    def worst(self, number: int) -> list[ImageFigures]:
        """The mistakes of the largest loss, at most so many."""
        mistakes = [image for image in self.figures if not image.is_right]
        return sorted(mistakes, key=lambda image: -image.loss)[:number]

    def name(self, place: int) -> str:
        """The path of an image of the split, or the number of its row in the source."""
        assert self._images is not None  # it has begun
        return self._images.source.path(place)

    def pixels(self, place: int) -> Tensor:
        """An image of the split as bytes, [channels, height, width]."""
        assert self._images is not None  # it has begun
        return self._images[place]["images"]
