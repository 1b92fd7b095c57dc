"""The figures of a run's model, as Python users and JSON have them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class ClassFigures:
    """One class.

    Attributes:
        name: Of the class.
        accuracy: Share of its images that are recognised; None where there are none.
        num_samples: Its images.
        iou: Where each pixel has a class, and these are pixels: intersection over union.
    """

    name: str
    accuracy: float | None
    num_samples: int
    iou: float | None = None


@dataclass(frozen=True, kw_only=True)
class RunFigures:
    """What a run's model is worth on the images of a split.

    Attributes:
        name: Of the spec.
        split: `train`, `validation`, `test` or `all`.
        num_samples: Images.
        top1: Share of images whose most probable class is right.
        top5: Share whose class is among the five most probable.
        loss: Mean cross-entropy, in nats.
        calibration_error: The expected one, 0 to 1.
        per_class: Each class, in the order of the model's outputs.
        confusion_matrix: Counts [true class, predicted class]; sparse of more than 1,000 classes.
            None where these figures are read from a file that is without it.
        checkpoint: The weights.
        step: After so many steps of the optimizer.
        images_per_second: While these were evaluated.
        directory: The run.
        num_pixels: Where each pixel has a class: so many have one, and shares are of them.
        miou: Then, the mean of the classes' intersection over union.
    """

    name: str
    split: str
    num_samples: int
    top1: float
    top5: float
    loss: float
    calibration_error: float
    per_class: tuple[ClassFigures, ...]
    confusion_matrix: Tensor | None = field(default=None, compare=False, repr=False)
    checkpoint: str
    step: int
    images_per_second: float
    directory: Path
    num_pixels: int | None = None
    miou: float | None = None
    _written: Mapping[str, Any] = field(repr=False)

    @classmethod
    def of(
        cls, written: Mapping[str, Any], directory: Path, confusion: Tensor | None = None
    ) -> Self:
        """From their document, which may say more, and the matrix where that is at hand."""
        names = {f.name for f in fields(cls)}
        values = {name: value for name, value in written.items() if name in names}
        values["per_class"] = tuple(
            ClassFigures(each["name"], each["accuracy"], each["num_samples"], each.get("iou"))
            for each in written["per_class"]
        )
        counts = written.get("confusion_matrix")
        known = confusion is not None or counts is None
        values["confusion_matrix"] = confusion if known else torch.tensor(counts)
        if "size" in values:
            values["size"] = tuple(values["size"])
        return cls(**{**values, "directory": directory, "_written": written})

    def document(self) -> dict[str, Any]:
        """As plain data."""
        return {**self._written, "directory": str(self.directory)}


@dataclass(frozen=True, kw_only=True)
class Evaluation(RunFigures):
    """The figures of an evaluation.

    Attributes:
        data: The file whose data took the place of the run's; None: the run's own.
        fingerprint: Of the images and labels.
        size: Height and width that the images were brought to.
        device: Where they were evaluated.
        precision: In which precision.
        batch_size: So many at once.
    """

    data: str | None
    fingerprint: str
    size: tuple[int, int]
    device: str
    precision: str
    batch_size: int


@dataclass(frozen=True)
class Evaluations:
    """What was found at one size or several.

    Attributes:
        results: One for each size.
        sizes_given: Whether sizes were asked for; the document is a list then.
    """

    results: tuple[Evaluation, ...]
    sizes_given: bool = False

    @property
    def only(self) -> Evaluation:
        """That at the only size.

        Raises:
            ValueError: There are several.
        """
        if len(self.results) != 1:
            raise ValueError(f"there are {len(self.results)} results: take one of `results`")
        (result,) = self.results
        return result

    def document(self) -> dict[str, Any] | list[dict[str, Any]]:
        """As plain data."""
        documents = [result.document() for result in self.results]
        return documents if self.sizes_given else documents[0]
