"""A model from a run directory, and its figures."""

import os
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from nifbuild.compile import build_model
from nifbuild.errors import Problem, RunError
from nifbuild.spec.resolve import load_spec
from nifbuild.train.checkpoint import load_weights
from nifbuild.train.directory import RunDirectory
from nifbuild.train.evaluator import evaluator_on
from nifbuild.train.progress import Reporter

if TYPE_CHECKING:
    from nifbuild.spec.resolve import Resolved

Which = Literal["best", "last"]


@dataclass(frozen=True)
class TrainedModel:
    """What a run has learned.

    Attributes:
        model: With the weights that count, in eval mode, on the CPU.
        resolved: The run's spec.
        class_names: In the order of the model's outputs.
        mean: Subtracted from each channel of an image whose white is 1, shape [channels].
        std: Divides it then, shape [channels].
        checkpoint: Where the weights come from.
        step: After so many optimizer steps.
    """

    model: nn.Module
    resolved: "Resolved"
    class_names: tuple[str, ...]
    mean: Tensor
    std: Tensor
    checkpoint: Path
    step: int


def load_run(
    directory: str | os.PathLike[str],
    *,
    checkpoint: Which = "best",
    data: str | os.PathLike[str] | None = None,
) -> TrainedModel:
    """Loads a trained model; of the data, only what the run has written down is needed.

    Args:
        directory: A run directory.
        checkpoint: The best on validation, or the last; the same where there was no validation.
        data: A spec file whose `data` section takes the place of the run's.

    Raises:
        SpecError: If `directory` is not a run.
        RunError: If it has no such checkpoint, or a file is damaged.
    """
    run = RunDirectory(directory)
    run.require_run()
    path = run.find_checkpoint(checkpoint)
    described = run.data()
    resolved = load_spec(run.spec, data=None if data is None else Path(data))
    channels = resolved.spec.input.channels
    if not len(described["mean"]) == len(described["std"]) == channels:
        raise RunError(
            Problem(
                f"{run.path / 'data.json'} does not fit the run: its normalisation is not for "
                f"{channels} channel{'s' if channels > 1 else ''}",
                fix="copy it back, or train again: --overwrite",
                code="load",
            )
        )
    model = build_model(resolved)
    load_weights(model, run.evaluated_weights(path))
    return TrainedModel(
        model=model.eval(),
        resolved=resolved,
        class_names=tuple(described["class_names"]),
        mean=torch.tensor(described["mean"]),
        std=torch.tensor(described["std"]),
        checkpoint=path,
        step=run.progress(path)["progress"]["step"],
    )


def evaluate_run(
    directory: str | os.PathLike[str],
    *,
    split: str | None = None,
    checkpoint: Which = "best",
    data: str | os.PathLike[str] | None = None,
    device: str | None = None,
    batch_size: int | None = None,
    report: Reporter | None = None,
) -> dict[str, Any]:
    """Evaluates a run's model: on its own test images, the figures of its `metrics.json` again.

    Args:
        directory: A run directory.
        split: `train`, `validation` or `test`. None: the one of the final figures.
        checkpoint: See `load_run`.
        data: A spec file whose `data` section takes the place of the run's; it must have the same
            classes. Normalisation stays that of the run.
        device: As in `train.device`. None: as the run's spec says.
        batch_size: None: as in the run.
        report: Hears of the progress; None: nobody.

    Returns:
        `top1`, `top5`, `loss`, `per_class`, `confusion_matrix`, `num_samples`; what they are of.

    Raises:
        SpecError: If `directory` is not a run, or the data has other classes or no such split.
        RunError: If a file is missing or damaged.
    """
    report = report or Reporter()
    trained = load_run(directory, checkpoint=checkpoint, data=data)
    with ExitStack() as stack:
        stack.callback(report.close)
        evaluator = stack.enter_context(
            evaluator_on(
                trained,
                own_data=None if data is not None else RunDirectory(directory),
                device=device,
                batch_size=batch_size,
                report=report,
            )
        )
        role = evaluator.split(split)
        started = time.monotonic()
        figures = evaluator.figures(trained.model, role)
        seconds = time.monotonic() - started
    return {
        "name": trained.resolved.name,
        "split": role,
        **figures.as_document(trained.class_names),
        "checkpoint": trained.checkpoint.name,
        "step": trained.step,
        "device": str(evaluator.place.device),
        "precision": trained.resolved.spec.train.precision,
        "batch_size": evaluator.batch_size,
        "images_per_second": round(figures.num_samples / seconds, 1),
        "directory": str(directory),
    }
