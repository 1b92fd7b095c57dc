"""A convolution whose filter is a neural implicit function of frequency.

Source: Julia Grabinski, Janis Keuper, Margret Keuper, "As large as it gets: Studying Infinitely
Large Convolutions via Neural Implicit Frequency Filters", arXiv 2307.10001, TMLR 2024.
"""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Complex, Float
from torch import Tensor, nn

from nifbuild.nn.derived import DerivedTensors
from nifbuild.nn.filter_network import Activation, FilterNetwork
from nifbuild.nn.fourier import (
    Coordinates,
    Memory,
    circular_convolution,
    frequency_grid,
    full_precision,
    transform_dtype,
)

Mixing = Literal["separable", "depthwise"]
Boundary = Literal["circular"]


class ImplicitFrequencyConv2d(nn.Module):
    r"""Convolves with filters as large as the image, given by a small network over frequencies.

    A network maps each frequency (u, v) to one complex value W(c, u, v) per filter c. The layer
    computes real(ifft2(W * fft2(x))) per channel: a convolution with circular boundary. Here it is
    irfft2(K * rfft2(x)), where K = (W(k) + conj W(-k)) / 2 on the half plane: the same function.

    It replaces `nn.Conv2d` wherever the padding keeps the size: the output has ceil(H / stride)
    rows. The number of weights does not depend on the size of the image, and one
    module takes images of any size, even or odd, square or not.

    `mixing` says how channels are combined:

    - `separable`: one filter per input channel, then a 1x1 convolution (`pointwise.weight`). As the
      1x1 commutes with the transform, it is applied to the half plane where `out_channels` is less
      than `in_channels`, and after the inverse transform elsewhere.
    - `depthwise`: one filter per output channel; filter f acts on input channel
      f // (out_channels / in_channels).

    Filter, transforms and product are computed in float32, for a float64 input in float64, whatever
    autocast says; the result is cast back to the input's dtype. In inference (eval mode, and no
    gradient wanted of the filter) the spectrum is computed once per size and kept until a weight
    changes. A write to `parameter.data` goes unseen until `train()` or `eval()` is called again.

    Initialisation: each filter has unit power gain (see `FilterNetwork`), and the 1x1 is drawn as
    torchvision's ResNet draws its convolutions (Kaiming normal, fan-out). For a white input, a
    separable layer's output thus has the variance of any convolution of that ResNet, 2 in / out
    times the input's; a depthwise layer's has the variance of its input. Biases start at zero.

    Differs from the source: the spectrum is evaluated at integer frequencies for odd sizes too
    (the authors' code then uses half-integers and misses zero frequency), channels keep their
    places (there the filters are rolled by half the channels), stride is supported, and so are
    other coordinates and activations. Parameter counts are the same.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output; with `depthwise` mixing a multiple of `in_channels`.
        stride: One for both directions, or (vertical, horizontal). The output is that of
            stride 1, sliced with `[::stride]`.
        groups: Groups of the 1x1 convolution. `depthwise` takes 1 or `in_channels`, to no effect.
        bias: Whether to add a learned bias to each output channel.
        mixing: See above.
        hidden: Widths of the network's hidden layers. The source has (8, 4), (8,) and
            (16, 128, 32).
        activation: Of the network; see `FilterNetwork`.
        boundary: How the image continues beyond its border.
        coordinates: `cycles_per_image` (as published): a filter grows with the image.
            `cycles_per_pixel`: it keeps its width in pixels when the resolution changes.
        memory: What the backward pass finds. `recompute`: the input, which it transforms again.
            `save`: the input's spectrum, which costs memory and saves a transform.

    Shapes:
        Input [batch, in_channels, H, W], or without batch; output
        [batch, out_channels, ceil(H / stride), ceil(W / stride)].

    Raises:
        ValueError: An argument is out of its range, or the input has another number of channels.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        stride: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = False,
        mixing: Mixing = "separable",
        hidden: Sequence[int] = (8, 4),
        activation: Activation = "silu",
        boundary: Boundary = "circular",
        coordinates: Coordinates = "cycles_per_image",
        memory: Memory = "recompute",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.stride = stride if isinstance(stride, tuple) else (stride, stride)
        self.groups = groups
        self.mixing: Mixing = mixing
        self.boundary: Boundary = boundary
        self.coordinates: Coordinates = coordinates
        self.memory: Memory = memory
        self._check_arguments()
        device = torch.device(device) if device is not None else None
        self.filter_network = FilterNetwork(
            in_channels if mixing == "separable" else out_channels,
            hidden=hidden,
            activation=activation,
            coordinates=coordinates,
            device=device,
            dtype=dtype,
        )
        self.pointwise: nn.Conv2d | None = None
        if mixing == "separable":
            self.pointwise = nn.Conv2d(
                in_channels, out_channels, 1, groups=groups, bias=False, device=device, dtype=dtype
            )
        self.bias = (
            nn.Parameter(torch.empty(out_channels, device=device, dtype=dtype)) if bias else None
        )
        self._spectra = DerivedTensors()
        self._reset_mixing()

    def _check_arguments(self) -> None:
        for name in ("in_channels", "out_channels", "groups"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` (={getattr(self, name)}) must be at least 1")
        if min(self.stride) < 1:
            raise ValueError(f"`stride` (={self.stride}) must be at least 1")
        for name, choices in (
            ("mixing", Mixing),
            ("boundary", Boundary),
            ("coordinates", Coordinates),
            ("memory", Memory),
        ):
            if getattr(self, name) not in get_args(choices):
                allowed = ", ".join(map(repr, get_args(choices)))
                raise ValueError(f"`{name}` (={getattr(self, name)!r}) must be one of {allowed}")
        if self.mixing == "depthwise":
            if self.out_channels % self.in_channels:
                raise ValueError(
                    f"`out_channels` (={self.out_channels}) must be a multiple of `in_channels` "
                    f"(={self.in_channels}) with `mixing='depthwise'`"
                )
            if self.groups not in (1, self.in_channels):
                raise ValueError(
                    f"`groups` (={self.groups}) must be 1 or `in_channels` (={self.in_channels}) "
                    "with `mixing='depthwise'`"
                )
            return
        for name in ("in_channels", "out_channels"):
            if getattr(self, name) % self.groups:
                raise ValueError(
                    f"`groups` (={self.groups}) must divide `{name}` (={getattr(self, name)})"
                )

    def reset_parameters(self) -> None:
        """Draws all weights anew."""
        self.filter_network.reset_parameters()
        self._reset_mixing()

    def _reset_mixing(self) -> None:
        if self.pointwise is not None:
            nn.init.kaiming_normal_(self.pointwise.weight, mode="fan_out", nonlinearity="relu")
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def spectrum(self, height: int, width: int) -> Complex[Tensor, "filters {height} {width//2+1}"]:
        """The filters' spectra for an image of this size, on the half plane.

        Differentiable with respect to the weights; complex64, or complex128 for float64 weights.
        Zero frequency is at index (0, 0); rows run through 0, 1, ..., -2, -1 cycles per image.
        """
        weight = next(self.filter_network.parameters())
        return self._spectrum(height, width, transform_dtype(weight.dtype), weight.device)

    def spatial_kernel(
        self, height: int, width: int, *, centered: bool = False
    ) -> Float[Tensor, "filters {height} {width}"]:
        """The filters as kernels k of y[n] = sum_m k[m] x[n - m], indices modulo the size.

        This is a convolution proper; `torch.nn.functional.conv2d` correlates, so it takes
        the kernel flipped.

        Args:
            height: Height of the image, hence of the kernel.
            width: Its width.
            centered: Whether the origin is at (height // 2, width // 2) instead of (0, 0).
        """
        kernel: Tensor = torch.fft.irfft2(self.spectrum(height, width), s=(height, width))
        return torch.fft.fftshift(kernel, dim=(-2, -1)) if centered else kernel

    def _spectrum(
        self, height: int, width: int, dtype: torch.dtype, device: torch.device
    ) -> Tensor:
        grid = frequency_grid(
            height, width, coordinates=self.coordinates, dtype=dtype, device=device
        )
        with full_precision(device):
            kernel_f: Tensor = self.filter_network(grid)
        return kernel_f

    def _spectrum_for(self, x: Tensor) -> Tensor:
        size = (*x.shape[-2:], transform_dtype(x.dtype), x.device)
        parameters = list(self.filter_network.parameters())
        learning = torch.is_grad_enabled() and any(p.requires_grad for p in parameters)
        if self.training or learning or torch.compiler.is_compiling():
            return self._spectrum(*size)
        return self._spectra.get(size, parameters, lambda: self._spectrum(*size))

    def forward(
        self, x: Float[Tensor, "*batch in_channels height width"]
    ) -> Float[Tensor, "*batch out_channels out_height out_width"]:
        """See the class for shapes and dtypes."""
        if x.ndim == 3:
            return self.forward(x[None])[0]
        if x.shape[1] != self.in_channels:
            raise ValueError(
                f"`x` has {x.shape[1]} channels; `in_channels` (={self.in_channels}) must equal it"
            )
        kernel_f = self._spectrum_for(x)
        if kernel_f.shape[0] > self.in_channels:
            x = x.repeat_interleave(self.out_channels // self.in_channels, dim=1)
        # Folding is for strides that divide the size; with the others, compute all and slice.
        fold, step = [1, 1], [1, 1]
        for axis, (stride, size) in enumerate(zip(self.stride, x.shape[-2:], strict=True)):
            (step if size % stride else fold)[axis] = stride
        pointwise = None if self.pointwise is None else self.pointwise.weight
        mix = None
        if pointwise is not None and self.out_channels < self.in_channels:
            mix = pointwise.to(kernel_f.real.dtype).flatten(1).unflatten(0, (self.groups, -1))
        y = circular_convolution(x, kernel_f, mix, stride=(fold[0], fold[1]), memory=self.memory)
        y = y[..., :: step[0], :: step[1]]
        bias = None if self.bias is None else self.bias.to(y.dtype)
        if pointwise is not None and mix is None:
            return F.conv2d(y, pointwise.to(y.dtype), bias, groups=self.groups)
        return y if bias is None else y + bias[:, None, None]

    def train(self, mode: bool = True) -> "ImplicitFrequencyConv2d":
        """Sets the mode, and forgets the spectra kept for inference."""
        self._spectra.clear()
        return super().train(mode)

    def extra_repr(self) -> str:
        """The arguments, for `print(model)`."""
        return (
            f"{self.in_channels}, {self.out_channels}, stride={self.stride}, groups={self.groups}, "
            f"bias={self.bias is not None}, mixing={self.mixing!r}, boundary={self.boundary!r}, "
            f"coordinates={self.coordinates!r}, memory={self.memory!r}"
        )
