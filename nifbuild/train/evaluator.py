"""Evaluation of models on the data of a run, which is read once."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accelerate import Accelerator
from torch import Tensor, nn

from nifbuild.data import Catalog, ImageData, Preprocess
from nifbuild.errors import Problem, SpecError
from nifbuild.spec.data import Augment
from nifbuild.spec.splits import Role
from nifbuild.train.batches import evaluation_batches, micro_batch_size
from nifbuild.train.data import load_images, open_for, warn_unreadable
from nifbuild.train.device import accelerator_on, determinism, resolve_device
from nifbuild.train.directory import RunDirectory
from nifbuild.train.evaluate import Figures, evaluate
from nifbuild.train.memory import explaining_lack_of_memory
from nifbuild.train.place import Placement
from nifbuild.train.progress import Reporter
from nifbuild.train.run import final_split

if TYPE_CHECKING:
    from nifbuild.train.trained import TrainedModel


@dataclass(frozen=True)
class Evaluator:
    """Evaluates models on images that are at hand.

    Attributes:
        accelerator: Says how processes meet, and the precision.
        place: Where models and images lie, and how images are normalised: as in the run.
        images: All splits.
        batch_size: Images that pass through a model at once.
        report: Hears of the progress.
    """

    accelerator: Accelerator
    place: Placement
    images: ImageData
    batch_size: int
    report: Reporter

    def split(self, name: str | None) -> Role:
        """The split of that name; None: the one that a run's final figures are of.

        Raises:
            SpecError: The data has no such split.
        """
        splits = self.images.splits
        if name is None:
            return final_split(splits)
        for role in splits:
            if role == name:
                return role
        what, fix = f"the data has no split '{name}'", f"there are: {', '.join(splits)}"
        raise SpecError(Problem(what, fix=fix, code="no-split"))

    def figures(self, model: nn.Module, split: Role) -> Figures:
        """Accuracy and loss on all images of a split; moves the model to where images lie."""
        batches = self._batches(split, self.batch_size)
        self.report.evaluating(split, len(batches))
        return evaluate(
            self.place.module(model),
            batches,
            self.place.evaluation_input,
            self.accelerator,
            len(self.images.class_names),
            self.report.batch,
        )

    def inputs(self, split: Role, count: int) -> Tensor:
        """The first images of a split as models take them: normalised, on their device."""
        images = next(iter(self._batches(split, count)))["images"]
        return self.place.evaluation_input(images)

    def _batches(self, split: Role, size: int) -> Any:
        return evaluation_batches(
            self.images.splits[split], size, self.images.workers, self.accelerator
        )


@contextmanager
def evaluator_on(
    trained: "TrainedModel",
    *,
    own_data: RunDirectory | None,
    device: str | None = None,
    batch_size: int | None = None,
    report: Reporter,
) -> Iterator[Evaluator]:
    """The data that a model's spec names, ready to be evaluated on.

    Args:
        trained: Its spec says which data and how; images are normalised as in its run.
        own_data: The run, where the data is that which it was trained on: a change is told.
        device: As in `train.device`. None: as the spec says.
        batch_size: None: as the spec says.
        report: Hears of the progress.

    Raises:
        SpecError: The data is missing, or has other classes.
        RunError: A file is damaged, or an image cannot be read.
    """
    spec = trained.resolved.spec.train
    place_at = resolve_device(device or spec.device)
    with _hint_at_directory(own_data):
        catalog, resolved = open_for(trained.resolved)
    _require_same_classes(trained.class_names, catalog)
    if own_data is not None and catalog.fingerprint != own_data.data()["fingerprint"]:
        report.warning("the data has changed since the run; its figures will differ")
    with ExitStack() as stack:
        accelerator = stack.enter_context(accelerator_on(place_at, precision=spec.precision))
        stack.enter_context(determinism(spec.deterministic))
        images = load_images(catalog, resolved, accelerator, report)
        warn_unreadable(images, report)
        normalize = Preprocess(Augment(), catalog.num_classes, trained.mean, trained.std).eval
        place = Placement(accelerator.device, spec.channels_last, normalize)
        size = batch_size or micro_batch_size(spec)
        fix = "have fewer pass at once: --batch-size"
        stack.enter_context(explaining_lack_of_memory(resolved, size, fix))
        yield Evaluator(accelerator, place, images, size, report)


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
