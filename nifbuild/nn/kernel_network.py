"""The small network that maps a position to the value of each filter's kernel there."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from nifbuild.nn.implicit_network import (
    Activation,
    ImplicitNetwork,
    log_spread,
    spread_directions,
)

Positions = Literal["image", "pixels"]

# Initial widths of features in pixels, up to a share of the image.
_MIN_WIDTH, _MAX_SHARE = 0.5, 1 / 4


class KernelNetwork(ImplicitNetwork):
    """Neural implicit function of position: (x, y) -> one real value per filter.

    The counterpart of `FilterNetwork` in the image: the same layers, over the offset of a tap from
    the kernel's centre. The values are divided by the square root of the number of taps, so that a
    kernel's energy does not grow with the image.

    Source: the idea is that of Romero et al., "FlexConv", arXiv 2110.08059, without its mask.

    Initialised as `FilterNetwork` for the size `init_size`: units of the first layer vary in evenly
    spread directions, over widths spread from half a pixel to a quarter of the image. Functions
    that are smooth over positions let the lowest frequencies pass best, where images have most of
    their power. So a kernel is scaled by its gain at the frequency that it lets pass best: whatever
    the image, no layer blows it up.

    Args:
        num_filters: Number of filters.
        hidden: Widths of the hidden layers, at least one.
        activation: `silu`, `gelu` or `sine`.
        positions: `image`: offsets as shares of the image's size, in [-1/2, 1/2), so that kernels
            grow with the image. `pixels`: offsets in pixels.
        init_size: Height and width of the images that the initial weights are drawn for, in pixels.
        power_gain: Square of a kernel's largest initial gain.
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
        init_size: tuple[int, int] = (32, 32),
        power_gain: float = 1.0,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            2,
            num_filters,
            hidden=hidden,
            activation=activation,
            hidden_parts=1,
            last_parts=1,
            device=device,
            dtype=dtype,
        )
        self.positions: Positions = positions
        self.init_size, self.power_gain = init_size, power_gain
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draws all weights anew; see the class."""
        if self.linears[0].weight.is_meta:
            return  # no values, and the moments below take a while
        first, last = self.linears[0].weight, self.linears[-1]
        height, width = self.init_size
        unit = (width, height) if self.positions == "image" else (1, 1)
        widths = log_spread(
            1,
            first.shape[1],
            _MIN_WIDTH,
            max(_MIN_WIDTH, _MAX_SHARE * min(height, width)),
            like=first,
        )
        slopes = spread_directions(1, first.shape[1], like=first) / widths[..., None]
        self.reset_hidden(slopes * torch.tensor(unit, device=first.device))
        features = self.features(self._points(height, width, torch.float32))
        features = torch.cat([features, torch.ones_like(features[:, :1])], dim=1)
        self.reset_readout(features @ features.mT / (height * width), self.power_gain)
        gain = torch.fft.rfft2(self(height, width, torch.float32)).abs().amax((1, 2))
        factor = math.sqrt(self.power_gain) / gain
        last.weight.mul_(factor[:, None])
        last.bias.mul_(factor)

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
