"""The share of a kernel in odd windows around its centre.

Source: Grabinski, Keuper, Keuper (arXiv 2307.10001), section 5.2: the kernel mass ratio.
"""

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

Measure = Literal["mass", "energy"]


def window_sizes(height: int, width: int) -> tuple[int, ...]:
    """1, 3, 5, ... pixels, up to the first that covers a grid of this size from its centre on.

    On an even grid that one is a pixel larger than the grid: the row and the column before the
    others have no counterpart.
    """
    return tuple(range(1, max(height, width) // 2 * 2 + 2, 2))


def window_shares(
    kernels: Float[Tensor, "filters height width"], measure: Measure = "mass"
) -> Float[Tensor, "filters windows"]:
    """The share of each kernel that lies in each of `window_sizes`, in float64.

    Args:
        kernels: With their origin at (height // 2, width // 2).
        measure: `mass`: of sum |k|, as published. `energy`: of sum k^2.

    Returns:
        Shares from 0 to 1, never falling from one window to the next, the last one 1. A kernel that
        is zero everywhere has all of it in the smallest window.
    """
    height, width = kernels.shape[-2:]
    amount = kernels.double().abs() if measure == "mass" else kernels.double().square()
    rows, columns = (
        (torch.arange(n, device=kernels.device) - n // 2).abs() for n in (height, width)
    )
    distance = torch.maximum(rows[:, None], columns)  # of the smallest window with the tap in it
    rings = amount.new_zeros(len(amount), len(window_sizes(height, width)))
    rings.index_add_(1, distance.flatten(), amount.flatten(1))
    inside = rings.cumsum(1)
    total = inside[:, -1:]
    return torch.where(total > 0, inside / total, 1.0).clamp(max=1.0)


def effective_size(
    shares: Float[Tensor, "filters windows"], share: float
) -> Int[Tensor, " filters"]:
    """Width in pixels of each filter's smallest odd window with at least this share of it.

    Args:
        shares: From `window_shares`.
        share: Above 0, at most 1.

    Raises:
        ValueError: `share` is out of its range.
    """
    if not 0 < share <= 1:
        raise ValueError(f"`share` (={share}) must be above 0 and at most 1")
    # The last window has all but rounding of it.
    reached = shares >= min(share, 1 - 1e-12)
    return reached.int().argmax(1) * 2 + 1
