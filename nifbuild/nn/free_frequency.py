"""A convolution with one learned complex weight for each frequency: a comparator."""

import math
from typing import Unpack

import torch
from jaxtyping import Complex
from torch import Tensor, nn

from nifbuild.nn.arguments import GlobalConvArguments, check_choice, image_size
from nifbuild.nn.fourier import Unit, frequency_grid, full_plane
from nifbuild.nn.global_conv import GlobalConv2d


class FreeFrequencyConv2d(GlobalConv2d):
    """Convolves with filters as large as the image, whose spectra are weights, value by value.

    Beside `ImplicitFrequencyConv2d` it tells what is owed to the frequencies, and what to the
    network that is smooth over them. Source: Rao et al., "Global Filter Networks", arXiv
    2107.00645; there the weights of the columns that are their own mirror are not made Hermitian,
    which leaves the filter to the transform's choice.

    The weights are for one size of image. At another one, the filter is the same in the unit that
    `coordinates` name.

    Initialised to white filters with a mean |K|^2 of 1 (with `full` mixing, 2 /
    out_channels).

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        size: Height and width of the images that the weights are for, in pixels.
        coordinates: `cycles_per_image`: at another size the spectrum keeps its values per cycle in
            the image, and is zero at frequencies that the images of `size` do not have.
            `cycles_per_pixel`: the kernel keeps its taps, cropped or continued with zeros.
        device: Of the weights.
        dtype: Of the weights.
        **arguments: See `GlobalConv2d`, and there for shapes, dtypes and errors.

    Attributes:
        weight: [part, filters, H, W // 2 + 1]; part 0 is the real one.
    """

    weight: nn.Parameter

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        size: int | tuple[int, int],
        *,
        coordinates: Unit = "cycles_per_image",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **arguments: Unpack[GlobalConvArguments],
    ) -> None:
        device = torch.device(device) if device is not None else None
        super().__init__(in_channels, out_channels, device=device, dtype=dtype, **arguments)
        self.size = image_size("size", size)
        check_choice("coordinates", coordinates, Unit)
        self.coordinates: Unit = coordinates
        height, width = self.size
        shape = (2, self.num_filters, height, width // 2 + 1)
        self.weight = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        self._reset_filters()

    @torch.no_grad()
    def _reset_filters(self) -> None:
        self.weight.normal_(std=math.sqrt(self.filter_power_gain / 2))
        for column in _own_mirrors(self.size[1]):  # the Hermitian part there has half the power
            self.weight[..., column] *= math.sqrt(2)

    def filter_weights(self) -> list[Tensor]:
        """The spectra's values."""
        return [self.weight]

    def _spectrum(self, height: int, width: int, dtype: torch.dtype) -> Tensor:
        weight = self.weight.to(dtype)
        kernel_f = hermitian_columns(torch.complex(weight[0], weight[1]), self.size[1])
        if (height, width) == self.size:
            return kernel_f
        if self.coordinates == "cycles_per_pixel":
            kernel = torch.fft.irfft2(kernel_f, s=self.size)
            resized_f: Tensor = torch.fft.rfft2(_resize_kernel(kernel, (height, width)))
            return resized_f
        return _resize_spectrum(kernel_f, self.size, (height, width))

    def extra_repr(self) -> str:
        """The arguments that are not at their defaults, for `print(model)`."""
        text = super().extra_repr() + f", size={self.size}"
        if self.coordinates != "cycles_per_image":
            text += f", coordinates={self.coordinates!r}"
        return text


def hermitian_columns(
    kernel_f: Complex[Tensor, "filters height half"], width: int
) -> Complex[Tensor, "filters height half"]:
    """The Hermitian part in the columns that are their own mirror: 0, and W / 2 for an even W."""
    own = torch.zeros(kernel_f.shape[-1], dtype=torch.bool, device=kernel_f.device)
    own[_own_mirrors(width)] = True
    mirrored = kernel_f.flip(-2).roll(1, -2).conj()
    return torch.where(own, (kernel_f + mirrored) / 2, kernel_f)


def _own_mirrors(width: int) -> list[int]:
    return [0] if width % 2 else [0, width // 2]


def _resize_kernel(kernel: Tensor, size: tuple[int, int]) -> Tensor:
    """Crops, or continues with zeros, around the origin at index (0, 0)."""
    for dim, new in ((-2, size[0]), (-1, size[1])):
        old = kernel.shape[dim]
        common = min(old, new)
        offsets = torch.arange(common, device=kernel.device) - common // 2
        shape = list(kernel.shape)
        shape[dim] = new
        taps = kernel.index_select(dim, offsets % old)
        kernel = kernel.new_zeros(shape).index_copy(dim, offsets % new, taps)
    return kernel


def _resize_spectrum(kernel_f: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """The same values at the same cycles per image, and zero at frequencies that `old` lacks."""
    grid = frequency_grid(*new, device=kernel_f.device)[0].long()
    u, v = grid[0], grid[1]
    known = (2 * u.abs() <= old[1]) & (2 * v.abs() <= old[0])
    plane = full_plane(kernel_f, old[1])
    values = plane[:, v % old[0], u % old[1]] * known
    return hermitian_columns(values, new[1])
