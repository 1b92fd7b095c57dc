"""How large the filters of a model are: kernels layer by layer, and their mass in odd windows.

Kernels are those on the grid that a layer sees. The share of a kernel in odd windows around its
centre is the kernel mass ratio of Grabinski, Keuper, Keuper (arXiv 2307.10001), section 5.2.
"""

import statistics
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from nifbuild.nn import GlobalConv2d

Measure = Literal["mass", "energy"]

_MASS_SHARE = 0.95
"""Of a filter's mass, what its effective size has to hold."""


@dataclass(frozen=True)
class LayerKernels:
    """The filters of one layer.

    Attributes:
        path: The module's name.
        layer: The module.
        kernels: y[n] = sum_m k[m] x[n - m], with the origin at (height // 2, width // 2); float32,
            on the CPU, without gradient.
    """

    path: str
    layer: GlobalConv2d
    kernels: Float[Tensor, "filters height width"]

    @property
    def grid(self) -> tuple[int, int]:
        """Height and width, in pixels, of the image that the layer sees."""
        return self.kernels.shape[-2], self.kernels.shape[-1]


def layer_kernels(model: nn.Module, input_shape: tuple[int, int, int]) -> list[LayerKernels]:
    """The kernels of all filters as large as the image, in the order in which they are applied.

    A layer that is applied several times counts once, on the first grid that it sees.

    Args:
        model: Any model; it sees one black image in eval mode, and is left as it was.
        input_shape: Channels, height and width of that image.
    """
    names = {module: path for path, module in model.named_modules()}
    found: dict[GlobalConv2d, LayerKernels] = {}

    def remember(layer: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        if isinstance(layer, GlobalConv2d) and layer not in found:
            height, width = arguments[0].shape[-2:]
            kernels = layer.spatial_kernel(height, width, centered=True)
            found[layer] = LayerKernels(names[layer], layer, kernels.detach().float().cpu())

    first = next(model.parameters())
    modes = {module: module.training for module in model.modules()}
    hooks = [
        layer.register_forward_pre_hook(remember)
        for layer in model.modules()
        if isinstance(layer, GlobalConv2d)
    ]
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(1, *input_shape, device=first.device, dtype=first.dtype))
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in modes.items():
            module.training = mode
    return list(found.values())


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


def effective_sizes(
    model: nn.Module, initial: nn.Module, input_shape: tuple[int, int, int]
) -> dict[str, Any]:
    """How large the filters of a model are, in pixels of the image that each layer sees.

    A filter's size is that of its smallest odd window with 95 % of its mass; a layer's is the
    median over its filters, a network's the median over its layers that have filters as large as
    the image.

    Args:
        model: As it is now.
        initial: The same architecture with the weights that training started from.
        input_shape: Channels, height and width of the images.

    Returns:
        Plain data: `effective_size` and `effective_size_at_init` of the network, None where no
        filter is as large as the image, and of each of `layers`.
    """
    layers = _layer_sizes(model, input_shape)
    before = _layer_sizes(initial, input_shape)
    return {
        "effective_size": _median(layers),
        "effective_size_at_init": _median(before),
        "layers": [
            {**layer, "effective_size_at_init": initially["effective_size"]}
            for layer, initially in zip(layers, before, strict=True)
        ],
    }


def _layer_sizes(model: nn.Module, input_shape: tuple[int, int, int]) -> list[dict[str, Any]]:
    return [
        {
            "path": found.path,
            "grid": list(found.grid),
            "effective_size": statistics.median(
                effective_size(window_shares(found.kernels), _MASS_SHARE).tolist()
            ),
        }
        for found in layer_kernels(model, input_shape)
    ]


def _median(layers: list[dict[str, Any]]) -> float | None:
    return statistics.median(layer["effective_size"] for layer in layers) if layers else None
