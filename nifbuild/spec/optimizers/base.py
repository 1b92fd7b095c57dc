"""What every optimizer has: settings for weights by name, and what it keeps and takes in memory."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from pydantic import Field, model_validator

from nifbuild.spec.base import NonNegativeFloat, PositiveFloat, Share, Spec
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


FLOAT_BYTES = 4


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
        return [FLOAT_BYTES * math.prod(shape) for shape in self.shapes]


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


class Momentum(Optimizer):
    """Those that keep a share of the update before."""

    momentum: Share = 0.9
    """Share of the previous update that is kept. 0: plain gradient descent."""

    nesterov: bool = True
    """Nesterov's form of momentum. Without effect where `momentum` is 0."""

    @property
    def looks_ahead(self) -> bool:
        """Whether Nesterov's form has an effect."""
        return self.nesterov and self.momentum > 0

    @property
    def num_states(self) -> int:
        """The momentum."""
        return int(self.momentum > 0)


class Adaptive(Optimizer):
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


class Moments(Adaptive):
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
