"""A convolution whose filter is a neural implicit function of frequency.

Source: Julia Grabinski, Janis Keuper, Margret Keuper, "As large as it gets: Studying Infinitely
Large Convolutions via Neural Implicit Frequency Filters", arXiv 2307.10001, TMLR 2024.
"""

from collections.abc import Sequence
from typing import Unpack

import torch
from torch import Tensor

from nifbuild.nn.arguments import GlobalConvArguments, check_choice, image_size
from nifbuild.nn.derived import weights_of
from nifbuild.nn.filter_network import FilterNetwork, Networks
from nifbuild.nn.fourier import Coordinates
from nifbuild.nn.global_conv import GlobalConv2d
from nifbuild.nn.implicit_network import Activation

MAX_HARMONICS = 8


class ImplicitFrequencyConv2d(GlobalConv2d):
    r"""Convolves with filters as large as the image, given by a small network over frequencies.

    A network maps each frequency (u, v) to one complex value W(c, u, v) per filter c. The layer
    computes real(ifft2(W * fft2(x))) per channel: a convolution with circular boundary. Here it is
    irfft2(K * rfft2(x)), where K = (W(k) + conj W(-k)) / 2 on the half plane: the same function.

    The number of weights does not depend on the size of the image, and one module takes images of
    any size, even or odd, square or not.

    Differs from the source: the spectrum is evaluated at integer frequencies for odd sizes too
    (the authors' code then uses half-integers and misses zero frequency), channels keep their
    places (there the filters are rolled by half the channels), the layer takes the place of any
    convolution, there are other boundaries, coordinates and activations, and the initial filters
    are others (see `FilterNetwork`). With `coordinates="cycles_per_image"` and hidden widths of
    (8, 4) the function and the number of parameters are the published ones. The defaults are not,
    as filters then start nearly alike, and learn more slowly (README, "Accuracy").

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        hidden: Widths of the network's hidden layers. The source has (8, 4), (8,) and
            (16, 128, 32).
        activation: Of the network; see `FilterNetwork`.
        networks: One network for each part of the spectrum, or one for both; see `FilterNetwork`.
        coordinates: How the network sees a frequency. `periodic`: by cosine and sine of 2 pi u and
            2 pi v, in cycles per pixel; a filter keeps its width in pixels when the resolution
            changes, and its spectrum has no jump at Nyquist, which would ring. `cycles_per_pixel`:
            by u and v themselves. `cycles_per_image` (as published): the same times the image's
            size, so that a filter grows with the image.
        harmonics: Of `periodic` coordinates: with 3, also of 4 pi u and 8 pi u, for filters that
            reach far.
        init_size: Height and width, in pixels, of the images that the layer will see: the initial
            filters are drawn for it. Any other size works too.
        device: Of the weights.
        dtype: Of the weights.
        **arguments: See `GlobalConv2d`, and there for shapes, dtypes and errors.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        hidden: Sequence[int] = (16, 8),
        activation: Activation = "silu",
        networks: Networks = "separate",
        coordinates: Coordinates = "periodic",
        harmonics: int = 1,
        init_size: int | tuple[int, int] = 32,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **arguments: Unpack[GlobalConvArguments],
    ) -> None:
        device = torch.device(device) if device is not None else None
        super().__init__(in_channels, out_channels, device=device, dtype=dtype, **arguments)
        check_choice("coordinates", coordinates, Coordinates)
        check_choice("networks", networks, Networks)
        if not 1 <= harmonics <= MAX_HARMONICS or (harmonics > 1 and coordinates != "periodic"):
            raise ValueError(
                f"`harmonics` (={harmonics}) must be 1 to {MAX_HARMONICS}, "
                "and 1 unless `coordinates='periodic'`"
            )
        self.coordinates: Coordinates = coordinates
        self.filter_network = FilterNetwork(
            self.num_filters,
            hidden=hidden,
            activation=activation,
            networks=networks,
            coordinates=coordinates,
            harmonics=harmonics,
            init_size=image_size("init_size", init_size),
            power_gain=self.filter_power_gain,
            device=device,
            dtype=dtype,
        )

    def _reset_filters(self) -> None:
        self.filter_network.reset_parameters()

    def filter_weights(self) -> list[Tensor]:
        """Those of the network over frequencies."""
        return weights_of(self.filter_network)

    def _spectrum(self, height: int, width: int, dtype: torch.dtype) -> Tensor:
        device = self.filter_weights()[0].device
        grid = self.filter_network.grid(height, width, dtype=dtype, device=device)
        kernel_f: Tensor = self.filter_network(grid)
        return kernel_f

    def extra_repr(self) -> str:
        """The arguments that are not at their defaults, for `print(model)`."""
        text = super().extra_repr()
        if self.coordinates != "periodic":
            text += f", coordinates={self.coordinates!r}"
        if self.filter_network.harmonics != 1:
            text += f", harmonics={self.filter_network.harmonics}"
        return text
