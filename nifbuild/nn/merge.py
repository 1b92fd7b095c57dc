"""Modules with several inputs; modules, not functions, so that they have names in the graph."""

import functools

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Add(nn.Module):
    """The sum of tensors of one shape."""

    def forward(self, *inputs: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The sum; all have one shape."""
        return functools.reduce(torch.add, inputs)


class Concat(nn.Module):
    """Tensors one after another along the channels."""

    def forward(self, *inputs: Float[Tensor, "b ..."]) -> Float[Tensor, "b ..."]:
        """As many channels as all inputs together, the first input's first."""
        return torch.cat(inputs, dim=1)


class Multiply(nn.Module):
    """The product of tensors; an axis of length 1 is repeated."""

    def forward(self, *inputs: Float[Tensor, "b ..."]) -> Float[Tensor, "..."]:
        """The product; gates of shape [b, c, 1, 1] or [b, 1, h, w] scale whole maps or pixels."""
        return functools.reduce(torch.mul, inputs)
