"""One step of the optimizer: the same in training and where its memory is measured."""

from dataclasses import dataclass
from typing import Protocol

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from torch import Tensor, nn

from nifbuild.machine.device import Placement
from nifbuild.machine.seeds import derive_seed, seed_device
from nifbuild.spec.pixel_data import IGNORED
from nifbuild.spec.training import TrainSpec
from nifbuild.train.ema import Ema
from nifbuild.train.objective import Objective
from nifbuild.train.optim import set_lr


class Augmentation(Protocol):
    """Bytes to the model's input while training; see `nifbuild.data.Preprocess`."""

    def train(self, images: Tensor, labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Images and targets: classes, or a probability for each; or classes of pixels."""


@dataclass(frozen=True)
class TrainingStep:
    """What a step needs.

    Everything random is drawn from seeds derived from the step, so that a run that was interrupted
    repeats what it would have done.

    Attributes:
        module: The model as built.
        model: The same, wrapped for several processes or compiled.
        ema: Follows `module`, where the spec has a moving average.
    """

    spec: TrainSpec
    accelerator: Accelerator
    module: nn.Module
    model: nn.Module
    ema: Ema | None
    optimizer: AcceleratedOptimizer
    objective: Objective
    augmentation: Augmentation
    place: Placement

    def __call__(self, batch: dict[str, Tensor], step: int, lr: float) -> Tensor:
        """Takes the step that follows `step` steps.

        Args:
            batch: `images` and `labels` of this process.
            step: From 0.
            lr: The learning rate.

        Returns:
            [2]: the mean loss of this process's images, without penalties; and the share of them
            whose class, or the most probable one of a blend, was found; or of the pixels.
        """
        spec, rank = self.spec, self.accelerator.process_index
        set_lr(self.optimizer, lr)
        total = torch.zeros(2, device=self.accelerator.device)
        for micro in range(spec.accumulate):
            # Every n-th image, so that however many processes share a batch, the same images meet.
            images = batch["images"][micro :: spec.accumulate]
            labels = batch["labels"][micro :: spec.accumulate]
            images, targets = self.augmentation.train(
                images, labels, seed=derive_seed(spec.seed, "augment", step, micro, rank)
            )
            seed_device(
                self.accelerator.device, derive_seed(spec.seed, "dropout", step, micro, rank)
            )
            with self.accelerator.accumulate(self.model):
                images = self.place.input(images)
                found = self.objective(self.model, images, targets, self.accelerator.autocast)
                self.accelerator.backward(found.loss + found.penalty)
                if spec.clip_norm is not None and self.accelerator.sync_gradients:
                    self.accelerator.clip_grad_norm_(self.model.parameters(), spec.clip_norm)
                self.optimizer.step()
                self.optimizer.zero_grad()
            total += torch.stack([found.loss.detach(), _share_found(found.logits, targets)])
        if self.ema is not None and not self.accelerator.optimizer_step_was_skipped:
            self.ema.update(self.module, step + 1)
        return total / spec.accumulate


def _share_found(logits: Tensor, targets: Tensor) -> Tensor:
    found = logits.detach().argmax(1)
    if targets.ndim == 3:
        return (found == targets).float().sum() / (targets != IGNORED).sum().clamp_min(1)
    wanted = targets if targets.ndim == 1 else targets.argmax(1)
    return (found == wanted).float().mean()
