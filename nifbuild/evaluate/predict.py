"""The classes of image files, by a run's model."""

import math
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from nifbuild.data.batches import micro_batch_size
from nifbuild.data.decode import Decoder, decoder_for, quiet_pillow
from nifbuild.data.listing import LeftOut, TooManyFoldersError, image_files
from nifbuild.errors import Problem, SpecError, closest_beside
from nifbuild.evaluate.evaluator import Inference, inference
from nifbuild.evaluate.sizes import Size, require_takes
from nifbuild.machine.device import resolve_device
from nifbuild.machine.options import Which
from nifbuild.machine.progress import Reporter
from nifbuild.runs.loaded import load_run


@dataclass(frozen=True)
class Prediction:
    """What a model takes an image for.

    Attributes:
        image: Path of the file, as given or as found in a given folder.
        classes: Names and probabilities of the most probable classes, the first one first; empty
            where there is an error.
        error: Why the file cannot be read; empty where it can.
    """

    image: str
    classes: tuple[tuple[str, float], ...] = ()
    error: str = ""


@dataclass(frozen=True)
class Predictions:
    """What a run's model takes images for.

    Attributes:
        directory: The run.
        images: One for each file.
    """

    directory: Path
    images: tuple[Prediction, ...]

    @property
    def num_failed(self) -> int:
        """Files that could not be predicted."""
        return sum(bool(prediction.error) for prediction in self.images)

    def document(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "directory": str(self.directory),
            "num_images": len(self.images),
            "num_failed": self.num_failed,
            "predictions": [
                {
                    "image": prediction.image,
                    "classes": [
                        {"name": name, "probability": share} for name, share in prediction.classes
                    ],
                    "error": prediction.error or None,
                }
                for prediction in self.images
            ],
        }


def predict_images(
    directory: str | os.PathLike[str],
    images: Sequence[str | os.PathLike[str]],
    *,
    top: int = 1,
    checkpoint: Which = "selected",
    size: Size | None = None,
    device: str | None = None,
    batch_size: int | None = None,
    report: Reporter | None = None,
) -> list[Prediction]:
    """Names the classes of image files.

    Images are decoded, resized and normalised as in the evaluation of the run.

    Args:
        directory: A run directory.
        images: Files, and folders to search for images in the order of their paths.
        top: How many classes to name for each; at most all.
        checkpoint: See `load_run`.
        size: Height and width, in pixels, that the images are brought to. None: as in the run.
        device: As in `train.device`. None: as the run's spec says.
        batch_size: Images at once. None: as in the run.
        report: Hears of the progress; None: nobody.

    Returns:
        One for each file; those that cannot be read say why.

    Raises:
        SpecError: If `directory` is not a run, the model cannot take the size, or there is no file
            at all.
        RunError: If a file of the run is missing or damaged.
    """
    report = report or Reporter()
    trained = load_run(directory, checkpoint=checkpoint)
    spec = trained.resolved.spec
    if trained.gives_masks:
        what = (
            f"{trained.resolved.name} gives each pixel a class, and `predict` names one of an image"
        )
        fix = "in Python: model = nifbuild.load(RUN); model(model.normalize(images)).argmax(1)"
        raise SpecError(Problem(what, fix=fix, code="per-pixel"))
    place = resolve_device(device or spec.train.device)
    size = size or spec.input.size
    require_takes(trained.resolved, [size])
    left_out = LeftOut()
    found = _found(images, left_out)
    if text := left_out.text():
        report.warning(text)
    batch_size = batch_size or micro_batch_size(spec.train)
    starts = range(0, len(found), batch_size)
    decoder = decoder_for(spec, size)
    predictions: list[Prediction] = []
    with ExitStack() as stack:
        stack.callback(report.close)
        ready = stack.enter_context(inference(trained, place, batch_size, report))
        report.evaluating("images", len(starts))
        for start in starts:
            batch = _Batch(found[start : start + batch_size], decoder)
            predictions += batch.predictions(ready, trained.class_names, top)
            report.batch()
    return predictions


def _found(given: Sequence[str | os.PathLike[str]], left_out: LeftOut) -> list[Prediction]:
    """The files, those of folders among them, not yet read.

    Raises:
        SpecError: There is none.
    """
    if not given:
        what, fix = "no image is named", "name files, or folders that have some"
        raise SpecError(Problem(what, fix=fix, code="no-images"))
    found: list[Prediction] = []
    for path in map(Path, given):
        try:
            if path.is_dir():
                inside = [Prediction(file) for file in image_files(path, left_out).paths]
                found += inside or [Prediction(str(path), error="the folder has no image")]
            elif not path.exists():
                close = closest_beside(path)
                error = f"there is no such file; {close}" if close else "there is no such file"
                found.append(Prediction(str(path), error=error))
            else:
                found.append(Prediction(str(path)))
        except TooManyFoldersError as error:
            found.append(Prediction(str(path), error=str(error)))
        except OSError as error:
            found.append(Prediction(str(path), error=f"cannot be read: {error.strerror}"))
    if all(entry.error for entry in found):
        raise SpecError(
            Problem(
                f"{entry.image}: {entry.error}",
                fix="name files, or folders with files, that end as images do, such as .png",
                code="no-images",
            )
            for entry in found
        )
    return found


class _Batch:
    """Some of the files, read."""

    def __init__(self, found: Sequence[Prediction], decoder: Decoder) -> None:
        self.entries: list[Prediction] = []
        self.pixels: list[UInt8[np.ndarray, "channels height width"]] = []
        with quiet_pillow():
            for entry in found:
                self.entries.append(entry if entry.error else self._read(entry.image, decoder))

    def _read(self, image: str, decoder: Decoder) -> Prediction:
        try:
            self.pixels.append(decoder(image))
        except ValueError as error:
            return Prediction(image, error=f"cannot be read: {error}")
        return Prediction(image)

    @torch.no_grad()
    def predictions(
        self, ready: Inference, class_names: Sequence[str], top: int
    ) -> list[Prediction]:
        """Those files that could be read with their classes, and the others as they are."""
        if not self.pixels:
            return self.entries
        images = torch.from_numpy(np.stack(self.pixels)).to(ready.place.device)
        with ready.accelerator.autocast():
            logits = ready.module(ready.place.evaluation_input(images))
        shares, classes = _most_probable(logits, top)
        ranked = iter(zip(classes.tolist(), shares.tolist(), strict=True))
        return [
            entry if entry.error else _prediction(entry.image, class_names, *next(ranked))
            for entry in self.entries
        ]


def _prediction(
    image: str, class_names: Sequence[str], classes: Sequence[int], shares: Sequence[float]
) -> Prediction:
    if not all(map(math.isfinite, shares)):
        return Prediction(image, error="the model's outputs are not finite")
    names = (class_names[place] for place in classes)
    return Prediction(image, tuple(zip(names, shares, strict=True)))


def _most_probable(logits: Tensor, top: int) -> tuple[Tensor, Tensor]:
    """Probabilities [images, top] and their classes, on the CPU, where float64 always exists."""
    probabilities = logits.float().cpu().double().softmax(1)
    values, indices = probabilities.topk(min(top, probabilities.shape[1]))
    return values, indices
