"""The small network that maps a frequency to the complex value of each filter's spectrum there."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from nifbuild.nn.fourier import (
    Coordinates,
    constant,
    frequency_grid,
    half_plane_weight,
    num_coordinates,
)
from nifbuild.nn.implicit_network import (
    Activation,
    ImplicitNetwork,
    log_spread,
    spread_directions,
)

Networks = Literal["separate", "shared"]

# Initial reaches of the first layer's units in pixels: up to a share of the image, and at least up
# to so many, as units that hardly bend within the band are alike.
_MIN_REACH, _MAX_REACH, _MAX_SHARE = 2.0, 6.0, 1 / 4


class FilterNetwork(ImplicitNetwork):
    """Neural implicit function of frequency: (u, v) -> one complex value per filter.

    Each part, real and imaginary, is a network of its own: 2 coordinates, the hidden layers, and
    one value per filter, with biases throughout and the activation between layers. The result is
    the Hermitian part (W(k) + conj W(-k)) / 2 of the networks' W, which makes the filter real. As
    the last layer is linear, this is done to the few features before it: they are made even in the
    real network and odd in the imaginary one, whose last bias thereby cancels.

    Source: Grabinski, Keuper, Keuper, arXiv 2307.10001, fig. 2. There W is unconstrained, and the
    imaginary part of the layer's output is dropped, which gives the same filter.

    Initialisation differs from the source, whose filters on small maps are nearly one filter, and
    that is nearly the identity; their power grows with the size of the image (by a factor of 300
    from 4 to 224 pixels). Here the first layer's directions are spread evenly, and so are, on a
    logarithmic scale, the reaches of its units: a unit that varies as cos(2 pi r u) gives taps r
    pixels away. The last layer is drawn for the image size `init_size`, so that filters are
    as diverse as the features allow (see `ImplicitNetwork.reset_readout`), and scaled to a mean
    |K|^2 of exactly `power_gain` there, for each filter.

    A sine network with one hidden layer over frequencies that are not periodic is a special case:
    unit j is a tap, w = 2 pi offset, at a learnable offset that may be fractional. (Such positions
    in the image: Khalfaoui-Hassani et al., arXiv 2112.03740.) Its units start on the pixels around
    the centre, nearest first: with 4 units filters start as 3x3, with 12 as 5x5.

    Args:
        num_filters: Number of filters.
        hidden: Widths of the hidden layers, at least one.
        activation: `silu` (as published), `gelu` or `sine`.
        networks: `separate` (as published): one for each part. `shared`: one up to the last layer,
            which takes the even half of its features for the real part, the odd half for the other.
        coordinates: In which frequencies are given to the network; see `frequency_grid`.
        harmonics: Of `periodic` coordinates.
        init_size: Height and width of the images that the initial weights are drawn for, in pixels.
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
        hidden: Sequence[int] = (16, 8),
        activation: Activation = "silu",
        networks: Networks = "separate",
        coordinates: Coordinates = "periodic",
        harmonics: int = 1,
        init_size: tuple[int, int] = (32, 32),
        power_gain: float = 1.0,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            num_coordinates(coordinates, harmonics),
            num_filters,
            hidden=hidden,
            activation=activation,
            hidden_parts=2 if networks == "separate" else 1,
            last_parts=2,
            device=device,
            dtype=dtype,
        )
        self.coordinates: Coordinates = coordinates
        self.harmonics, self.init_size = harmonics, init_size
        self.power_gain = power_gain
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draws all weights anew; see the class."""
        if self.linears[0].weight.is_meta:
            return  # no values, and the moments below take a while
        is_taps = self.activation == "sine" and self.coordinates != "periodic"
        if is_taps and len(self.linears) == 2:
            self._reset_taps()
        else:
            self.reset_hidden(self._first_weights())
        self.reset_readout(self._feature_moments(), self.power_gain)

    def _first_weights(self) -> Float[Tensor, "parts width coordinates"]:
        """Evenly spread directions, by reaches in pixels."""
        weight = self.linears[0].weight
        parts, width, _ = weight.shape
        longest = max(_MAX_REACH, _MAX_SHARE * min(self.init_size))
        reach = log_spread(parts, width, _MIN_REACH, longest, like=weight)
        offsets = reach[..., None] * spread_directions(parts, width, like=weight)
        if self.coordinates != "periodic":
            return self._per_pixel(offsets)
        # Of each axis and harmonic h, a wave A cos(2 pi h u - phase), as steep as h A says.
        octaves = 2 ** torch.arange(self.harmonics, device=weight.device)
        amplitudes = offsets[:, :, None] / (octaves[:, None] * math.sqrt(self.harmonics))
        phases = 2 * math.pi * torch.rand(amplitudes.shape, device=weight.device)
        waves = torch.stack([phases.cos(), phases.sin()], dim=-1) * amplitudes[..., None]
        return waves.flatten(2)

    def _per_pixel(self, offsets: Float[Tensor, "*units 2"]) -> Float[Tensor, "*units 2"]:
        """The weights of a unit that varies as an offset in pixels does: horizontal, vertical."""
        height, width = self.init_size if self.coordinates == "cycles_per_image" else (1, 1)
        return 2 * math.pi * offsets / torch.tensor([width, height], device=offsets.device)

    def _reset_taps(self) -> None:
        first = self.linears[0]
        count = first.weight.shape[1]
        span = range(-count, count + 1)
        half = sorted(
            ((x, y) for y in range(count + 1) for x in span if (y, x) > (0, 0)),
            key=lambda offset: (max(map(abs, offset)), math.hypot(*offset)),
        )
        offsets = torch.tensor(half[:count], dtype=torch.float32, device=first.weight.device)
        first.weight.copy_(self._per_pixel(offsets))
        # A shared network serves both parts: it starts halfway between cosine and sine.
        turns = [1 / 4, 0.0] if len(first.bias) == 2 else [1 / 8]
        for bias, turn in zip(first.bias, turns, strict=True):
            bias.fill_(2 * math.pi * turn)

    def _feature_moments(self) -> Float[Tensor, "2 moments moments"]:
        """Mean products of the last features and, as the last one, of the constant 1."""
        height, width = self.init_size
        device = self.linears[0].weight.device
        features = self._symmetric_features(self.grid(height, width, device=device))
        ones = torch.ones_like(features[:, :1])
        ones[1] = 0  # an odd constant is none
        features = torch.cat([features, ones], dim=1)
        weight = half_plane_weight(height, width, dtype=features.dtype, device=device)
        return (features * weight.repeat(height)) @ features.mT

    def grid(
        self,
        height: int,
        width: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | None = None,
    ) -> Float[Tensor, "2 coordinates height half"]:
        """What `forward` takes, for images of this size; computed in `dtype`."""
        return frequency_grid(
            height,
            width,
            coordinates=self.coordinates,
            harmonics=self.harmonics,
            dtype=dtype,
            device=device,
        )

    def _symmetric_features(
        self, grid: Float[Tensor, "2 coordinates height half"]
    ) -> Float[Tensor, "2 features height*half"]:
        """What the last layer takes: even in k for the real part, odd for the imaginary part."""
        features = self.features(grid.transpose(0, 1).flatten(1)).expand(2, -1, -1)
        # As few calls as there can be: with small networks, a GPU waits for them to be made.
        at_k, at_mirror = features.unflatten(-1, (2, -1)).unbind(-2)
        signs = constant(("signs", grid.dtype, grid.device), lambda: (_signs(grid),))[0]
        return torch.addcmul(at_k, at_mirror, signs) / 2

    def forward(
        self, grid: Float[Tensor, "2 coordinates height half"]
    ) -> Complex[Tensor, "num_filters height half"]:
        """The filters' spectra on the half plane.

        Args:
            grid: Coordinates of k and of -k, as from `nifbuild.nn.fourier.frequency_grid`. Its
                dtype is the one computed in.
        """
        last = self.linears[-1]
        parts = last(self._symmetric_features(grid)).unflatten(-1, grid.shape[-2:])
        real, imaginary = parts.unbind()
        # The odd part of a constant is zero. It stays in the graph: every weight has a gradient.
        _, constant_part = last.bias.to(grid.dtype)[..., None, None].unbind()
        return torch.complex(real, imaginary - constant_part)


def _signs(like: Tensor) -> Float[Tensor, "2 1 1"]:
    """Of what a part has at the mirrored frequency: even ones 1, odd ones -1."""
    return 1 - 2 * torch.arange(2, dtype=like.dtype, device=like.device)[:, None, None]
