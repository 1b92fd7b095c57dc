"""What the small networks of implicit filters are made of, and how their first layers are drawn."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from nifbuild.nn.arguments import check_whole

Activation = Literal["silu", "gelu", "sine"]

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "gelu": F.gelu,
    "sine": torch.sin,
}


# Shares of the largest eigenvalue: of directions in which features vary less, whitening would make
# much of little, and of rounding errors.
_WEAK, _NONE = 1e-3, 1e-5


def log_spread(parts: int, count: int, low: float, high: float, *, like: Tensor) -> Tensor:
    """For each part, numbers spread evenly over the logarithms from `low` to `high`, shuffled."""
    offset = torch.rand(parts, 1, device=like.device)
    order = torch.rand(parts, count, device=like.device).argsort(dim=1)
    return low * (high / low) ** ((order + offset) / count)


def spread_directions(parts: int, count: int, *, like: Tensor) -> Float[Tensor, "parts count 2"]:
    """For each part, unit vectors spread evenly over the circle, which is turned at random."""
    spokes = torch.arange(count, device=like.device) / count
    angles = 2 * math.pi * (spokes + torch.rand(parts, 1, device=like.device))
    return torch.stack([angles.cos(), angles.sin()], dim=-1)


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
    """Coordinates, hidden layers with an activation, and a last linear layer.

    Args:
        num_inputs: Coordinates of a point.
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
        num_inputs: int,
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
        if not isinstance(hidden, tuple | list):
            raise TypeError(f"`hidden` (={hidden!r}) must be a list of widths, such as [16, 8]")
        for width in hidden:
            check_whole("hidden", width)
        if not hidden or min(hidden) < 1:
            raise ValueError(f"`hidden` (={tuple(hidden)}) must be one or more positive widths")
        if activation not in _ACTIVATIONS:
            allowed = ", ".join(map(repr, _ACTIVATIONS))
            raise ValueError(f"`activation` (={activation!r}) must be one of {allowed}")
        self.activation: Activation = activation
        widths = [num_inputs, *hidden, num_outputs]
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
    def reset_hidden(self, first: Float[Tensor, "parts width inputs"]) -> None:
        """Gives the first layer these weights, and draws the other hidden layers anew."""
        first_layer, *inner, _ = self.linears
        first_layer.weight.copy_(first)
        first_layer.bias.normal_()
        for layer in inner:
            nn.init.normal_(layer.weight, std=math.sqrt(2 / layer.weight.shape[-1]))
            layer.bias.normal_()

    @torch.no_grad()
    def reset_readout(
        self, moments: Float[Tensor, "parts features_and_1 features_and_1"], power_gain: float
    ) -> None:
        """Draws the last layer anew, so that outputs are random functions of their own.

        With the features' moments M at the size that the layer will see, the weights are Z M^(-1/2)
        for standard normal Z: as draws of white noise within the span of the features, they differ
        as much over outputs as these allow, however alike the features are among themselves.
        Directions in which the features hardly vary are left out.

        Args:
            moments: Mean products of the features and, as the last one, of the constant 1, which
                stands for the bias. A feature that is always 0 gets a weight of 0.
            power_gain: The mean square of each output, summed over parts, that it is scaled to.
        """
        last = self.linears[-1]
        values, vectors = torch.linalg.eigh(moments.cpu().double())  # MPS has no float64
        values = values / values.max()
        scales = values.clamp_min(0).sqrt() / (values + _WEAK) * (values > _NONE)
        whitening = (vectors * scales[..., None, :] @ vectors.mT).to(moments)
        shape = (*last.weight.shape[:2], moments.shape[-1])
        readout = torch.randn(shape, device=moments.device) @ whitening.mT
        power = torch.einsum("pfi,pij,pfj->f", readout, moments, readout)
        readout = readout * (power_gain / power).sqrt()[:, None]
        last.weight.copy_(readout[..., :-1])
        last.bias.copy_(readout[..., -1])

    def features(
        self, points: Float[Tensor, "inputs points"]
    ) -> Float[Tensor, "parts features points"]:
        """What the last layer takes, for coordinates in the dtype to compute in."""
        features = points.expand(len(self.linears[0].weight), -1, -1)
        for layer in self.linears[:-1]:
            features = _ACTIVATIONS[self.activation](layer(features))
        return features

    def extra_repr(self) -> str:
        """What the layers do not show."""
        return f"activation={self.activation!r}"
