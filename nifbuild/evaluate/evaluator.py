"""Evaluation of models on the data of a run, which is read once."""

import os
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from nifbuild.data import Catalog, ImageData, Preprocess, open_data
from nifbuild.data.batches import evaluation_batches, micro_batch_size
from nifbuild.data.relabel import difference, relabelled
from nifbuild.errors import Problem, SpecError
from nifbuild.evaluate.figures import Figures, evaluate
from nifbuild.evaluate.per_image import PerImage
from nifbuild.machine.device import Placement, accelerator_on, determinism, lacks, resolve_device
from nifbuild.machine.memory import explaining_lack_of_memory
from nifbuild.machine.progress import Reporter
from nifbuild.runs.directory import RunDirectory
from nifbuild.runs.loaded import TrainedModel
from nifbuild.runs.opened_data import load_images, warn_left_out
from nifbuild.spec.augment import Augment
from nifbuild.spec.common_data import Normalize
from nifbuild.spec.data_file import load_data
from nifbuild.spec.splits import ALL_SPLITS, Role, final_split
from nifbuild.spec.training import Precision


@dataclass(frozen=True)
class Inference:
    """A model that is ready for images.

    Attributes:
        module: On its device, in eval mode.
        place: Its `evaluation_input` makes the model's input of images as bytes.
        accelerator: Says how processes meet.
        precision: What is computed in, as in a spec.
    """

    module: nn.Module
    place: Placement
    accelerator: Accelerator
    precision: Precision


@contextmanager
def inference(
    trained: TrainedModel, device: torch.device, batch_size: int, report: Reporter
) -> Iterator[Inference]:
    """Prepares a trained model as for the evaluation of its run, but for the device.

    In float32 where the device does not compute in the run's precision: models go anywhere.

    Args:
        trained: The model.
        device: As from `resolve_device`.
        batch_size: Images that will pass at once.
        report: Hears where the precision is another one.

    Raises:
        RunError: If memory does not suffice while it is in use.
    """
    spec = trained.resolved.spec.train
    precision: Precision = spec.precision
    if lacks(device, precision) is not None:
        report.note(f"computed in fp32, as there is no {precision} here, in which it was trained")
        precision = "fp32"
    fix = "have fewer pass at once: --batch-size"
    with ExitStack() as stack:
        accelerator = stack.enter_context(accelerator_on(device, precision=precision))
        stack.enter_context(determinism(spec.deterministic))
        stack.enter_context(
            explaining_lack_of_memory(trained.resolved, batch_size, accelerator.device, fix)
        )
        num_classes = len(trained.class_names)
        preprocess = Preprocess(Augment(), num_classes, trained.mean, trained.std)
        place = Placement(accelerator.device, spec.channels_last, preprocess.eval)
        yield Inference(place.module(trained.model), place, accelerator, precision)


@dataclass(frozen=True)
class Evaluator:
    """Evaluates models on images that are at hand.

    Attributes:
        ready: Where models and images lie, and how images are normalised.
        images: The splits that were read.
        batch_size: Images that pass through a model at once, over all processes.
        report: Hears of the progress.
    """

    ready: Inference
    images: ImageData
    batch_size: int
    report: Reporter

    def figures(self, model: nn.Module, split: Role, per_image: PerImage | None = None) -> Figures:
        """Accuracy and loss on all images of a split; moves the model to where images lie.

        `per_image` hears those of each.

        Raises:
            RunError: The model's outputs are not finite.
        """
        batches = self._batches(split, self.batch_size)
        self.report.evaluating(split, len(batches))
        if per_image is not None:
            per_image.begin(self.images.splits[split], self.images.class_names)
        figures = evaluate(
            self.ready.place.module(model),
            batches,
            self.ready.place.evaluation_input,
            self.ready.accelerator,
            len(self.images.class_names),
            self.report.batch,
            None if per_image is None else per_image.add,
        )
        return figures.require_finite(split)

    def inputs(self, split: Role, count: int) -> Tensor:
        """The first images of a split as models take them: normalised, on their device."""
        images = next(iter(self._batches(split, count)))["images"]
        return self.ready.place.evaluation_input(images)

    def _batches(self, split: Role, size: int) -> Any:
        images = self.images.splits[split]
        workers = self.images.workers_for(images)
        return evaluation_batches(images, size, workers, self.ready.accelerator)


@contextmanager
def evaluator_on(
    trained: TrainedModel,
    run: RunDirectory,
    *,
    data: str | os.PathLike[str] | None = None,
    device: str | None = None,
    batch_size: int | None = None,
    report: Reporter,
) -> Iterator[Evaluator]:
    """All splits of a run's data, at the size of its spec, ready to be evaluated on.

    Args:
        trained: The run's model.
        run: Its directory.
        data: See `evaluated_data`.
        device: As in `train.device`. None: as the spec says.
        batch_size: None: as the spec says.
        report: Hears of the progress.

    Raises:
        SpecError: The data is missing, or has classes that the run did not learn.
        RunError: A file is damaged, or an image cannot be read.
    """
    spec = trained.resolved.spec.train
    place = resolve_device(device or spec.device)
    size = batch_size or micro_batch_size(spec)
    catalog = evaluated_data(trained, run, data, report)
    with ExitStack() as stack:
        ready = stack.enter_context(inference(trained, place, size, report))
        images = load_images(catalog, trained.resolved, ready.accelerator, report)
        warn_left_out(images, report)
        yield Evaluator(ready, images, size, report)


def evaluated_data(
    trained: TrainedModel,
    run: RunDirectory,
    data: str | os.PathLike[str] | None,
    report: Reporter,
) -> Catalog:
    """The data to evaluate a run's model on: labelled with its classes, normalised as it was.

    Args:
        trained: The run's model.
        run: Its directory.
        data: A file whose `data` section takes the place of the run's; classes are matched by name.
        report: Hears of what differs from the run.

    Raises:
        SpecError: The data is missing, or has classes that the run did not learn.
    """
    own = trained.resolved.spec.data
    assert own is not None  # it was trained on it
    spec = own if data is None else load_data(Path(data), own)
    with hint_at_directory(run if data is None else None):
        found = open_data(spec, report.note)
    if spec.per_pixel != trained.gives_masks:
        of = ["each image", "each pixel"]
        what = f"{trained.resolved.name} gives {of[trained.gives_masks]} a class, and in the data "
        what += f"{of[spec.per_pixel]} has one"
        fix = "name data of the same kind"
        raise SpecError(Problem(what, path="data.source", fix=fix, code="per-pixel"))
    catalog = relabelled(found, trained.class_names)
    if note := difference(found.class_names, trained.class_names):
        report.warning(note)
    if data is None and found.fingerprint != run.data()["fingerprint"]:
        report.warning("the data has changed since the run; its figures will differ")
    mean, std = (tuple(values.tolist()) for values in (trained.mean, trained.std))
    fixed = spec.model_copy(update={"normalize": Normalize(mean=mean, std=std)})
    return replace(catalog, spec=fixed)


def chosen_split(name: str | None, available: Collection[Role]) -> Role:
    """The split of that name; None: the one that a run's final figures are of.

    Raises:
        SpecError: There is no such split.
    """
    if name is None:
        return final_split(available)
    for role in available:
        if role == name:
            return role
    what = f"the data has no split '{name}'"
    fix = f"there are: {', '.join((*available, ALL_SPLITS))}"
    raise SpecError(Problem(what, fix=fix, code="no-split"))


@contextmanager
def hint_at_directory(run: RunDirectory | None) -> Iterator[None]:
    """Where a run's own data is missing, tells that its paths count from where it was trained."""
    try:
        yield
    except SpecError as error:
        there = run.trained_in() if run is not None else None
        missing = any(problem.code.startswith("missing-") for problem in error.problems)
        if run is None or there is None or not missing or there == str(Path.cwd()):
            raise
        hint = (
            f"paths of data are relative to the working directory; the run was trained in {there}:"
            f"\ncall this there, where the run is {os.path.relpath(run.path, there)}, or name the "
            "data with --data FILE"
        )
        raise SpecError(
            replace(problem, fix=f"{problem.fix}\n{hint}") for problem in error.problems
        ) from error
