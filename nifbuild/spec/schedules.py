"""What YAML may say of the learning rate over time, and what it comes to at each step."""

import math
from typing import Annotated, Literal

from pydantic import Field, Tag

from nifbuild.spec.base import NonNegativeFloat, PositiveFloat, PositiveInt, Share, Spec, by_name


class Schedule(Spec):
    """The field of every schedule."""

    warmup_epochs: NonNegativeFloat | None = None
    """Epochs in which the learning rate rises linearly from near 0 to its peak; may be a fraction.
    Null: a twentieth of all epochs."""

    def share_of_peak(self, step: int, epochs: int, steps_per_epoch: int) -> float:
        """The share of the peak learning rate that optimizer step `step` (from 0) uses."""
        share = epochs / 20 if self.warmup_epochs is None else self.warmup_epochs
        warmup = round(share * steps_per_epoch)
        if step < warmup:
            return (step + 1) / (warmup + 1)
        # 1 is reached after the last step: one with rate 0 would be wasted.
        progress = (step - warmup) / (epochs * steps_per_epoch - warmup)
        return self.after_warmup(progress, step / steps_per_epoch)

    def after_warmup(self, progress: float, epoch: float) -> float:
        """The same after the warm-up.

        Args:
            progress: Share of the steps after it that are done.
            epoch: Epochs that are done, from the start.
        """
        raise NotImplementedError


class Cosine(Schedule):
    """After the warm-up, half a cosine from the peak to `min_lr` at the end of the last epoch."""

    name: Literal["cosine"] = "cosine"
    """Which schedule this is."""

    min_lr: Share = 0.0
    """Learning rate at the end, as a share of the peak."""

    def after_warmup(self, progress: float, epoch: float) -> float:
        """Half a cosine."""
        return self.min_lr + (1 - self.min_lr) * (1 + math.cos(math.pi * progress)) / 2


class LinearSchedule(Schedule):
    """After the warm-up, a straight line from the peak to `min_lr` at the end of the last epoch."""

    name: Literal["linear"]
    """Which schedule this is."""

    min_lr: Share = 0.0
    """Learning rate at the end, as a share of the peak."""

    def after_warmup(self, progress: float, epoch: float) -> float:
        """A line."""
        return 1 - (1 - self.min_lr) * progress


class Constant(Schedule):
    """After the warm-up, the peak."""

    name: Literal["constant"]
    """Which schedule this is."""

    def after_warmup(self, progress: float, epoch: float) -> float:
        """The peak."""
        return 1.0


class Step(Schedule):
    """After the warm-up, the peak, cut at the given epochs."""

    name: Literal["step"]
    """Which schedule this is."""

    at_epochs: Annotated[tuple[PositiveInt, ...], Field(min_length=1)]
    """Epochs after which the learning rate is multiplied by `factor`, counted from the start."""

    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """The multiplier."""

    def after_warmup(self, progress: float, epoch: float) -> float:
        """The peak, cut as often as that."""
        return float(self.factor ** sum(epoch >= at for at in self.at_epochs))


class Exponential(Schedule):
    """After the warm-up, the peak, cut again and again, as EfficientNets were trained."""

    name: Literal["exponential"]
    """Which schedule this is."""

    factor: Annotated[float, Field(gt=0, lt=1)] = 0.97
    """The multiplier."""

    every_epochs: PositiveFloat = 2.4
    """Epochs between one cut and the next, counted from the start; may be a fraction."""

    def after_warmup(self, progress: float, epoch: float) -> float:
        """The peak, cut as often as that."""
        return float(self.factor ** (epoch // self.every_epochs))


ScheduleSpec = Annotated[
    Annotated[Cosine, Tag("cosine")]
    | Annotated[LinearSchedule, Tag("linear")]
    | Annotated[Constant, Tag("constant")]
    | Annotated[Step, Tag("step")]
    | Annotated[Exponential, Tag("exponential")],
    by_name("cosine", "linear", "constant", "step", "exponential"),
]
