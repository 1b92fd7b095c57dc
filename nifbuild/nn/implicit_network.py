"""What the small networks of implicit filters are made of, and how their first layers are drawn."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

Activation = Literal["silu", "gelu", "sine"]

INITIAL_SIZES = (4, 8, 16, 32, 64, 128)
"""Sizes of image, in pixels, over which the power of initial filters is averaged."""

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "gelu": F.gelu,
    "sine": torch.sin,
}


class PartwiseLinear(nn.Module):
    """Linear layers side by side in one tensor, as for the real part and the imaginary one.

    Not an `nn.Linear`, so that code which initialises a model's linear layers by their type leaves
    these alone.

    Attributes:
        weight: [part, out_features, in_features]; of two parts, the first is the real one.
        bias: [part, out_features].
    """

    weight: nn.Parameter
    bias: nn.Parameter

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        parts: int = 2,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(
            torch.empty(parts, out_features, in_features, device=device, dtype=dtype)
        )
        self.bias = nn.Parameter(torch.empty(parts, out_features, device=device, dtype=dtype))

    def forward(
        self, features: Float[Tensor, "parts in_features points"]
    ) -> Float[Tensor, "parts out_features points"]:
        """Computes in the dtype of `features`, whatever that of the weights."""
        weight, bias = self.weight.to(features.dtype), self.bias.to(features.dtype)
        return torch.baddbmm(bias[..., None], weight, features)

    def extra_repr(self) -> str:
        """The widths, for `print(model)`."""
        return f"{self.weight.shape[2]}, {self.weight.shape[1]}, parts={len(self.weight)}"


class ImplicitNetwork(nn.Module):
    """Two coordinates, hidden layers with an activation, and a last linear layer.

    The hidden layers' initial weights suit coordinates that go up to hundreds of `scale`. The first
    layer's directions are spread evenly. The next layers' weights have a negative mean, so that
    features level off far out instead of growing. Of the last layer, subclasses take care.

    Args:
        num_outputs: Values for each point and part.
        hidden: Widths of the hidden layers, at least one.
        activation: `silu` (as published), `gelu` or `sine`.
        hidden_parts: Separate networks up to the last layer.
        last_parts: Separate last layers.
        device: Of the weights.
        dtype: Of the weights.

    Raises:
        ValueError: `hidden` or `activation` is none of these.
    """

    def __init__(
        self,
        num_outputs: int,
        *,
        hidden: Sequence[int],
        activation: Activation,
        hidden_parts: int,
        last_parts: int,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if not hidden or min(hidden) < 1:
            raise ValueError(f"`hidden` (={tuple(hidden)}) must be one or more positive widths")
        if activation not in _ACTIVATIONS:
            allowed = ", ".join(map(repr, _ACTIVATIONS))
            raise ValueError(f"`activation` (={activation!r}) must be one of {allowed}")
        self.activation: Activation = activation
        widths = [2, *hidden, num_outputs]
        parts = [hidden_parts] * len(hidden) + [last_parts]
        self.layers = nn.Sequential(
            *(
                PartwiseLinear(narrow, wide, parts=count, device=device, dtype=dtype)
                for (narrow, wide), count in zip(itertools.pairwise(widths), parts, strict=True)
            )
        )

    @property
    def linears(self) -> list[PartwiseLinear]:
        """The layers, first to last."""
        return [layer for layer in self.layers if isinstance(layer, PartwiseLinear)]

    @torch.no_grad()
    def reset_hidden(self, scale: float) -> None:
        """Draws the hidden layers anew.

        Args:
            scale: The distance, in units of the coordinates, on which features are to vary.
        """
        first, *inner, _ = self.linears
        parts, width, _ = first.weight.shape
        device = first.weight.device

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, dtype=torch.float32, device=device)

        spokes = torch.arange(width, device=device) / width + normal(parts, 1)
        angles = 2 * math.pi * spokes + 0.2 * normal(parts, width)
        steepness = torch.exp(0.5 * normal(parts, width)) / scale
        directions = torch.stack([angles.cos(), angles.sin()], dim=-1)
        first.weight.copy_(directions * steepness[..., None])
        first.bias.normal_()
        for layer in inner:
            fan_in = layer.weight.shape[-1]
            layer.weight.normal_(-5 / fan_in, math.sqrt(2 / fan_in))
            layer.bias.normal_(1, 0.5)

    @torch.no_grad()
    def set_readout(
        self,
        readout: Float[Tensor, "parts outputs features_and_1"],
        moments: Float[Tensor, "parts features_and_1 features_and_1"],
        power_gain: float,
    ) -> None:
        """Gives the last layer its initial weights.

        Args:
            readout: A draw of them, of any scale; the last feature stands for the bias.
            moments: Mean products of the features and, as the last one, of the constant 1.
            power_gain: The mean square of each output, summed over parts, that it is scaled to.
        """
        power = torch.einsum("pfi,pij,pfj->f", readout, moments, readout)
        readout = readout * (power_gain / power).sqrt()[:, None]
        last = self.linears[-1]
        last.weight.copy_(readout[..., :-1])
        last.bias.copy_(readout[..., -1])

    def features(self, points: Float[Tensor, "2 points"]) -> Float[Tensor, "parts features points"]:
        """What the last layer takes, for coordinates in the dtype to compute in."""
        features = points.expand(len(self.linears[0].weight), -1, -1)
        for layer in self.linears[:-1]:
            features = _ACTIVATIONS[self.activation](layer(features))
        return features

    def extra_repr(self) -> str:
        """What the layers do not show."""
        return f"activation={self.activation!r}"
