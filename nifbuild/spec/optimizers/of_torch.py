"""Torch's optimizers, by their names."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from nifbuild.spec.base import NonNegativeFloat, PositiveFloat, Share
from nifbuild.spec.optimizers.base import Adaptive, Alike, Moments, Momentum

if TYPE_CHECKING:
    import torch


class Sgd(Momentum):
    """Stochastic gradient descent with momentum."""

    name: Literal["sgd"]
    """Which optimizer this is."""

    lr: PositiveFloat = 0.1
    """Peak learning rate, for the whole `batch_size`; the schedule scales it."""

    weight_decay: NonNegativeFloat = 5e-4
    """L2 penalty, added to the gradient. Biases and the scales and offsets of normalisation (all
    vectors) get none."""

    def build(self, groups: Sequence[Any]) -> "torch.optim.Optimizer":
        """Torch's."""
        import torch

        return torch.optim.SGD(
            groups, lr=self.lr, momentum=self.momentum, nesterov=self.looks_ahead
        )

    def workspace(self, weights: Alike, *, at_once: bool) -> int:
        """Other gradients: decayed, and looking ahead."""
        if at_once:
            return sum(weights.sizes) if weights.decayed else 0
        copies = weights.decayed + self.looks_ahead
        return copies * max(weights.sizes)


class AdamW(Moments):
    """Adam with decoupled weight decay (arXiv 1711.05101)."""

    name: Literal["adamw"] = "adamw"
    """Which optimizer this is."""

    weight_decay: NonNegativeFloat = 0.05
    """Share of a weight, times the learning rate, taken off at each step. Biases and the scales and
    offsets of normalisation (all vectors) get none."""

    def build(self, groups: Sequence[Any]) -> "torch.optim.Optimizer":
        """Torch's."""
        import torch

        return torch.optim.AdamW(groups, lr=self.lr, betas=self.betas, eps=self.eps)


class Adam(Moments):
    """Adam (arXiv 1412.6980)."""

    name: Literal["adam"]
    """Which optimizer this is."""

    weight_decay: NonNegativeFloat = 0.0
    """L2 penalty, added to the gradient; see adamw for a decay apart from it. Biases and the scales
    and offsets of normalisation (all vectors) get none."""

    copies: ClassVar[tuple[int, int]] = (2, 3)

    def build(self, groups: Sequence[Any]) -> "torch.optim.Optimizer":
        """Torch's."""
        import torch

        return torch.optim.Adam(groups, lr=self.lr, betas=self.betas, eps=self.eps)


class NAdam(Moments):
    """Adam with Nesterov's momentum (Dozat, ICLR workshop 2016), and decoupled weight decay."""

    name: Literal["nadam"]
    """Which optimizer this is."""

    lr: PositiveFloat = 2e-3
    """Peak learning rate, for the whole `batch_size`; the schedule scales it."""

    weight_decay: NonNegativeFloat = 0.05
    """Share of a weight, times the learning rate, taken off at each step. Biases and the scales and
    offsets of normalisation (all vectors) get none."""

    step_bytes: ClassVar[int] = 8
    """Also the product of its momenta."""

    def build(self, groups: Sequence[Any]) -> "torch.optim.Optimizer":
        """Torch's."""
        import torch

        return torch.optim.NAdam(
            groups, lr=self.lr, betas=self.betas, eps=self.eps, decoupled_weight_decay=True
        )


class RAdam(Moments):
    """Adam whose first steps are rectified (arXiv 1908.03265), with decoupled weight decay."""

    name: Literal["radam"]
    """Which optimizer this is."""

    weight_decay: NonNegativeFloat = 0.05
    """Share of a weight, times the learning rate, taken off at each step. Biases and the scales and
    offsets of normalisation (all vectors) get none."""

    def build(self, groups: Sequence[Any]) -> "torch.optim.Optimizer":
        """Torch's."""
        import torch

        return torch.optim.RAdam(
            groups, lr=self.lr, betas=self.betas, eps=self.eps, decoupled_weight_decay=True
        )

    def workspace(self, weights: Alike, *, at_once: bool) -> int:
        """Five of the largest tensor, one by one; nothing is left of the one before."""
        return sum(weights.sizes) if at_once else 5 * max(weights.sizes)


class RmsProp(Adaptive):
    """RMSprop (Hinton's lecture 6e), as MobileNets and EfficientNets were trained."""

    name: Literal["rmsprop"]
    """Which optimizer this is."""

    lr: PositiveFloat = 1e-2
    """Peak learning rate, for the whole `batch_size`; the schedule scales it."""

    weight_decay: NonNegativeFloat = 1e-5
    """L2 penalty, added to the gradient. Biases and the scales and offsets of normalisation (all
    vectors) get none."""

    momentum: Share = 0.9
    """Share of the previous update that is kept."""

    alpha: Share = 0.9
    """Decay rate of the running mean of the gradient's square."""

    eps: PositiveFloat = 1e-8
    """Added to the denominator."""

    copies: ClassVar[tuple[int, int]] = (1, 2)
    copies_at_once: ClassVar[tuple[int, int]] = (1, 2)

    @property
    def num_states(self) -> int:
        """The mean, and the momentum."""
        return 1 + int(self.momentum > 0)

    def build(self, groups: Sequence[Any]) -> "torch.optim.Optimizer":
        """Torch's."""
        import torch

        return torch.optim.RMSprop(
            groups, lr=self.lr, momentum=self.momentum, alpha=self.alpha, eps=self.eps
        )


class Adagrad(Adaptive):
    """Adagrad (Duchi, Hazan, Singer, JMLR 12, 2011): squares are added up, never forgotten."""

    name: Literal["adagrad"]
    """Which optimizer this is."""

    lr: PositiveFloat = 1e-2
    """Peak learning rate, for the whole `batch_size`; the schedule scales it."""

    weight_decay: NonNegativeFloat = 0.0
    """L2 penalty, added to the gradient. Biases and the scales and offsets of normalisation (all
    vectors) get none."""

    eps: PositiveFloat = 1e-10
    """Added to the denominator."""

    copies: ClassVar[tuple[int, int]] = (1, 2)
    copies_at_once: ClassVar[tuple[int, int]] = (2, 2)

    @property
    def num_states(self) -> int:
        """The sum."""
        return 1

    def build(self, groups: Sequence[Any]) -> "torch.optim.Optimizer":
        """Torch's."""
        import torch

        return torch.optim.Adagrad(groups, lr=self.lr, eps=self.eps)
