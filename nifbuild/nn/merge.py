"""Modules with several inputs."""

from jaxtyping import Float
from torch import Tensor, nn


class Add(nn.Module):
    """The sum of two tensors; a module so that it has a name in the graph."""

    def forward(self, a: Float[Tensor, "..."], b: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The sum; both have one shape."""
        return a + b
