"""What YAML may say of the optimizer.

Each optimizer is torch's of that name; what it keeps and takes beside the weights stands with it,
for the prediction of memory.
"""

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, Tag, model_validator

from nifbuild.spec.base import NonNegativeFloat, PositiveFloat, Share, Spec, by_name
from nifbuild.spec.select import MAX_SELECTORS, Selector

if TYPE_CHECKING:
    import torch


class OwnSettings(Spec):
    """Settings of the optimizer for some of the weights."""

    lr_factor: PositiveFloat = 1.0
    """Multiplies the learning rate, at every step of the schedule."""

    weight_decay: NonNegativeFloat | None = None
    """Takes the place of the optimizer's. Biases and all vectors get none here, too. Null: the
    optimizer's."""


class FilterSettings(OwnSettings):
    """Settings for what makes filters as large as the image.

    A filter of unit energy has weights several times as large as an ordinary one's, so that with
    Adam it would move as much more slowly; and every implementation of implicit filters that is
    known to us trains what makes them without weight decay.
    """

    lr_factor: PositiveFloat = 5.0
    """Multiplies the learning rate, at every step of the schedule."""

    weight_decay: NonNegativeFloat | None = 0.0
    """Takes the place of the optimizer's. Null: the optimizer's."""


class ParameterGroup(OwnSettings):
    """Weights that are trained with settings of their own."""

    match: Selector
    """Selector of weights, or of modules with all their weights: `*` stands for anything within one
    name, `**` for any number of names."""

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.model_fields_set & {"lr_factor", "weight_decay"}:
            raise ValueError("expected `lr_factor`, `weight_decay` or both")
        return self


class Optimizer(Spec):
    """The fields of every optimizer."""

    name: str
    """Which optimizer this is."""

    lr: PositiveFloat
    """Peak learning rate, for the whole `batch_size`; the schedule scales it."""

    weight_decay: NonNegativeFloat
    """How weights are kept small."""

    filters: FilterSettings | None = FilterSettings()
    """Settings for what makes the filters of convolutions as large as the image: the weights of
    their small networks, or the free weights of their spectra; not for 1x1 convolutions and biases
    beside them. A model without such filters takes no notice, so that one recipe serves every kind
    of convolution. Null: as all weights."""

    groups: Annotated[
        tuple[ParameterGroup, ...], Field(strict=False, max_length=MAX_SELECTORS)
    ] = ()
    """Settings for weights by name. The first group that selects a weight counts, before
    `filters`."""

    step_bytes: ClassVar[int] = 0
    """What it keeps for each tensor of weights whatever its size: a count of steps, say."""

    @property
    def num_states(self) -> int:
        """Numbers that it keeps for each weight from step to step."""
        raise NotImplementedError

    def build(self, groups: Sequence[Any]) -> "torch.optim.Optimizer":
        """The optimizer over groups of parameters, as torch takes them."""
        raise NotImplementedError

    def workspace(self, sizes: Sequence[int], decayed: bool, *, at_once: bool) -> int:
        """Bytes that a step takes and gives back.

        Args:
            sizes: Bytes of the tensors of a group.
            decayed: Whether the group has weight decay.
            at_once: Whether torch steps all of them together, as on CUDA, or one by one.
        """
        raise NotImplementedError


class _Adaptive(Optimizer):
    """Those that divide by the root of a mean of squares."""

    step_bytes: ClassVar[int] = 4

    copies: ClassVar[tuple[int, int]] = (2, 2)
    """What a step makes of each tensor, without weight decay and with it, one tensor by one: the
    root, that divided, another gradient."""

    copies_at_once: ClassVar[tuple[int, int]] = (1, 1)
    """The same where all tensors are stepped together."""

    def workspace(self, sizes: Sequence[int], decayed: bool, *, at_once: bool) -> int:
        """These copies and, one by one, what the tensor before has left."""
        if at_once:
            return self.copies_at_once[decayed] * sum(sizes)
        pairs = itertools.pairwise([0, *sizes])
        return max(before + self.copies[decayed] * size for before, size in pairs)


class Sgd(Optimizer):
    """Stochastic gradient descent with momentum."""

    name: Literal["sgd"]
    """Which optimizer this is."""

    lr: PositiveFloat = 0.1
    """Peak learning rate, for the whole `batch_size`; the schedule scales it."""

    weight_decay: NonNegativeFloat = 5e-4
    """L2 penalty, added to the gradient. Biases and the scales and offsets of normalisation (all
    vectors) get none."""

    momentum: Share = 0.9
    """Share of the previous update that is kept. 0: plain gradient descent."""

    nesterov: bool = True
    """Nesterov's form of momentum. Without effect where `momentum` is 0."""

    @property
    def num_states(self) -> int:
        """The momentum."""
        return int(self.momentum > 0)

    def build(self, groups: Sequence[Any]) -> "torch.optim.Optimizer":
        """Torch's."""
        import torch

        nesterov = self.nesterov and self.momentum > 0
        return torch.optim.SGD(groups, lr=self.lr, momentum=self.momentum, nesterov=nesterov)

    def workspace(self, sizes: Sequence[int], decayed: bool, *, at_once: bool) -> int:
        """Other gradients: decayed, and looking ahead."""
        if at_once:
            return sum(sizes) if decayed else 0
        return (decayed + bool(self.nesterov and self.momentum)) * max(sizes)


class _Moments(_Adaptive):
    """Those of Adam's family."""

    lr: PositiveFloat = 1e-3
    """Peak learning rate, for the whole `batch_size`; the schedule scales it."""

    betas: tuple[Share, Share] = (0.9, 0.999)
    """Decay rates of the running means of the gradient and of its square."""

    eps: PositiveFloat = 1e-8
    """Added to the denominator."""

    @property
    def num_states(self) -> int:
        """Two means."""
        return 2


class AdamW(_Moments):
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


class Adam(_Moments):
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


class NAdam(_Moments):
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


class RAdam(_Moments):
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

    def workspace(self, sizes: Sequence[int], decayed: bool, *, at_once: bool) -> int:
        """Five of the largest tensor, one by one; nothing is left of the one before."""
        return sum(sizes) if at_once else 5 * max(sizes)


class RmsProp(_Adaptive):
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


class Adagrad(_Adaptive):
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


OPTIMIZERS: dict[str, type[Optimizer]] = {
    "adamw": AdamW,
    "adam": Adam,
    "nadam": NAdam,
    "radam": RAdam,
    "rmsprop": RmsProp,
    "adagrad": Adagrad,
    "sgd": Sgd,
}

OptimizerSpec = Annotated[
    Annotated[AdamW, Tag("adamw")]
    | Annotated[Adam, Tag("adam")]
    | Annotated[NAdam, Tag("nadam")]
    | Annotated[RAdam, Tag("radam")]
    | Annotated[RmsProp, Tag("rmsprop")]
    | Annotated[Adagrad, Tag("adagrad")]
    | Annotated[Sgd, Tag("sgd")],
    by_name(*OPTIMIZERS),
]
