"""A convolution whose filter is a neural implicit function of position: a comparator."""

from collections.abc import Sequence
from typing import Unpack

import torch
from torch import Tensor

from nifbuild.nn.arguments import GlobalConvArguments, check_choice, image_size
from nifbuild.nn.derived import weights_of
from nifbuild.nn.global_conv import GlobalConv2d
from nifbuild.nn.implicit_network import Activation
from nifbuild.nn.kernel_network import KernelNetwork, Positions


class ImplicitSpatialConv2d(GlobalConv2d):
    """Convolves with filters as large as the image, given by a small network over positions.

    Beside `ImplicitFrequencyConv2d` it tells what is owed to the network, and what to its being
    over frequencies. Source: the idea is that of Romero et al., "FlexConv", arXiv 2110.08059.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        hidden: Widths of the network's hidden layers.
        activation: Of the network; see `KernelNetwork`.
        positions: `image`: a filter grows with the image. `pixels`: it keeps its width in pixels
            when the resolution changes.
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
        hidden: Sequence[int] = (8, 4),
        activation: Activation = "silu",
        positions: Positions = "image",
        init_size: int | tuple[int, int] = 32,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **arguments: Unpack[GlobalConvArguments],
    ) -> None:
        device = torch.device(device) if device is not None else None
        super().__init__(in_channels, out_channels, device=device, dtype=dtype, **arguments)
        check_choice("positions", positions, Positions)
        self.kernel_network = KernelNetwork(
            self.num_filters,
            hidden=hidden,
            activation=activation,
            positions=positions,
            init_size=image_size("init_size", init_size),
            power_gain=self.filter_power_gain,
            device=device,
            dtype=dtype,
        )

    def _reset_filters(self) -> None:
        self.kernel_network.reset_parameters()

    def filter_weights(self) -> list[Tensor]:
        """Those of the network over positions."""
        return weights_of(self.kernel_network)

    def _spectrum(self, height: int, width: int, dtype: torch.dtype) -> Tensor:
        kernel_f: Tensor = torch.fft.rfft2(self.kernel_network(height, width, dtype))
        return kernel_f

    def extra_repr(self) -> str:
        """The arguments that are not at their defaults, for `print(model)`."""
        text = super().extra_repr()
        if self.kernel_network.positions != "image":
            text += f", positions={self.kernel_network.positions!r}"
        return text
