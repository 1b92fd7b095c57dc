"""The training loop."""

import math
import signal
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from torch import Tensor, nn

from nifbuild.data.batches import epoch_batches
from nifbuild.errors import InterruptedRun, Problem, RunError
from nifbuild.evaluate.figures import Figures, Hearing, evaluate
from nifbuild.machine.device import share_from_first
from nifbuild.machine.progress import Reporter
from nifbuild.machine.sharding import weights_are_shared
from nifbuild.machine.signals import Interrupt
from nifbuild.runs.checkpoint import Best, Identity, Progress, forget_state, pack, unpack
from nifbuild.runs.directory import RunDirectory
from nifbuild.runs.documents import OLDER_CHECKPOINT
from nifbuild.runs.intact import fingerprints, require_saved
from nifbuild.spec.training import TrainSpec, gain
from nifbuild.train.divergence import Diverged, require_finite
from nifbuild.train.early_stopping import is_improvement, should_stop
from nifbuild.train.meters import Pace, StepFigures, Timed
from nifbuild.train.optim import lr_factor
from nifbuild.train.step import TrainingStep
from nifbuild.train.trackers import tell_figures, tracked_figures


@dataclass
class Trainer:
    """One run in progress.

    A batch of the loader is one optimizer step.

    Attributes:
        step: Takes them.
        train_batches: A prepared loader; one batch for each optimizer step.
        validate_on: The split that is evaluated during training; None where there is none.
        chooses: Whether that split may tell which checkpoint is best.
    """

    spec: TrainSpec
    accelerator: Accelerator
    directory: RunDirectory
    identity: Identity
    step: TrainingStep
    train_batches: Any
    validation_batches: Any
    validate_on: str | None
    chooses: bool
    num_classes: int
    interrupt: Interrupt
    report: Reporter
    progress: Progress = field(default_factory=Progress)

    def __post_init__(self) -> None:
        self.steps_per_epoch = len(self.train_batches)
        self.steps = StepFigures(self.accelerator, self.directory)
        self.counted_until = time.monotonic()
        self.module, self.model = self.step.module, self.step.model
        self.ema, self.optimizer, self.place = self.step.ema, self.step.optimizer, self.step.place

    def run(self) -> None:
        """Trains to the end, from wherever `progress` is."""
        self.report.begin(self.spec.epochs, self.steps_per_epoch, self.progress.step)
        if not self.spec.epochs:
            self.save()
        while not self.is_over:
            pace = self.train_epoch()
            figures = self.validate() if self.validation_due else None
            self.finish_epoch(pace, figures)
        improved = self.progress.improved
        if improved is not None and self.progress.epoch < self.spec.epochs:
            assert self.spec.early_stopping is not None  # as an improvement was counted
            least = self.spec.early_stopping.min_delta
            by = f" by more than {least:g}" if least else ""
            what = f"{self.spec.monitor} has not improved{by} since epoch {improved.epoch}"
            self.report.note(f"stopped early, after epoch {self.progress.epoch}: {what}")

    @property
    def is_over(self) -> bool:
        """Whether no epoch follows."""
        return self.progress.epoch >= self.spec.epochs or should_stop(self.spec, self.progress)

    def train_epoch(self) -> Pace:
        """What is left of the epoch's steps; returns how fast they were done."""
        self.model.train()
        started, images = time.monotonic(), 0
        batches = Timed(self.remaining_batches())
        for batch in batches:
            figures = self.train_step(batch)
            self.progress.step += 1
            self.add_steps(self.steps.add(self.progress.step, figures))
            images += self.spec.batch_size
            speed = images / (time.monotonic() - started)
            self.report.step(self.progress.step, self.steps.last, speed, self.place.peak_memory)
            if self.checkpoint_due and self.progress.step % self.steps_per_epoch:
                self.save()
            self.leave_if_asked()
        self.add_steps(self.steps.read())
        seconds = time.monotonic() - started
        return Pace(images / seconds, batches.seconds / seconds)

    def add_steps(self, figures: list[tuple[float, float]]) -> None:
        """Adds the figures of steps up to the current one to those of the epoch."""
        self.progress.add_steps(figures)
        for step, (loss, _) in enumerate(figures, start=self.progress.step - len(figures) + 1):
            self.track({"loss/step": loss}, step)

    def track(self, figures: dict[str, float], step: int) -> None:
        """Gives figures to the trackers."""
        tell_figures(self.accelerator, self.directory, figures, step)

    def remaining_batches(self) -> Iterator[dict[str, Tensor]]:
        """The epoch's batches from the current step on, in the epoch's order."""
        done = self.progress.step - self.progress.epoch * self.steps_per_epoch
        yield from epoch_batches(self.train_batches, self.progress.epoch, done, self.accelerator)

    def train_step(self, batch: dict[str, Tensor]) -> Tensor:
        """One optimizer step; returns loss and accuracy [2] of this process's images."""
        step = self.progress.step
        return self.step(batch, step, self.lr_at(step))

    def lr_at(self, step: int) -> float:
        """The learning rate of the step that follows `step` steps."""
        return self.spec.optimizer.lr * lr_factor(self.spec, step, self.steps_per_epoch)

    @property
    def evaluated(self) -> nn.Module:
        """The weights that count."""
        return self.module if self.ema is None else self.ema.module

    @property
    def validation_due(self) -> bool:
        """Whether the epoch in progress ends with an evaluation."""
        epoch = self.progress.epoch + 1
        due = epoch % self.spec.evaluate_every == 0 or epoch == self.spec.epochs
        return due and self.validate_on is not None

    def validate(self) -> Figures:
        """Evaluates on the validation split."""
        assert self.validate_on is not None
        # Each process has running statistics of its own unless they are synchronised.
        share_from_first(self.evaluated.buffers())
        figures = self.evaluate_on(self.evaluated, self.validate_on, self.validation_batches)
        if not math.isfinite(figures.loss):
            what = (
                f"the loss on {self.validate_on} is {figures.loss} after step {self.progress.step}"
            )
            raise Diverged(what, self.progress.step, self.directory, evaluating=True)
        return figures

    def evaluate_on(
        self, model: nn.Module, split: str, batches: Any, hear: Hearing | None = None
    ) -> Figures:
        """Evaluates a model on a split, ready to be interrupted."""
        self.report.evaluating(split, len(batches))

        def after_batch() -> None:
            self.report.batch()
            self.leave_if_asked()

        return evaluate(
            model,
            batches,
            self.place.evaluation_input,
            self.accelerator,
            self.num_classes,
            after_batch,
            hear,
        )

    def finish_epoch(self, pace: Pace, figures: Figures | None) -> None:
        """Records the epoch and saves what has to be saved."""
        progress = self.progress
        progress.epoch += 1
        self.count_time()
        is_best = self.is_best(figures)
        if self.chooses and figures is not None:
            figure = getattr(figures, self.spec.monitor)
            if is_best:
                progress.best = Best(progress.step, progress.epoch, figure)
            if is_improvement(self.spec, figure, progress):
                progress.improved = Best(progress.step, progress.epoch, figure)
        self.record(pace, figures, is_best)
        progress.loss_sum, progress.top1_sum = 0.0, 0.0
        if is_best or self.checkpoint_due or self.is_over:
            self.save()

    def is_best(self, figures: Figures | None) -> bool:
        """Whether no figures before are better; of equals, the later weights have settled more."""
        if figures is None or not self.chooses:
            return False
        if self.progress.best is None:
            return True
        figure, best = getattr(figures, self.spec.monitor), self.progress.best.figure
        return gain(self.spec.monitor, figure, best) >= 0

    def record(self, pace: Pace, figures: Figures | None, is_best: bool) -> None:
        """Writes the epoch's figures."""
        top1_sum = self.progress.top1_sum
        line: dict[str, Any] = {
            "step": self.progress.step,
            "epoch": self.progress.epoch,
            "lr": self.lr_at(self.progress.step - 1),
            "train_loss": self.progress.loss_sum / self.steps_per_epoch,
            "train_top1": None if top1_sum is None else top1_sum / self.steps_per_epoch,
            "train_images_per_second": round(pace.images_per_second, 1),
            "data_wait_share": round(pace.data_wait_share, 4),
            "seconds": round(self.progress.seconds, 3),
        }
        if figures is not None:
            evaluation = {"loss": figures.loss, "top1": figures.top1, "top5": figures.top5}
            if figures.miou is not None:
                evaluation["miou"] = figures.miou
            line |= {"split": self.validate_on, **evaluation, "best": is_best}
        if self.accelerator.is_main_process:
            self.directory.add_metrics(line)
        self.track(tracked_figures(line), self.progress.step)
        self.report.epoch(line)

    @property
    def checkpoint_due(self) -> bool:
        """Whether the current step is one after which the spec wants a checkpoint."""
        interval = max(1, round(self.spec.checkpoint_every * self.steps_per_epoch))
        return self.progress.step % interval == 0

    def count_time(self) -> None:
        """Adds the time since the last call to that of the run."""
        now = time.monotonic()
        self.progress.seconds += now - self.counted_until
        self.counted_until = now

    def save(self) -> None:
        """Saves a checkpoint; every process has to call it, the first one writes."""
        self.add_steps(self.steps.read())
        require_finite(self.module, self.progress.step, self.directory)
        self.count_time()
        is_first = self.accelerator.is_main_process
        if not (is_first or weights_are_shared()):
            return
        average = None if self.ema is None else self.ema.module
        files, state = pack(self.module, average, self.optimizer, self.progress, self.identity)
        if not is_first:
            return
        state |= fingerprints(files, self.directory.described)
        self.directory.save_checkpoint(self.progress.step, files, state, self.identity.is_same)
        self.tidy_checkpoints()

    def tidy_checkpoints(self) -> None:
        """Points to the best checkpoint and deletes old ones: what follows a save, or a kill in it.

        A run that was killed right after it had saved its last checkpoint saves no other one.
        """
        best = self.progress.best
        if best is not None:
            name = self.directory.checkpoint_path(best.step).name
            self.directory.point_to_best({"checkpoint": name, **asdict(best)})
        best_step = None if best is None else best.step
        self.directory.prune(self.spec.keep, best_step, self.identity.is_same)

    def go_back_to(self, checkpoint: Path) -> None:
        """Puts weights, optimizer and progress to where a checkpoint has them."""
        require_saved(checkpoint, self.directory.described)
        average = None if self.ema is None else self.ema.module
        unpack(checkpoint, self.module, average, self.optimizer)
        progress = Progress.from_document(self.directory.progress(checkpoint)["progress"])
        within = progress.step - progress.epoch * self.steps_per_epoch
        if not 0 <= within <= self.steps_per_epoch:
            what = f"{checkpoint} does not fit the run: step {progress.step} is not of the epoch "
            what += f"after {progress.epoch} epochs of {self.steps_per_epoch} steps"
            raise RunError(Problem(what, fix=OLDER_CHECKPOINT, code="load"))
        self.progress = progress

    def go_back_to_start(self, fresh: nn.Module) -> None:
        """The same, to before the first step; `fresh` has the weights of then."""
        for module in (self.module, *(() if self.ema is None else (self.ema.module,))):
            module.load_state_dict(fresh.state_dict())
        forget_state(self.optimizer)
        self.progress = Progress()

    def leave_if_asked(self) -> None:
        """Saves and raises InterruptedRun where a signal has asked any process to stop."""
        number = self.interrupt.requested()
        if number:
            self.save()
            self.accelerator.wait_for_everyone()  # else a launcher might end the one that saves
            path = self.directory.checkpoint_path(self.progress.step)
            name = signal.Signals(number).name
            raise InterruptedRun(
                Problem(
                    f"interrupted by {name} after step {self.progress.step}; saved {path}",
                    fix="the same command with --resume continues exactly there",
                    code="interrupted",
                ),
                number,
            )
