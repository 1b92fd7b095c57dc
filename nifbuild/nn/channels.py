"""Modules that pick channels."""

from jaxtyping import Float
from torch import Tensor, nn


class ChannelSlice(nn.Module):
    """The channels from `start` up to, and without, `stop`."""

    def __init__(self, start: int, stop: int) -> None:
        super().__init__()
        self.start = start
        self.stop = stop

    def forward(self, x: Float[Tensor, "b c ..."]) -> Float[Tensor, "b s ..."]:
        """A view of the input."""
        return x[:, self.start : self.stop]

    def extra_repr(self) -> str:
        """The range, for `print(model)`."""
        return f"{self.start}, {self.stop}"
