"""The small network that maps a position to the value of each filter's kernel there."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from nifbuild.nn.implicit_network import INITIAL_SIZES, Activation, ImplicitNetwork

Positions = Literal["image", "pixels"]

_INITIAL_SCALE: dict[Positions, float] = {"image": 0.25, "pixels": 8.0}


class KernelNetwork(ImplicitNetwork):
    """Neural implicit function of position: (x, y) -> one real value per filter.

    The counterpart of `FilterNetwork` in the image: the same layers, over the offset of a tap from
    the kernel's centre. The values are divided by the square root of the number of taps, so that a
    kernel's energy does not grow with the image.

    Source: the idea is that of Romero et al., "FlexConv", arXiv 2110.08059, without its mask.

    Initialised as `FilterNetwork`, to a mean energy of `power_gain` for each kernel.

    Args:
        num_filters: Number of filters.
        hidden: Widths of the hidden layers, at least one.
        activation: `silu`, `gelu` or `sine`.
        positions: `image`: offsets as shares of the image's size, in [-1/2, 1/2), so that kernels
            grow with the image. `pixels`: offsets in pixels.
        power_gain: Initial energy of a kernel, the mean over sizes from 4 to 128 pixels.
        device: Of the weights.
        dtype: Of the weights.

    Raises:
        ValueError: `hidden` or `activation` is none of these.
    """

    def __init__(
        self,
        num_filters: int,
        *,
        hidden: Sequence[int] = (8, 4),
        activation: Activation = "silu",
        positions: Positions = "image",
        power_gain: float = 1.0,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            num_filters,
            hidden=hidden,
            activation=activation,
            hidden_parts=1,
            last_parts=1,
            device=device,
            dtype=dtype,
        )
        self.positions: Positions = positions
        self.power_gain = power_gain
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draws all weights anew; see the class."""
        if self.linears[0].weight.is_meta:
            return  # no values, and the moments below take a while
        self.reset_hidden(_INITIAL_SCALE[self.positions])
        last = self.linears[-1]
        num_filters, num_features = last.weight.shape[1:]
        weight = torch.randn(num_filters, num_features + 1, device=last.weight.device)
        moments = torch.zeros((), dtype=torch.float32, device=last.weight.device)
        for size in INITIAL_SIZES:
            features = self.features(self._points(size, size, torch.float32))[0]
            features = torch.cat([features, torch.ones_like(features[:1])])
            moments = moments + features @ features.T / (size * size * len(INITIAL_SIZES))
        rms = moments.diagonal().sqrt().clamp_min(1e-3)
        rms[-1] = math.sqrt(1 / num_features)
        self.set_readout((weight / rms)[None], moments[None], self.power_gain)

    def _points(self, height: int, width: int, dtype: torch.dtype) -> Float[Tensor, "2 points"]:
        device = self.linears[0].weight.device
        y, x = ((torch.arange(n, device=device) + n // 2) % n - n // 2 for n in (height, width))
        y, x = y.to(dtype), x.to(dtype)
        if self.positions == "image":
            y, x = y / height, x / width
        return torch.stack([x.repeat(height), y.repeat_interleave(width)])

    def forward(
        self, height: int, width: int, dtype: torch.dtype
    ) -> Float[Tensor, "num_filters {height} {width}"]:
        """The kernels, with their origin at index (0, 0) and offsets modulo the size.

        Args:
            height: Of image and kernels, in pixels.
            width: Of image and kernels, in pixels.
            dtype: A real dtype, the one computed in.
        """
        features = self.features(self._points(height, width, dtype))
        values: Tensor = self.linears[-1](features)[0] / math.sqrt(height * width)
        return values.reshape(-1, height, width)
