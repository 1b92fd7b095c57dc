"""What YAML may say of the optimizer.

Each optimizer is torch's of that name, or pytorch-optimizer's where torch has none; what it keeps
and takes beside the weights stands with it, for the prediction of memory.
"""

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, Tag, model_validator

from nifbuild.errors import Mark, Problem, SpecError
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


_FLOAT_BYTES = 4


@dataclass(frozen=True, slots=True)
class Alike:
    """Weights that an optimizer steps alike.

    Attributes:
        shapes: Of the tensors.
        decayed: Whether they have weight decay.
        orthogonal: Whether they are matrices whose updates are made orthogonal.
    """

    shapes: Sequence[Sequence[int]]
    decayed: bool
    orthogonal: bool = False

    @property
    def sizes(self) -> list[int]:
        """Bytes of the tensors."""
        return [_FLOAT_BYTES * math.prod(shape) for shape in self.shapes]


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

    orthogonal: ClassVar[bool] = False
    """Whether it makes updates of hidden matrices orthogonal, and of those alone."""

    step_bytes: ClassVar[int] = 0
    """What it keeps for each tensor of weights whatever its size: a count of steps, say."""

    @property
    def num_states(self) -> int:
        """Numbers that it keeps for each weight from step to step, at least."""
        raise NotImplementedError

    def kept(self, weights: Alike) -> int:
        """Bytes that it keeps from step to step."""
        return self.num_states * sum(weights.sizes) + self.step_bytes * len(weights.sizes)

    def build(self, groups: Sequence[Any]) -> "torch.optim.Optimizer":
        """The optimizer over groups of parameters, as torch takes them."""
        raise NotImplementedError

    def workspace(self, weights: Alike, *, at_once: bool) -> int:
        """Bytes that a step takes and gives back.

        Args:
            weights: What is stepped.
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

    def workspace(self, weights: Alike, *, at_once: bool) -> int:
        """These copies and, one by one, what the tensor before has left."""
        if at_once:
            return self.copies_at_once[weights.decayed] * sum(weights.sizes)
        pairs = itertools.pairwise([0, *weights.sizes])
        return max(before + self.copies[weights.decayed] * size for before, size in pairs)


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

    def workspace(self, weights: Alike, *, at_once: bool) -> int:
        """Other gradients: decayed, and looking ahead."""
        if at_once:
            return sum(weights.sizes) if weights.decayed else 0
        copies = weights.decayed + bool(self.nesterov and self.momentum)
        return copies * max(weights.sizes)


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

    def workspace(self, weights: Alike, *, at_once: bool) -> int:
        """Five of the largest tensor, one by one; nothing is left of the one before."""
        return sum(weights.sizes) if at_once else 5 * max(weights.sizes)


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


def _library() -> Any:
    """The package pytorch-optimizer."""
    try:
        import pytorch_optimizer
    except ImportError:
        raise SpecError(
            Problem(
                "the package pytorch-optimizer, which has this optimizer, is not installed",
                Mark("train.optimizer"),
                fix="pip install 'nifbuild[optimizers]'",
                code="package",
            )
        ) from None
    return pytorch_optimizer


class Lars(Optimizer):
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

    momentum: Share = 0.9
    """Share of the previous update that is kept. 0: plain gradient descent."""

    nesterov: bool = False
    """Nesterov's form of momentum. Without effect where `momentum` is 0."""

    trust_coefficient: PositiveFloat = 1e-3
    """Length of a step of a tensor at a rate of 1, as a share of the tensor's own; biases and the
    scales and offsets of normalisation are stepped by the rate alone."""

    @property
    def num_states(self) -> int:
        """The momentum."""
        return int(self.momentum > 0)

    def build(self, groups: Sequence[Any]) -> "torch.optim.Optimizer":
        """Pytorch-optimizer's."""
        optimizer: torch.optim.Optimizer = _library().LARS(
            groups,
            lr=self.lr,
            momentum=self.momentum,
            nesterov=self.nesterov and self.momentum > 0,
            trust_coefficient=self.trust_coefficient,
        )
        return optimizer

    def workspace(self, weights: Alike, *, at_once: bool) -> int:
        """Nothing: gradients are changed where they are."""
        return 0


class Lamb(_Moments):
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


class Muon(_Moments):
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
        one tensor of 32 bits. Then the steps are added, on a CPU one by one in 32 bits.
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


OPTIMIZERS: dict[str, type[Optimizer]] = {
    "adamw": AdamW,
    "adam": Adam,
    "nadam": NAdam,
    "radam": RAdam,
    "rmsprop": RmsProp,
    "adagrad": Adagrad,
    "lars": Lars,
    "lamb": Lamb,
    "muon": Muon,
    "sgd": Sgd,
}

OptimizerSpec = Annotated[
    Annotated[AdamW, Tag("adamw")]
    | Annotated[Adam, Tag("adam")]
    | Annotated[NAdam, Tag("nadam")]
    | Annotated[RAdam, Tag("radam")]
    | Annotated[RmsProp, Tag("rmsprop")]
    | Annotated[Adagrad, Tag("adagrad")]
    | Annotated[Lars, Tag("lars")]
    | Annotated[Lamb, Tag("lamb")]
    | Annotated[Muon, Tag("muon")]
    | Annotated[Sgd, Tag("sgd")],
    by_name(*OPTIMIZERS),
]
