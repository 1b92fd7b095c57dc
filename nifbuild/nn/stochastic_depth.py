"""Leaving out the long way of a residual block at random."""

from jaxtyping import Float
from torch import Tensor, nn


class StochasticDepth(nn.Module):
    """In training, sets whole samples to zero and scales the others to keep the mean.

    Source: Huang et al., "Deep networks with stochastic depth", arXiv 1603.09382. There a block is
    left out for the whole batch; here each sample draws for itself, as in ConvNeXt (where it is
    called drop path).

    Args:
        rate: Probability of a zero, below 1.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise ValueError(f"`rate` (={rate}) must be at least 0 and below 1")
        self.rate = rate

    def forward(self, x: Float[Tensor, "b ..."]) -> Float[Tensor, "b ..."]:
        """Zeros or `x / (1 - rate)`, sample by sample; `x` itself in evaluation."""
        if not self.training or self.rate == 0:
            return x
        kept = x.new_empty(x.shape[:1] + (1,) * (x.ndim - 1)).bernoulli_(1 - self.rate)
        return x * kept.div_(1 - self.rate)

    def extra_repr(self) -> str:
        """The rate, for `print(model)`."""
        return f"rate={self.rate:g}"
