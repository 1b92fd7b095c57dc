"""An exponential moving average of a model's weights."""

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn


class Ema:
    """A copy of a model whose weights follow the model's slowly.

    After step t (from 1) the decay is min(decay, (1 + t) / (10 + t)): without that, an average with
    decay 0.9999 would still hold a tenth of the random initial weights after 23,000 steps. Buffers
    (the running statistics of batch normalisation) are copied, as they are averages already.

    Attributes:
        module: The averaged model, in eval mode, on the model's device.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.module = copy.deepcopy(model).eval().requires_grad_(False)

    def decay_at(self, step: int) -> float:
        """The decay that the update after step `step` (from 1) uses."""
        return min(self.decay, (1 + step) / (10 + step))

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Moves the average towards the model's weights; call it after each optimizer step."""
        own: list[Tensor] = [*self.module.parameters()]
        torch._foreach_lerp_(own, [*model.parameters()], 1 - self.decay_at(step))
        copy_all(self.module.buffers(), model.buffers())


@torch.no_grad()
def copy_all(targets: Iterable[Tensor], sources: Iterable[Tensor]) -> None:
    """Copies tensors pairwise, in place."""
    for target, source in zip(targets, sources, strict=True):
        target.copy_(source)
