"""How a figure is spread over the filters of a layer."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Spread:
    """Mean, standard deviation and quartiles over filters; one value, or one for each window.

    Attributes:
        mean: Float64, as all of them.
        std: That of these filters, not an estimate for others: 0 for a single one.
        first: A quarter of the filters lie below.
        median: Half of them do.
        third: Three quarters do.
    """

    mean: Float[Tensor, " *shape"]
    std: Float[Tensor, " *shape"]
    first: Float[Tensor, " *shape"]
    median: Float[Tensor, " *shape"]
    third: Float[Tensor, " *shape"]

    @classmethod
    def over_filters(cls, values: Float[Tensor, "filters ..."]) -> "Spread":
        """That of values which belong to the filters."""
        values = values.double()
        # `torch.quantile` refuses more than 16 million values; sorting has no such limit.
        ordered = values.sort(0).values
        first, median, third = (_quantile(ordered, share) for share in (0.25, 0.5, 0.75))
        return cls(values.mean(0), values.std(0, correction=0), first, median, third)

    def as_document(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "mean": self.mean.tolist(),
            "std": self.std.tolist(),
            "quartiles": [value.tolist() for value in (self.first, self.median, self.third)],
        }


def _quantile(ordered: Tensor, share: float) -> Tensor:
    """Interpolated between neighbours."""
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return torch.lerp(ordered[below], ordered[above], place - below)
