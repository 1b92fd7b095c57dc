"""The small network that maps a frequency to the complex value of each filter's spectrum there."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Complex, Float
from torch import Tensor, nn

from nifbuild.nn.fourier import Coordinates, frequency_grid, half_plane_weight

Activation = Literal["silu", "gelu", "sine"]

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "gelu": F.gelu,
    "sine": torch.sin,
}

# Initial filters vary on the scale of this frequency: the half width of a 32-pixel image's band.
_INITIAL_SCALE: dict[Coordinates, float] = {"cycles_per_image": 8.0, "cycles_per_pixel": 0.25}
_INITIAL_SIZES = (4, 8, 16, 32, 64, 128)


class PartwiseLinear(nn.Module):
    """Two linear layers in one tensor: of the network for the real part, and for the imaginary.

    Not an `nn.Linear`, so that code which initialises a model's linear layers by their type leaves
    these alone.

    Attributes:
        weight: [part, out_features, in_features]; part 0 is the real one.
        bias: [part, out_features].
    """

    weight: nn.Parameter
    bias: nn.Parameter

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(
            torch.empty(2, out_features, in_features, device=device, dtype=dtype)
        )
        self.bias = nn.Parameter(torch.empty(2, out_features, device=device, dtype=dtype))

    def forward(
        self, features: Float[Tensor, "2 in_features points"]
    ) -> Float[Tensor, "2 out_features points"]:
        """Computes in the dtype of `features`, whatever that of the weights."""
        weight, bias = self.weight.to(features.dtype), self.bias.to(features.dtype)
        return torch.baddbmm(bias[..., None], weight, features)

    def extra_repr(self) -> str:
        """The widths, for `print(model)`."""
        return f"{self.weight.shape[2]}, {self.weight.shape[1]}"


class FilterNetwork(nn.Module):
    """Neural implicit function of frequency: (u, v) -> one complex value per filter.

    Each part, real and imaginary, is a network of its own: 2 coordinates, the hidden layers, and
    one value per filter, with biases throughout and the activation between layers. The result is
    the Hermitian part (W(k) + conj W(-k)) / 2 of the networks' W, which makes the filter real. As
    the last layer is linear, this is done to the few features before it: they are made even in the
    real network and odd in the imaginary one, whose last bias thereby cancels.

    Source: Grabinski, Keuper, Keuper, arXiv 2307.10001, fig. 2. There W is unconstrained, and the
    imaginary part of the layer's output is dropped, which gives the same filter.

    Initialisation differs from the source, whose filters' power grows with the size of the image
    (by a factor of 300 from 4 to 224 pixels). The first layer's directions are spread evenly, with
    weights of about 1/8 per cycle, as coordinates go up to hundreds. The next layers' weights have
    a negative mean, so that features level off at high frequencies instead of growing. The last
    layer is scaled to a mean |K|^2 of exactly 1 for each filter, over all frequencies, on average
    over sizes of 4 to 128 pixels. At any one size from 4 to 224, the mean over filters then is
    about 0.8 to 1.3; with a single hidden layer it is less steady.

    Args:
        num_filters: Number of filters.
        hidden: Widths of the hidden layers, at least one.
        activation: `silu` (as published), `gelu` or `sine`.
        coordinates: In which the grid will be given; sets the scale of the initial weights.

    Raises:
        ValueError: `hidden` or `activation` is none of these.
    """

    def __init__(
        self,
        num_filters: int,
        *,
        hidden: Sequence[int] = (8, 4),
        activation: Activation = "silu",
        coordinates: Coordinates = "cycles_per_image",
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
        self.coordinates: Coordinates = coordinates
        self.layers = nn.Sequential(
            *(
                PartwiseLinear(narrow, wide, device=device, dtype=dtype)
                for narrow, wide in itertools.pairwise([2, *hidden, num_filters])
            )
        )
        self.reset_parameters()

    def _linears(self) -> list[PartwiseLinear]:
        return [layer for layer in self.layers if isinstance(layer, PartwiseLinear)]

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draws all weights anew; see the class."""
        first, *inner, last = self._linears()
        device = first.weight.device

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, dtype=torch.float32, device=device)

        width = first.weight.shape[1]
        spokes = torch.arange(width, device=device) / width + normal(2, 1)
        angles = 2 * math.pi * spokes + 0.2 * normal(2, width)
        steepness = torch.exp(0.5 * normal(2, width)) / _INITIAL_SCALE[self.coordinates]
        directions = torch.stack([angles.cos(), angles.sin()], dim=-1)
        first.weight.copy_(directions * steepness[..., None])
        first.bias.normal_()
        for layer in inner:
            fan_in = layer.weight.shape[-1]
            layer.weight.normal_(-5 / fan_in, math.sqrt(2 / fan_in))
            layer.bias.normal_(1, 0.5)

        num_features = last.weight.shape[-1]
        moments = self._feature_moments()
        rms = moments.diagonal(dim1=-2, dim2=-1)[:, :-1].sqrt().clamp_min(1e-3)
        weight = normal(*last.weight.shape) / rms[:, None]
        constant = normal(*last.bias.shape) * math.sqrt(num_features)
        readout = torch.cat([weight, constant[..., None]], dim=-1)
        readout[1] *= math.sqrt(0.5)  # odd features vanish at zero, where the even ones are largest
        readout[1, :, -1] = 0
        power = torch.einsum("pfi,pij,pfj->f", readout, moments, readout)
        readout = readout / power.sqrt()[:, None]
        last.weight.copy_(readout[..., :-1])
        last.bias.copy_(readout[..., -1])

    def _feature_moments(self) -> Float[Tensor, "2 moments moments"]:
        """Mean products of the last features and, as the last one, of the constant 1."""
        device = self._linears()[0].weight.device
        total = torch.zeros((), dtype=torch.float32, device=device)
        for size in _INITIAL_SIZES:
            grid = frequency_grid(size, size, coordinates=self.coordinates, device=device)
            features = self._features(grid)
            features = torch.cat([features, torch.ones_like(features[:, :1])], dim=1)
            weight = half_plane_weight(size, size, dtype=grid.dtype, device=device).repeat(size)
            total = total + (features * weight) @ features.mT
        return total / len(_INITIAL_SIZES)

    def _features(
        self, grid: Float[Tensor, "2 2 height half"]
    ) -> Float[Tensor, "2 features height*half"]:
        """What the last layer takes: even in k for the real part, odd for the imaginary part."""
        activation = _ACTIVATIONS[self.activation]
        features = grid.transpose(0, 1).flatten(1).expand(2, -1, -1)
        for layer in self._linears()[:-1]:
            features = activation(layer(features))
        at_k, at_mirror = features.chunk(2, dim=-1)
        return torch.stack([at_k[0] + at_mirror[0], at_k[1] - at_mirror[1]]) / 2

    def forward(
        self, grid: Float[Tensor, "2 2 height half"]
    ) -> Complex[Tensor, "num_filters height half"]:
        """The filters' spectra on the half plane.

        Args:
            grid: Coordinates of k and of -k, as from `nifbuild.nn.fourier.frequency_grid`. Its
                dtype is the one computed in.
        """
        last = self._linears()[-1]
        weight, bias = last.weight.to(grid.dtype), last.bias.to(grid.dtype)
        # The odd part of a constant is zero. It stays in the graph: every weight has a gradient.
        bias = torch.stack([bias[0], bias[1] - bias[1]])
        parts = torch.baddbmm(bias[..., None], weight, self._features(grid))
        parts = parts.reshape(2, -1, *grid.shape[-2:])
        return torch.complex(parts[0], parts[1])

    def extra_repr(self) -> str:
        """What the layers do not show."""
        return f"activation={self.activation!r}"
