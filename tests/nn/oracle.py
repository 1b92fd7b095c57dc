"""Convolution with filters as large as the image, written out tap by tap in float64.

No Fourier transform and nothing of nifbuild's: an index for each output and tap, and one sum.
"""

import torch
from torch import Tensor


def source(position: int, size: int, boundary: str) -> int | None:
    """The pixel that is seen at a position, also beyond the border; None for a zero."""
    if 0 <= position < size:
        return position
    if boundary == "zeros":
        return None
    if boundary == "circular":
        return position % size
    if boundary == "replicate":
        return 0 if position < 0 else size - 1
    assert boundary == "reflect"
    if size == 1:
        return 0
    return source(-position if position < 0 else 2 * (size - 1) - position, size, boundary)


def unrolled(size: int, outputs: list[int], boundary: str) -> Tensor:
    """[output, tap, pixel]: 1 where the tap sees the pixel; taps are -(size // 2) and up."""
    seen = torch.zeros(len(outputs), size, size, dtype=torch.float64)
    for m, position in enumerate(outputs):
        for tap in range(size):
            pixel = source(position - (tap - size // 2), size, boundary)
            if pixel is not None:
                seen[m, tap, pixel] = 1
    return seen


def filtered(
    x: Tensor, kernels: Tensor, outputs: tuple[list[int], list[int]], boundary: str
) -> Tensor:
    """y[b, f, m, n] = sum over taps of kernels[f, i, j] * x[b, f, m - i, n - j].

    Args:
        x: [batch, filters, H, W], one channel for each filter.
        kernels: [filters, H, W], the origin at (H // 2, W // 2).
        outputs: The rows and columns on which the outputs are centred.
        boundary: What lies beyond the border.
    """
    rows, columns = (
        unrolled(n, places, boundary) for n, places in zip(x.shape[-2:], outputs, strict=True)
    )
    return torch.einsum("bfhw,fij,mih,njw->bfmn", x, kernels, rows, columns)


def convolved(
    x: Tensor,
    kernels: Tensor,
    outputs: tuple[list[int], list[int]],
    boundary: str,
    *,
    mixing: str,
    groups: int,
    matrices: list[Tensor],
    bias: Tensor | None,
) -> Tensor:
    """A whole layer; `matrices` are the weights of its 1x1 convolutions, [out, in / groups]."""
    if mixing == "low_rank":
        x = mixed(x, matrices[0], groups)
    if mixing == "full":
        num_in = x.shape[1] // groups
        num_out = len(kernels) // num_in
        planes = []
        for o in range(num_out):
            first = o // (num_out // groups) * num_in
            own = kernels[o * num_in : (o + 1) * num_in]
            planes.append(filtered(x[:, first : first + num_in], own, outputs, boundary).sum(1))
        y = torch.stack(planes, dim=1)
    else:
        x = x.repeat_interleave(len(kernels) // x.shape[1], dim=1)
        y = filtered(x, kernels, outputs, boundary)
    if mixing in ("separable", "low_rank"):
        y = mixed(y, matrices[-1], groups)
    return y if bias is None else y + bias[:, None, None]


def mixed(x: Tensor, weight: Tensor, groups: int) -> Tensor:
    """A grouped 1x1 convolution, group by group."""
    parts = zip(x.chunk(groups, 1), weight.chunk(groups, 0), strict=True)
    return torch.cat([torch.einsum("oi,bihw->bohw", w, part) for part, w in parts], dim=1)


def low_passed(kernels: Tensor, stride: tuple[int, int]) -> Tensor:
    """Without the frequencies above those of the strided output, and half of those at it."""
    for dim, step in ((-2, stride[0]), (-1, stride[1])):
        if step == 1:
            continue
        size = kernels.shape[dim]
        n = torch.arange(size, dtype=torch.float64)
        keep = torch.zeros(size, size, dtype=torch.float64)
        for k in range(-(size // 2), (size - 1) // 2 + 1):
            share = 1.0 if 2 * step * abs(k) < size else 0.5 if 2 * step * abs(k) == size else 0.0
            keep += share * torch.cos(2 * torch.pi * k * (n[:, None] - n) / size) / size
        kernels = torch.tensordot(kernels, keep, dims=([dim], [0])).movedim(-1, dim)
    return kernels
