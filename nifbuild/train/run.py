"""From a resolved spec to a run directory."""

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator
from torch import nn

from nifbuild.compile import build_model
from nifbuild.data import ImageData, Preprocess
from nifbuild.data.batches import (
    check_batch_size,
    check_statistics,
    evaluation_batches,
    micro_batch_size,
    training_batches,
    training_images,
)
from nifbuild.errors import closest_beside, counted
from nifbuild.evaluate.per_image import PerImage
from nifbuild.evaluate.result import RunFigures
from nifbuild.machine.device import (
    Placement,
    accelerator_on,
    determinism,
    resolve_device,
    share_from_first,
)
from nifbuild.machine.memory import explaining_lack_of_memory, require_memory
from nifbuild.machine.processes import is_first, world_size
from nifbuild.machine.progress import Reporter
from nifbuild.machine.sharding import require_shardable
from nifbuild.machine.signals import Interrupt
from nifbuild.nn.sync_batch_norm import sync_batch_norm
from nifbuild.runs.checkpoint import Identity
from nifbuild.runs.directory import RunDirectory
from nifbuild.runs.environment import describe_environment
from nifbuild.runs.intact import evaluated_weights, evidence
from nifbuild.runs.opened_data import describe_data, load_images, open_for, warn_left_out
from nifbuild.runs.weights import load_model
from nifbuild.spec.source import Scalar, at
from nifbuild.spec.splits import Role, final_split
from nifbuild.spec.training import TrainSpec
from nifbuild.train.diagnosis import locate
from nifbuild.train.divergence import Diverged
from nifbuild.train.early_stopping import require_validation
from nifbuild.train.ema import Ema
from nifbuild.train.finished import Finished, Telling, tell
from nifbuild.train.initial_weights import Pretrained, fresh_model, read_pretrained
from nifbuild.train.loop import Trainer
from nifbuild.train.objective import Objective, class_weights
from nifbuild.train.optim import build_optimizer
from nifbuild.train.resume import (
    check_complete,
    checkpoint_to_resume,
    goes_on,
    note_other_epochs,
    warn_lost_epochs,
)
from nifbuild.train.step import TrainingStep
from nifbuild.train.torch_compile import compiled_or_eager
from nifbuild.train.trackers import require_trackers, tell_result, tell_spec, trackers_on

if TYPE_CHECKING:
    from nifbuild.spec.resolve import Resolved


@dataclass(frozen=True, kw_only=True)
class Trained(RunFigures):
    """The content of a run's `metrics.json`: its final figures, and how it came to them.

    Attributes:
        selected: Why the checkpoint is this one.
        epoch: That the weights are of.
        epochs: So many were trained.
        stopped_early: Whether these are fewer than were asked for.
        train_loss: Of the last epoch.
        train_top1: Share of its images whose class was found, augmented as they were.
        params: Weights of the model.
        train_images_per_second: In the last epoch.
        data_wait_share: Share of the last epoch in which the loop waited for images.
        seconds: All of it took.
    """

    selected: str
    epoch: int
    epochs: int | None = None
    stopped_early: bool = False
    train_loss: float | None = None
    train_top1: float | None = None
    params: int | None = None
    train_images_per_second: float | None = None
    data_wait_share: float | None = None
    seconds: float


def train_run(
    resolved: "Resolved",
    directory: str | os.PathLike[str],
    *,
    resume: bool = False,
    overwrite: bool = False,
    report: Reporter | None = None,
    telling: Telling | None = None,
) -> Trained:
    """Trains a spec and evaluates the result.

    Ctrl-C and SIGTERM save within one step and raise InterruptedRun. In a process of a launcher
    (torchrun, `accelerate launch`, `nifbuild train --processes`) it is one of several that train
    together. It draws from torch's global random generator, and leaves it seeded.

    Args:
        resolved: With a `data` section.
        directory: Where the run is written; made if need be.
        resume: Continue the run in `directory`; start it where none was saved a checkpoint yet. A
            complete run is left as it is, once its checkpoint is found to be sound, unless more
            epochs are wanted. What does not touch what was trained so far may differ from then.
        overwrite: Delete the run in `directory` first.
        report: Hears of the progress; None: nobody.
        telling: Called once, in the first process, when the run is complete; of several processes,
            all have to be given it. None: nothing is.

    Returns:
        What `metrics.json` says.

    Raises:
        SpecError: If the spec does not suit the data, the machine, or the run to be resumed.
        RunError: If another process writes to `directory`, or something fails on the way: data,
            disk, a loss that is not finite.
        InterruptedRun: If a signal stopped it, after a checkpoint was saved.
    """
    report = report or Reporter()
    run = RunDirectory(directory)
    first = is_first()
    if first:
        run.require_free(overwrite=overwrite, resume=resume)
    spec = resolved.spec.train
    with ExitStack() as stack:
        stack.callback(report.close)
        if first:
            stack.enter_context(run.locked())
        device = resolve_device(spec.device)
        require_trackers(spec.trackers)
        catalog, resolved = open_for(resolved, report)
        check_batch_size(spec, catalog.sizes["train"], world_size())
        check_statistics(resolved, world_size())
        require_validation(spec, catalog.sizes)
        require_shardable(spec)
        accelerator = stack.enter_context(
            accelerator_on(
                device, precision=spec.precision, accumulate=spec.accumulate, seed=spec.seed
            )
        )
        stack.enter_context(determinism(spec.deterministic))
        pretrained = read_pretrained(resolved)
        identity = Identity(
            resolved.text,
            accelerator.num_processes,
            spec.precision,
            catalog.fingerprint,
            None if pretrained is None else pretrained.fingerprint,
            accelerator.device.type,
        )
        checkpoint = checkpoint_to_resume(run, identity, spec) if resume else None
        result = run.result() if resume else None
        if result is not None and not goes_on(run, checkpoint, result, spec):
            check_complete(run, resolved, result["checkpoint"])
            early = ": it stopped early" if result.get("stopped_early") else ""
            report.note(f"{run.path} is complete already{early}")
            return Trained.of(result, run.path)
        require_memory(resolved, accelerator.device)
        fix = "have fewer pass at once: --set train.accumulate=N cuts each batch into N parts"
        images = micro_batch_size(spec)
        stack.enter_context(explaining_lack_of_memory(resolved, images, accelerator.device, fix))
        data = load_images(catalog, resolved, accelerator, report)
        warn_left_out(data, report, f"; all are listed in {run.path / 'data.json'}")
        interrupt = stack.enter_context(Interrupt())
        module = fresh_model(resolved, pretrained)
        trainer = _trainer(resolved, module, run, identity, data, accelerator, interrupt, report)
        if checkpoint is not None:
            trainer.go_back_to(checkpoint)
            note_other_epochs(trainer, checkpoint)
        accelerator.wait_for_everyone()  # before the first process changes what others look at
        if accelerator.is_main_process:
            if checkpoint is not None:
                _reopen_directory(trainer, resolved)
            else:
                _open_directory(trainer, resolved, data, pretrained, overwrite, resume)
        if checkpoint is None and pretrained is not None:
            report.note(str(pretrained))
        stack.enter_context(trackers_on(accelerator, spec.trackers, run, trainer.progress.step))
        tell_spec(accelerator, resolved, run)
        report.opening("\n".join(_opening(trainer, resolved, data)))
        try:
            trainer.run()
        except Diverged as found:
            accelerator.wait_for_everyone()  # until the last checkpoint is written
            if run.checkpoints:
                trainer.go_back_to(run.checkpoints[-1])
            else:
                trainer.go_back_to_start(fresh_model(resolved, pretrained))
            raise locate(found, trainer) from None
        return _finish(trainer, resolved, data, telling)


def _opening(trainer: Trainer, resolved: "Resolved", data: ImageData) -> Iterator[str]:
    """What is about to be trained, for people."""
    accelerator, spec = trainer.accelerator, trainer.spec
    params = _num_weights(trainer.module)
    height, width = resolved.spec.input.size
    channels = {1: "gray ", 3: ""}.get(resolved.spec.input.channels, "")
    processes = accelerator.num_processes
    device = accelerator.device if processes == 1 else accelerator.device.type
    where = f"{device}, {spec.precision}" + (f", {processes} processes" if processes > 1 else "")
    size = f"{height}x{width} (input.size)"
    yield f"{resolved.name}: {params:,} parameters, on {channels}images of {size}"
    sizes = ", ".join(f"{len(images):,} {role}" for role, images in data.splits.items())
    mean, std = ("/".join(f"{v:.3f}" for v in values.tolist()) for values in (data.mean, data.std))
    count = len(data.class_names)
    declared = at(resolved.source, ("vars", "num_classes"))
    otherwise = ""
    if isinstance(declared, Scalar) and declared.value != count:
        otherwise = f" (of the data; in place of vars.num_classes, {declared.value})"
    yield f"{count:,} classes{otherwise}; images: {sizes}; mean {mean}, std {std}"
    steps = f"{counted(trainer.steps_per_epoch, 'step')} of {spec.batch_size:,} images"
    yield f"{where}; {steps} in an epoch; run: {trainer.directory.path}"


def _num_weights(model: nn.Module) -> int:
    return sum(weight.numel() for weight in model.parameters())


def _open_directory(
    trainer: Trainer,
    resolved: "Resolved",
    data: ImageData,
    pretrained: Pretrained | None,
    overwrite: bool,
    resume: bool,
) -> None:
    """For a run from the beginning."""
    run = trainer.directory
    if resume and run.starts():
        run.begin_again()
    else:
        if resume:
            near = closest_beside(run.path, folders=True)
            told = (f"no run in {run.path} to go on from: one is begun", near)
            trainer.report.note("; ".join(filter(None, told)))
        if kept := run.create(overwrite=overwrite):
            trainer.report.warning(kept)
    _add_start(trainer)
    init = None if pretrained is None else pretrained.as_document()
    run.describe(resolved.text, describe_data(data), init)


def _reopen_directory(trainer: Trainer, resolved: "Resolved") -> None:
    """For a run that goes on from a checkpoint."""
    run = trainer.directory
    run.remove_unfinished()
    run.rewind_metrics(trainer.progress.epoch)
    _add_start(trainer)
    run.update_spec(resolved.text)
    trainer.tidy_checkpoints()
    warn_lost_epochs(trainer)
    trainer.report.note(f"continuing after step {trainer.progress.step} of {run.path}")


def _add_start(trainer: Trainer) -> None:
    accelerator = trainer.accelerator
    environment = describe_environment(
        accelerator.device, accelerator.num_processes, trainer.spec.precision
    )
    trainer.directory.add_start(environment)


def _trainer(
    resolved: "Resolved",
    module: nn.Module,
    run: RunDirectory,
    identity: Identity,
    data: ImageData,
    accelerator: Accelerator,
    interrupt: Interrupt,
    report: Reporter,
) -> Trainer:
    spec = resolved.spec.train
    assert resolved.spec.data is not None
    num_classes = len(data.class_names)
    preprocess = Preprocess(resolved.spec.data.augment, num_classes, data.mean, data.std)
    place = Placement(accelerator.device, spec.channels_last, preprocess.eval)
    module = place.module(module)
    ema = None if spec.ema is None else Ema(module, spec.ema)
    weights = class_weights(spec.class_weights, data.class_names, data.splits["train"].labels)
    weights = None if weights is None else weights.to(accelerator.device)
    objective = Objective.of(module, resolved, weights)
    if spec.sync_batch_norm and accelerator.num_processes > 1:
        module = sync_batch_norm(module)
    optimizer = build_optimizer(module, spec.optimizer)
    images = training_images(data, resolved)
    batches = training_batches(images, spec, data.workers_for(images), accelerator)
    model = module
    if spec.compile:
        per_process = micro_batch_size(spec) // accelerator.num_processes
        shape = (per_process, resolved.spec.input.channels, *resolved.spec.input.size)
        example = place.input(torch.zeros(shape, device=accelerator.device))
        model, reason = compiled_or_eager(module.train(), example, accelerator)
        if reason:
            report.warning(f"train.compile has no effect: {reason}")
    model, optimizer = accelerator.prepare(model, optimizer)
    watched: tuple[Role, ...] = ("validation", "test")
    split = next((s for s in watched if s in data.splits), None)
    return Trainer(
        spec=spec,
        accelerator=accelerator,
        directory=run,
        identity=identity,
        step=TrainingStep(
            spec, accelerator, module, model, ema, optimizer, objective, preprocess, place
        ),
        train_batches=batches,
        validation_batches=None if split is None else _evaluation(data, split, spec, accelerator),
        validate_on=split,
        chooses=split == "validation",
        num_classes=num_classes,
        interrupt=interrupt,
        report=report,
    )


def _evaluation(data: ImageData, split: Role, spec: TrainSpec, accelerator: Accelerator) -> Any:
    images = data.splits[split]
    workers = data.workers_for(images)
    return evaluation_batches(images, micro_batch_size(spec), workers, accelerator)


def _finish(
    trainer: Trainer, resolved: "Resolved", data: ImageData, telling: Telling | None
) -> Trained:
    """Evaluates the selected checkpoint as `evaluate_run` does: from its file, in a new model."""
    run, spec, accelerator = trainer.directory, trainer.spec, trainer.accelerator
    accelerator.wait_for_everyone()  # until the last checkpoint is written
    chosen = trainer.chooses and trainer.progress.best is not None  # None where no epoch is trained
    by_validation = spec.select == "best" and chosen
    checkpoint = run.find_checkpoint("best" if by_validation else "last")
    # Only the first process is sure to see the files.
    model = (
        load_model(resolved, evaluated_weights(checkpoint))
        if accelerator.is_main_process
        else build_model(resolved)
    )
    model = trainer.place.module(model)
    share_from_first(model.state_dict().values())
    split = final_split(data.splits)
    started = time.monotonic()
    images = data.splits[split]
    per_pixel = resolved.graph.output_shape.is_image
    per_image = None if telling is None or per_pixel else PerImage()
    if per_image is not None:
        per_image.begin(images, data.class_names)
    batches = _evaluation(data, split, spec, accelerator)
    hear = None if per_image is None else per_image.add
    figures = trainer.evaluate_on(model, split, batches, hear)
    figures.require_finite(split)
    seconds = time.monotonic() - started
    trainer.count_time()
    progress = trainer.progress
    place = {"step": progress.step, "epoch": progress.epoch}
    last = next((line for line in run.metrics() if place.items() <= line.items()), {})
    best = progress.best if by_validation else None
    document = {
        "name": resolved.name,
        "split": split,
        **figures.as_document(data.class_names),
        "checkpoint": checkpoint.name,
        "selected": f"best {spec.monitor} on validation" if by_validation else "last",
        "step": best.step if best else progress.step,
        "epoch": best.epoch if best else progress.epoch,
        "epochs": progress.epoch,
        "stopped_early": progress.epoch < spec.epochs,
        "train_loss": last.get("train_loss"),
        "train_top1": last.get("train_top1"),
        "params": _num_weights(model),
        "train_images_per_second": last.get("train_images_per_second"),
        "data_wait_share": last.get("data_wait_share"),
        "images_per_second": round(figures.num_samples / seconds, 1),
        "seconds": round(progress.seconds, 3),
    }
    if accelerator.is_main_process:
        document |= evidence(document, checkpoint)
        run.finish(document)
        tell_result(accelerator, resolved, run, document)
        if telling is not None:
            tell(Finished(run, resolved, data, per_image, trainer.report), telling)
    return Trained.of(document, run.path, figures.confusion)
