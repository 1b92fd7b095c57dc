"""The figures of a run's model: again, on other images, at other sizes."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from nifbuild.data import Catalog
from nifbuild.data.batches import micro_batch_size
from nifbuild.data.images import Source
from nifbuild.errors import Problem, SpecError
from nifbuild.evaluate.evaluator import Evaluator, chosen_split, evaluated_data, inference
from nifbuild.evaluate.per_image import PerImage
from nifbuild.evaluate.result import Evaluation
from nifbuild.evaluate.sizes import Size, require_takes
from nifbuild.machine.device import resolve_device
from nifbuild.machine.options import AnyPath, Which
from nifbuild.machine.progress import Reporter
from nifbuild.runs.directory import RunDirectory
from nifbuild.runs.loaded import load_run
from nifbuild.runs.opened_data import load_images, warn_left_out
from nifbuild.spec.splits import ALL_SPLITS, Role


def evaluate_at_sizes(
    directory: AnyPath,
    sizes: Sequence[Size] | None = None,
    *,
    split: str | None = None,
    checkpoint: Which = "selected",
    data: AnyPath | None = None,
    device: str | None = None,
    batch_size: int | None = None,
    per_image: PerImage | None = None,
    report: Reporter | None = None,
) -> list[Evaluation]:
    """Evaluates a run's model on the same images at several sizes.

    Args:
        directory: A run directory.
        sizes: Heights and widths, in pixels, to which the original images are brought. None: what
            `data` wants, else that of the run.
        split: `train`, `validation`, `test` or `all`. None: the one of the final figures.
        checkpoint: See `load_run`.
        data: A file whose `data` section takes the place of the run's. Its classes are matched to
            the run's by name; normalisation stays that of the run.
        device: As in `train.device`. None: as the run's spec says.
        batch_size: Images at once, over all processes. None: as in the run.
        per_image: Hears the figures of each image at the last size; None: nobody does.
        report: Hears of the progress; None: nobody.
    """
    report = report or Reporter()
    trained, run = load_run(directory, checkpoint=checkpoint), RunDirectory(directory)
    spec = trained.resolved.spec
    if per_image is not None and trained.gives_masks:
        what = "figures of single images are of models that give each image a class"
        fix = "leave out --csv and --mistakes: this one gives each pixel a class"
        raise SpecError(Problem(what, fix=fix, code="per-pixel"))
    if run.result() is None:
        report.warning(f"the run is not complete: these are figures of its step {trained.step}")
    place = resolve_device(device or spec.train.device)
    catalog = evaluated_data(trained, run, data, report)
    role, images_of = _evaluated(catalog, split, run, data, report)
    catalog = replace(catalog, sources={role: images_of})  # no other has to be decoded
    wanted = None if data is None else catalog.spec.size
    sizes = sizes or (wanted or spec.input.size,)
    require_takes(trained.resolved, sizes)
    batch_size = batch_size or micro_batch_size(spec.train)
    results: list[Evaluation] = []
    with ExitStack() as stack:
        stack.callback(report.close)
        ready = stack.enter_context(inference(trained, place, batch_size, report))
        for size in sizes:
            images = load_images(catalog, trained.resolved, ready.accelerator, report, size)
            if not results:  # the same ones at each size
                warn_left_out(images, report)
            started = time.monotonic()
            evaluator = Evaluator(ready, images, batch_size, report)
            figures = evaluator.figures(ready.module, role, per_image)
            seconds = time.monotonic() - started
            document = {
                "name": trained.resolved.name,
                "split": ALL_SPLITS if split == ALL_SPLITS else role,
                "data": None if data is None else str(data),
                "fingerprint": images.fingerprint,
                "size": list(size),
                **figures.as_document(trained.class_names),
                "checkpoint": trained.checkpoint.name,
                "step": trained.step,
                "device": str(ready.place.device),
                "precision": ready.precision,
                "batch_size": batch_size,
                "images_per_second": round(figures.num_samples / seconds, 1),
            }
            results.append(Evaluation.of(document, Path(directory), figures.confusion))
    return results


def _evaluated(
    catalog: Catalog, split: str | None, run: RunDirectory, data: AnyPath | None, report: Reporter
) -> tuple[Role, Source]:
    """The images to evaluate, and the split that they count as."""
    is_own = catalog.fingerprint == run.data()["fingerprint"]
    total = sum(catalog.sizes.values())
    if split == ALL_SPLITS:
        if is_own:
            known = f"{catalog.sizes['train']:,} of the {total:,} images"
            report.warning(f"{known} are those that the run was trained on")
        return "test", catalog.all_images()
    role = chosen_split(split, catalog.sizes)
    count = catalog.sizes[role]
    if role in catalog.set_aside and not is_own:
        whose = "the data" if data is None else f"{data}"
        seen = (
            " They are drawn anew: the run may have been trained on some." if data is None else ""
        )
        report.note(
            f"{whose} has no {role} split: {count:,} of the {total:,} images are evaluated, which "
            f"training on them would set aside.{seen} --split {ALL_SPLITS} evaluates all of them"
        )
    return role, catalog.sources[role]
