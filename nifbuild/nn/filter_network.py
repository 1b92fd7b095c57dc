"""The small network that maps a frequency to the complex value of each filter's spectrum there."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from nifbuild.nn.fourier import Coordinates, frequency_grid, half_plane_weight
from nifbuild.nn.implicit_network import INITIAL_SIZES, Activation, ImplicitNetwork

Networks = Literal["separate", "shared"]

# Initial filters vary on the scale of this frequency: the half width of a 32-pixel image's band.
_INITIAL_SCALE: dict[Coordinates, float] = {"cycles_per_image": 8.0, "cycles_per_pixel": 0.25}


class FilterNetwork(ImplicitNetwork):
    """Neural implicit function of frequency: (u, v) -> one complex value per filter.

    Each part, real and imaginary, is a network of its own: 2 coordinates, the hidden layers, and
    one value per filter, with biases throughout and the activation between layers. The result is
    the Hermitian part (W(k) + conj W(-k)) / 2 of the networks' W, which makes the filter real. As
    the last layer is linear, this is done to the few features before it: they are made even in the
    real network and odd in the imaginary one, whose last bias thereby cancels.

    Source: Grabinski, Keuper, Keuper, arXiv 2307.10001, fig. 2. There W is unconstrained, and the
    imaginary part of the layer's output is dropped, which gives the same filter.

    Initialisation differs from the source, whose filters' power grows with the size of the image
    (by a factor of 300 from 4 to 224 pixels). The hidden layers are drawn as `ImplicitNetwork`
    says, with weights of about 1/8 per cycle. The last layer is scaled to a mean |K|^2 of exactly
    `power_gain` for each filter, over all frequencies, on average over sizes of 4 to 128 pixels. At
    any one size from 4 to 224, the mean over filters then is about 0.8 to 1.3 times that; with a
    single hidden layer it is less steady.

    Args:
        num_filters: Number of filters.
        hidden: Widths of the hidden layers, at least one.
        activation: `silu` (as published), `gelu` or `sine`.
        networks: `separate` (as published): one for each part. `shared`: one up to the last layer,
            which takes the even half of its features for the real part, the odd half for the other.
        coordinates: In which the grid will be given; sets the scale of the initial weights.
        power_gain: Initial mean of |K|^2.
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
        networks: Networks = "separate",
        coordinates: Coordinates = "cycles_per_image",
        power_gain: float = 1.0,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            num_filters,
            hidden=hidden,
            activation=activation,
            hidden_parts=2 if networks == "separate" else 1,
            last_parts=2,
            device=device,
            dtype=dtype,
        )
        self.coordinates: Coordinates = coordinates
        self.power_gain = power_gain
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draws all weights anew; see the class."""
        if self.linears[0].weight.is_meta:
            return  # no values, and the moments below take a while
        self.reset_hidden(_INITIAL_SCALE[self.coordinates])
        last = self.linears[-1]
        num_features = last.weight.shape[-1]
        moments = self._feature_moments()
        rms = moments.diagonal(dim1=-2, dim2=-1)[:, :-1].sqrt().clamp_min(1e-3)
        weight = _normal_like(last.weight) / rms[:, None]
        constant = _normal_like(last.bias) * math.sqrt(num_features)
        readout = torch.cat([weight, constant[..., None]], dim=-1)
        readout[1] *= math.sqrt(0.5)  # odd features vanish at zero, where the even ones are largest
        readout[1, :, -1] = 0
        self.set_readout(readout, moments, self.power_gain)

    def _feature_moments(self) -> Float[Tensor, "2 moments moments"]:
        """Mean products of the last features and, as the last one, of the constant 1."""
        device = self.linears[0].weight.device
        total = torch.zeros((), dtype=torch.float32, device=device)
        for size in INITIAL_SIZES:
            grid = frequency_grid(size, size, coordinates=self.coordinates, device=device)
            features = self._symmetric_features(grid)
            features = torch.cat([features, torch.ones_like(features[:, :1])], dim=1)
            weight = half_plane_weight(size, size, dtype=grid.dtype, device=device).repeat(size)
            total = total + (features * weight) @ features.mT
        return total / len(INITIAL_SIZES)

    def _symmetric_features(
        self, grid: Float[Tensor, "2 2 height half"]
    ) -> Float[Tensor, "2 features height*half"]:
        """What the last layer takes: even in k for the real part, odd for the imaginary part."""
        features = self.features(grid.transpose(0, 1).flatten(1))
        at_k, at_mirror = features.expand(2, -1, -1).chunk(2, dim=-1)
        return torch.stack([at_k[0] + at_mirror[0], at_k[1] - at_mirror[1]]) / 2

    def forward(
        self, grid: Float[Tensor, "2 2 height half"]
    ) -> Complex[Tensor, "num_filters height half"]:
        """The filters' spectra on the half plane.

        Args:
            grid: Coordinates of k and of -k, as from `nifbuild.nn.fourier.frequency_grid`. Its
                dtype is the one computed in.
        """
        last = self.linears[-1]
        weight, bias = last.weight.to(grid.dtype), last.bias.to(grid.dtype)
        # The odd part of a constant is zero. It stays in the graph: every weight has a gradient.
        bias = torch.stack([bias[0], bias[1] - bias[1]])
        parts = torch.baddbmm(bias[..., None], weight, self._symmetric_features(grid))
        parts = parts.reshape(2, -1, *grid.shape[-2:])
        return torch.complex(parts[0], parts[1])


def _normal_like(tensor: Tensor) -> Tensor:
    return torch.randn(tensor.shape, dtype=torch.float32, device=tensor.device)
