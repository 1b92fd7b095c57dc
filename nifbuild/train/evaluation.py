"""The figures of a run's model: again, on other images, at other sizes."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nifbuild.data import Catalog, ImageData, open_data
from nifbuild.data.relabel import difference, relabelled
from nifbuild.errors import Problem, SpecError
from nifbuild.spec.data import DataSpec, Normalize
from nifbuild.spec.data_file import load_data
from nifbuild.spec.splits import Role
from nifbuild.train.batches import evaluation_batches, micro_batch_size
from nifbuild.train.data import load_images, warn_unreadable
from nifbuild.train.device import resolve_device
from nifbuild.train.directory import RunDirectory
from nifbuild.train.evaluate import evaluate
from nifbuild.train.inference import Inference, inference
from nifbuild.train.progress import Reporter
from nifbuild.train.run import final_split
from nifbuild.train.sizes import Size, require_takes
from nifbuild.train.trained import TrainedModel, Which, load_run


def evaluate_run(
    directory: str | os.PathLike[str],
    *,
    split: str | None = None,
    checkpoint: Which = "best",
    data: str | os.PathLike[str] | None = None,
    size: Size | None = None,
    device: str | None = None,
    batch_size: int | None = None,
    report: Reporter | None = None,
) -> dict[str, Any]:
    """Evaluates a run's model: on its own test images, the figures of its `metrics.json` again.

    Args:
        directory: A run directory.
        split: `train`, `validation` or `test`. None: the one of the final figures.
        checkpoint: See `load_run`.
        data: A file whose `data` section takes the place of the run's. Its classes are matched to
            the run's by name; normalisation stays that of the run.
        size: Height and width, in pixels, to which the original images are brought. None: what
            `data` wants, else that of the run.
        device: As in `train.device`. None: as the run's spec says.
        batch_size: Images at once, over all processes. None: as in the run.
        report: Hears of the progress; None: nobody.

    Returns:
        `top1`, `top5`, `loss`, `calibration_error`, `per_class`, `confusion_matrix`, `num_samples`;
        what they are of.

    Raises:
        SpecError: If `directory` is not a run, the model cannot take the size, or the data has
            classes that the run did not learn, or no such split.
        RunError: If a file is missing or damaged.
    """
    (result,) = evaluate_at_sizes(
        directory,
        None if size is None else [size],
        split=split,
        checkpoint=checkpoint,
        data=data,
        device=device,
        batch_size=batch_size,
        report=report,
    )
    return result


def evaluate_at_sizes(
    directory: str | os.PathLike[str],
    sizes: Sequence[Size] | None,
    *,
    split: str | None = None,
    checkpoint: Which = "best",
    data: str | os.PathLike[str] | None = None,
    device: str | None = None,
    batch_size: int | None = None,
    report: Reporter | None = None,
) -> list[dict[str, Any]]:
    """Evaluates a run's model on the same images at several sizes; see `evaluate_run`.

    Returns:
        For each size what `evaluate_run` gives.
    """
    report = report or Reporter()
    trained = load_run(directory, checkpoint=checkpoint)
    place = resolve_device(device or trained.resolved.spec.train.device)
    images = _images(trained, RunDirectory(directory), data, split, report)
    sizes = sizes or (images.size,)
    require_takes(trained.resolved, sizes)
    batch_size = batch_size or micro_batch_size(trained.resolved.spec.train)
    common = {
        "name": trained.resolved.name,
        "split": images.role,
        "data": None if data is None else str(data),
    }
    results: list[dict[str, Any]] = []
    with ExitStack() as stack:
        stack.callback(report.close)
        ready = stack.enter_context(inference(trained, place, batch_size))
        for size in sizes:
            loaded = load_images(images.catalog, trained.resolved, ready.accelerator, report, size)
            if not results:  # the same ones at each size
                warn_unreadable(loaded, report)
            figures = _figures(trained, loaded, images.role, ready, batch_size, report)
            results.append({**common, "size": list(size), **figures, "directory": str(directory)})
    return results


@dataclass(frozen=True)
class _Images:
    """What is evaluated: one split, labelled with the run's classes, and the size it wants."""

    catalog: Catalog
    role: Role
    size: Size


def _images(
    trained: TrainedModel,
    run: RunDirectory,
    data: str | os.PathLike[str] | None,
    split: str | None,
    report: Reporter,
) -> _Images:
    own = trained.resolved.spec.data
    assert own is not None  # it was trained on it
    spec = own if data is None else load_data(Path(data))
    with _hint_at_directory(run if data is None else None):
        found = open_data(spec)
    catalog = relabelled(found, trained.class_names)
    if note := difference(found.class_names, trained.class_names):
        report.warning(note)
    if data is None and found.fingerprint != run.data()["fingerprint"]:
        report.warning("the data has changed since the run; its figures will differ")
    role = _chosen_split(split, catalog)
    size = None if data is None else spec.size
    narrowed = _narrowed(catalog, spec, role, trained)
    return _Images(narrowed, role, size or trained.resolved.spec.input.size)


def _narrowed(catalog: Catalog, spec: DataSpec, role: Role, trained: TrainedModel) -> Catalog:
    """One split, with the run's normalisation: nothing else has to be decoded."""
    mean, std = (tuple(values.tolist()) for values in (trained.mean, trained.std))
    fixed = spec.model_copy(update={"normalize": Normalize(mean=mean, std=std)})
    return replace(catalog, spec=fixed, sources={role: catalog.sources[role]})


def _figures(
    trained: TrainedModel,
    images: ImageData,
    role: Role,
    ready: Inference,
    batch_size: int,
    report: Reporter,
) -> dict[str, Any]:
    """The figures at one size, and how they came about."""
    batches = evaluation_batches(images.splits[role], batch_size, images.workers, ready.accelerator)
    report.evaluating(role, len(batches))
    started = time.monotonic()
    figures = evaluate(
        ready.module,
        batches,
        ready.place.evaluation_input,
        ready.accelerator,
        len(trained.class_names),
        report.batch,
    )
    seconds = time.monotonic() - started
    return {
        **figures.as_document(trained.class_names),
        "checkpoint": trained.checkpoint.name,
        "step": trained.step,
        "device": str(ready.place.device),
        "precision": trained.resolved.spec.train.precision,
        "batch_size": batch_size,
        "images_per_second": round(figures.num_samples / seconds, 1),
    }


@contextmanager
def _hint_at_directory(run: RunDirectory | None) -> Iterator[None]:
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
            "\nevaluate it there, or name the data with --data FILE"
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
