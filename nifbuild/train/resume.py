"""Whether, and from where, a run goes on."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from nifbuild.errors import Problem, RunError, SpecError, counted
from nifbuild.runs.checkpoint import Identity, Progress
from nifbuild.runs.directory import RunDirectory
from nifbuild.runs.intact import evaluated_weights
from nifbuild.runs.loaded import sound_labels
from nifbuild.runs.weights import load_model
from nifbuild.spec.same_training import load_stored
from nifbuild.spec.training import TrainSpec
from nifbuild.train.early_stopping import should_stop
from nifbuild.train.optim import lr_factor

if TYPE_CHECKING:
    from nifbuild.spec.resolve import Resolved
    from nifbuild.train.loop import Trainer


def checkpoint_to_resume(run: RunDirectory, identity: Identity, spec: TrainSpec) -> Path | None:
    """The checkpoint that a run goes on from; None where none was ever saved.

    Raises:
        SpecError: If the run is another one, or has done more than the spec wants.
        RunError: If checkpoints were saved and are gone, or a file cannot be read.
    """
    run.metrics()  # that it can be read is found out now
    checkpoints = run.checkpoints
    if not checkpoints:
        run.require_none_lost()
        if run.spec.is_file():
            identity.require_same_spec(run.spec.read_text(encoding="utf-8"), run.path)
        return None
    document = run.progress(checkpoints[-1])
    identity.require_same(document["identity"], run.path)
    _require_epochs(document["progress"]["epoch"], spec)
    return checkpoints[-1]


def _require_epochs(done: int, spec: TrainSpec) -> None:
    if done > spec.epochs:
        what = f"cannot resume: the run has begun epoch {done}, and train.epochs is {spec.epochs}"
        fix = f"give {done} epochs or more, or start another run with --out DIR or --overwrite"
        raise SpecError(Problem(what, path="train.epochs", fix=fix, code="resume"))


def goes_on(
    run: RunDirectory, checkpoint: Path | None, result: dict[str, Any], spec: TrainSpec
) -> bool:
    """Whether a complete run is to be trained for more epochs than it was."""
    if checkpoint is None:
        return False
    progress = Progress.from_document(run.progress(checkpoint)["progress"])
    is_final = progress.epoch == result.get("epochs")
    return is_final and progress.epoch < spec.epochs and not should_stop(spec, progress)


def check_complete(run: RunDirectory, resolved: "Resolved", name: str) -> None:
    """Raises RunError unless a complete run has all that its evaluation needs, in good order."""
    checkpoint = run.path / "checkpoints" / name
    if checkpoint not in run.checkpoints:
        fix = "copy it back, or start anew with --overwrite"
        if run.checkpoints:
            last = run.checkpoints[-1].name
            fix = f"copy it back, or delete metrics.json: --resume then goes on from {last}"
        what = f"{checkpoint} is missing, although metrics.json names it"
        raise RunError(Problem(what, fix=fix, code="load"))
    sound_labels(run, resolved, checkpoint)
    load_model(resolved, evaluated_weights(checkpoint))
    if run.best() is not None:
        run.find_checkpoint("best")


def note_other_epochs(trainer: "Trainer", checkpoint: Path) -> None:
    """Says what becomes of the learning rate where a run goes on for another number of epochs.

    Raises:
        SpecError: If more has been done than the spec wants.
    """
    spec, progress = trainer.spec, trainer.progress
    steps = trainer.steps_per_epoch
    _require_epochs(-(-progress.step // steps), spec)
    stored = load_stored(trainer.directory.progress(checkpoint)["identity"]["spec"])
    if stored is None or stored.spec.train.epochs == spec.epochs:
        return
    before = stored.spec.train
    text = f"train.epochs is {spec.epochs}, and was {before.epochs}"
    if 0 < progress.step < spec.epochs * steps:
        lr = spec.optimizer.lr * lr_factor(spec, progress.step, steps)
        text += f": the {counted(progress.step, 'step')} done had the learning rate of a schedule "
        text += f"over {counted(before.epochs, 'epoch')}; from here on it is that of one over "
        text += f"{spec.epochs}"
        text += f", {lr:.3g} at the next step"
    trainer.report.note(text)


def warn_lost_epochs(trainer: "Trainer") -> None:
    """Says which epochs `metrics.jsonl` no longer tells of."""
    found = {line["epoch"] for line in trainer.directory.metrics()}
    lost = [str(epoch) for epoch in range(1, trainer.progress.epoch + 1) if epoch not in found]
    if lost:
        which = (
            f"epoch {lost[0]}" if len(lost) == 1 else f"{len(lost)} epochs, {lost[0]} among them"
        )
        path = trainer.directory.path / "metrics.jsonl"
        trainer.report.warning(f"{path} has lost the figures of {which}")
