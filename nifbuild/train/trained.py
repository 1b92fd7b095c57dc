"""A model from a run directory, and its figures."""

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from nifbuild.compile import build_model
from nifbuild.data import Catalog, Preprocess
from nifbuild.errors import Problem, RunError, SpecError
from nifbuild.spec.data import Augment
from nifbuild.spec.resolve import load_spec
from nifbuild.spec.splits import Role
from nifbuild.train.batches import evaluation_batches, micro_batch_size
from nifbuild.train.checkpoint import load_weights
from nifbuild.train.data import load_images, open_for, warn_unreadable
from nifbuild.train.device import accelerator_on, determinism, resolve_device
from nifbuild.train.directory import RunDirectory
from nifbuild.train.evaluate import evaluate
from nifbuild.train.memory import explaining_lack_of_memory
from nifbuild.train.place import Placement
from nifbuild.train.progress import Reporter
from nifbuild.train.run import final_split

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
    spec = trained.resolved.spec.train
    place_at = resolve_device(device or spec.device)
    with hint_at_directory(RunDirectory(directory) if data is None else None):
        catalog, resolved = open_for(trained.resolved)
    _require_same_classes(trained.class_names, catalog)
    role = _chosen_split(split, catalog)
    if data is None and catalog.fingerprint != RunDirectory(directory).data()["fingerprint"]:
        report.warning("the data has changed since the run; its figures will differ")
    with ExitStack() as stack:
        stack.callback(report.close)
        accelerator = stack.enter_context(accelerator_on(place_at, precision=spec.precision))
        stack.enter_context(determinism(spec.deterministic))
        images = load_images(catalog, resolved, accelerator, report)
        warn_unreadable(images, report)
        normalize = Preprocess(Augment(), catalog.num_classes, trained.mean, trained.std).eval
        place = Placement(accelerator.device, spec.channels_last, normalize)
        size = batch_size or micro_batch_size(spec)
        fix = "have fewer pass at once: --batch-size"
        stack.enter_context(explaining_lack_of_memory(resolved, size, fix))
        batches = evaluation_batches(images.splits[role], size, images.workers, accelerator)
        report.evaluating(role, len(batches))
        started = time.monotonic()
        figures = evaluate(
            place.module(trained.model),
            batches,
            place.evaluation_input,
            accelerator,
            catalog.num_classes,
            report.batch,
        )
        seconds = time.monotonic() - started
    return {
        "name": resolved.name,
        "split": role,
        **figures.as_document(trained.class_names),
        "checkpoint": trained.checkpoint.name,
        "step": trained.step,
        "device": str(place.device),
        "precision": spec.precision,
        "batch_size": size,
        "images_per_second": round(figures.num_samples / seconds, 1),
        "directory": str(directory),
    }


@contextmanager
def hint_at_directory(run: RunDirectory | None) -> Iterator[None]:
    """Where a run's own data is missing, tells that its paths count from where it was trained."""
    try:
        yield
    except SpecError as error:
        there = run.trained_in() if run is not None else None
        missing = any(problem.code.startswith("missing-") for problem in error.problems)
        if not missing or there in (None, str(Path.cwd())):
            raise
        hint = (
            f"paths of data are relative to the working directory; the run was trained in {there}:"
            "\ncall this there, or name the data with --data FILE"
        )
        raise SpecError(
            replace(problem, fix=f"{problem.fix}\n{hint}") for problem in error.problems
        ) from error


def _chosen_split(split: str | None, catalog: Catalog) -> Role:
    if split is None:
        return final_split(catalog.sizes)
    for role in catalog.sizes:
        if role == split:
            return role
    raise SpecError(
        Problem(
            f"the data has no split '{split}'",
            fix=f"there are: {', '.join(catalog.sizes)}",
            code="no-split",
        )
    )


def _require_same_classes(learned: tuple[str, ...], catalog: Catalog) -> None:
    found = tuple(catalog.class_names)
    if found == learned:
        return
    lines = [
        f"class {i}: the run has '{a}', the data '{b}'"
        for i, (a, b) in enumerate(zip(learned, found, strict=False))
        if a != b
    ]
    if len(found) != len(learned):
        lines.append(f"the run has {len(learned)} classes, the data {len(found)}")
    shown = lines[:5] + (["..."] if len(lines) > 5 else [])
    raise SpecError(
        Problem("the data has other classes than the run", fix="\n".join(shown), code="classes")
    )
