"""Optimizers of the package pytorch-optimizer, for what torch has none of: large batches, Muon.

They step all tensors at once on every device.
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from nifbuild.errors import SpecError, not_installed
from nifbuild.spec.base import NonNegativeFloat, PositiveFloat
from nifbuild.spec.optimizers.base import FLOAT_BYTES, Alike, Moments, Momentum

if TYPE_CHECKING:
    import torch


def _library() -> Any:
    """The package."""
    try:
        import pytorch_optimizer
    except ImportError:
        where = "train.optimizer"
        raise SpecError(not_installed("pytorch-optimizer", "optimizers", path=where)) from None
    return pytorch_optimizer


class Lars(Momentum):
    """SGD whose steps are scaled to each tensor's own size, for large batches (arXiv 1708.03888).

    Needs the extra `nifbuild[optimizers]`.
    """

    name: Literal["lars"]
    """Which optimizer this is."""

    lr: PositiveFloat = 2.0
    """Peak learning rate, for the whole `batch_size`; the schedule scales it."""

    weight_decay: NonNegativeFloat = 5e-5
    """L2 penalty, added to the gradient. Biases and the scales and offsets of normalisation (all
    vectors) get none."""

    nesterov: bool = False
    """Nesterov's form of momentum. Without effect where `momentum` is 0."""

    trust_coefficient: PositiveFloat = 1e-3
    """Length of a step of a tensor at a rate of 1, as a share of the tensor's own; biases and the
    scales and offsets of normalisation are stepped by the rate alone."""

    def build(self, groups: Sequence[Any]) -> "torch.optim.Optimizer":
        """Pytorch-optimizer's."""
        optimizer: torch.optim.Optimizer = _library().LARS(
            groups,
            lr=self.lr,
            momentum=self.momentum,
            nesterov=self.looks_ahead,
            trust_coefficient=self.trust_coefficient,
        )
        return optimizer

    def workspace(self, weights: Alike, *, at_once: bool) -> int:
        """Six numbers for each tensor, such as lengths; gradients are changed where they are."""
        return 6 * FLOAT_BYTES * len(weights.shapes)


class Lamb(Moments):
    """Adam whose steps are scaled to each tensor's own size, for large batches (arXiv 1904.00962).

    Without correction of the moments' bias, as in the paper's algorithm. Needs the extra
    `nifbuild[optimizers]`.
    """

    name: Literal["lamb"]
    """Which optimizer this is."""

    lr: PositiveFloat = 5e-3
    """Peak learning rate, for the whole `batch_size`; the schedule scales it."""

    weight_decay: NonNegativeFloat = 0.02
    """Share of a weight that is added to its step before the step is scaled. Biases and the scales
    and offsets of normalisation (all vectors) get none."""

    eps: PositiveFloat = 1e-6
    """Added to the denominator."""

    step_bytes: ClassVar[int] = 12
    """The lengths of the tensor and of its step, and their ratio."""

    def build(self, groups: Sequence[Any]) -> "torch.optim.Optimizer":
        """Pytorch-optimizer's."""
        optimizer: torch.optim.Optimizer = _library().Lamb(
            groups,
            lr=self.lr,
            betas=self.betas,
            eps=self.eps,
            weight_decouple=False,  # decay is scaled, too
            adam_debias=True,  # else the rate is divided by the first moment's bias
        )
        return optimizer

    def workspace(self, weights: Alike, *, at_once: bool) -> int:
        """All steps, on every device."""
        return sum(weights.sizes)


class Muon(Moments):
    """Momentum made orthogonal for hidden layers (Jordan 2024), AdamW for all other weights.

    Hidden are the weights of ordinary convolutions of one group, 1x1 ones beside filters as large
    as the image included, and of linear layers, but for the first and the last layer. Their steps
    are scaled to be as long as AdamW's (arXiv 2502.16982), so that one learning rate and one weight
    decay serve both. Needs the extra `nifbuild[optimizers]`.
    """

    name: Literal["muon"]
    """Which optimizer this is."""

    weight_decay: NonNegativeFloat = 0.05
    """Share of a weight, times the learning rate, taken off at each step. Biases and the scales and
    offsets of normalisation (all vectors) get none."""

    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.95
    """Share of the running mean of the gradient that is kept, for hidden layers."""

    nesterov: bool = True
    """Nesterov's form of momentum, for hidden layers."""

    orthogonal: ClassVar[bool] = True

    @property
    def num_states(self) -> int:
        """The momentum of a hidden layer."""
        return 1

    def kept(self, weights: Alike) -> int:
        """AdamW's two means for the others."""
        return (1 if weights.orthogonal else 2) * sum(weights.sizes)

    def build(self, groups: Sequence[Any]) -> "torch.optim.Optimizer":
        """Pytorch-optimizer's."""
        optimizer: torch.optim.Optimizer = _library().Muon(
            groups,
            lr=self.lr,
            momentum=self.momentum,
            nesterov=self.nesterov,
            use_adjusted_lr=True,
            adamw_lr=self.lr,
            adamw_betas=self.betas,
            adamw_eps=self.eps,
        )
        return optimizer

    def workspace(self, weights: Alike, *, at_once: bool) -> int:
        """Matrices of one shape are iterated together, in 16 bits.

        That takes two of each, two squares of its shorter side and, if there are several, all in
        one tensor of 32 bits. Then the steps are added, on a CPU one by one in 32 bits. What
        oneDNN takes for products in 16 bits, about a matrix more, is not counted.
        """
        if not weights.orthogonal:
            return sum(weights.sizes)
        sides = [(rows, math.prod(others)) for rows, *others in weights.shapes]
        peaks = []
        for (short, long), count in Counter((min(pair), max(pair)) for pair in sides).items():
            matrix, square = short * long, short * short
            iterated = count * (4 * matrix + 4 * square + (4 * matrix if count > 1 else 0))
            added = count * 2 * matrix + (0 if at_once else 4 * matrix)
            peaks.append(max(iterated, added))
        return max(peaks)
