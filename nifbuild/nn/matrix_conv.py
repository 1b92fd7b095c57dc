"""A convolution with filters as large as the image, as products with constant matrices.

A discrete Fourier transform is a product with a matrix. Written so, the layer needs nothing but
additions and products of real numbers, which every runtime has, and its filters are constants.
"""

import copy
import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nifbuild.geometry import Axis
from nifbuild.nn.fourier import half_plane_weight
from nifbuild.nn.frame import continuation
from nifbuild.nn.global_conv import GlobalConv2d


class MatrixConv2d(nn.Module):
    """What a layer computes for images of one size, with its filters as they are now.

    The matrices also continue the image beyond its border and take the stride: they have columns
    for the pixels of the image, and rows for the outputs that there are. For N x N pixels it takes
    about 12 N^3 multiply-adds for each channel, where a convolution with all taps takes N^4.

    Args:
        layer: In any mode; its weights are copied, in float32.
        size: Height and width of the images.

    Shapes:
        Input [batch, in_channels, height, width]; output
        [batch, out_channels, out_height, out_width].
    """

    down: Tensor
    across: Tensor
    kernel_real: Tensor
    kernel_imag: Tensor
    up: Tensor
    back: Tensor

    def __init__(self, layer: GlobalConv2d, size: tuple[int, int]) -> None:
        super().__init__()
        rows, columns = layer.frame(*size)
        with torch.no_grad():
            kernel_f = layer.laid_kernel((rows, columns), torch.float64)
            analysis = [_analysis(axis) for axis in (rows, columns)]
            synthesis = [_synthesis(axis) for axis in (rows, columns)]
        half = columns.period // 2 + 1
        weight = half_plane_weight(
            1, columns.period, dtype=torch.float64, device=torch.device("cpu")
        )
        across, back = analysis[1][:half].T, synthesis[1][:, :half].T * weight[:, None]
        # Rows of the image by a real product, which stacks the parts; columns by a complex one,
        # written with the parts side by side. The way back is the same in reverse.
        self._constant("down", torch.cat([analysis[0].real, analysis[0].imag]))
        self._constant("across", _blocks(across))
        self._constant("up", _blocks(synthesis[0].T / rows.period).T)
        self._constant("back", torch.cat([back.real, -back.imag]))
        self.mixes_pairs = layer.mixing == "full"
        if self.mixes_pairs:
            # [groups, frequencies, inputs, outputs], so that each frequency is a product.
            kernel_f = kernel_f.flatten(-2).permute(0, 3, 2, 1)
        else:
            kernel_f = kernel_f.reshape(-1, *kernel_f.shape[-2:])
        self._constant("kernel_real", kernel_f.real)
        self._constant("kernel_imag", kernel_f.imag)
        self.repeats = layer.out_channels // layer.in_channels if layer.mixing == "depthwise" else 1
        self.pointwise_in = copy.deepcopy(layer.pointwise_in)
        self.pointwise = copy.deepcopy(layer.pointwise)
        self.bias = copy.deepcopy(layer.bias)

    def _constant(self, name: str, value: Tensor) -> None:
        self.register_buffer(name, value.detach().float().cpu().contiguous())

    def forward(
        self, x: Float[Tensor, "batch in_channels height width"]
    ) -> Float[Tensor, "batch out_channels out_height out_width"]:
        """See the class for shapes."""
        if self.pointwise_in is not None:
            x = self.pointwise_in(x)
        parts = (self.down @ x).chunk(2, dim=2)
        x_f = torch.cat(parts, dim=3) @ self.across
        y_f = self._pairwise(x_f) if self.mixes_pairs else self._channelwise(x_f)
        parts = (self.up @ torch.cat(y_f, dim=2)).chunk(2, dim=2)
        y = torch.cat(parts, dim=3) @ self.back
        if self.pointwise is not None:
            y = self.pointwise(y)
        return y if self.bias is None else y + self.bias[:, None, None]

    def _channelwise(self, x_f: Tensor) -> tuple[Tensor, Tensor]:
        if self.repeats > 1:
            x_f = x_f.repeat_interleave(self.repeats, dim=1)
        real, imag = x_f.chunk(2, dim=3)
        return (
            real * self.kernel_real - imag * self.kernel_imag,
            real * self.kernel_imag + imag * self.kernel_real,
        )

    def _pairwise(self, x_f: Tensor) -> tuple[Tensor, Tensor]:
        groups, frequencies, inputs, outputs = self.kernel_real.shape
        period, half = x_f.shape[2], x_f.shape[3] // 2
        real, imag = (
            part.reshape(-1, groups, inputs, frequencies).permute(1, 3, 0, 2)
            for part in x_f.chunk(2, dim=3)
        )
        products = (
            real @ self.kernel_real - imag @ self.kernel_imag,
            real @ self.kernel_imag + imag @ self.kernel_real,
        )

        def image(part: Tensor) -> Tensor:
            return part.permute(2, 0, 3, 1).reshape(-1, groups * outputs, period, half)

        return image(products[0]), image(products[1])


def _analysis(axis: Axis) -> Tensor:
    """[period, size]: from the pixels of an axis to the spectrum of their continuation."""
    cpu = torch.device("cpu")
    turns = _turns(torch.arange(axis.period), torch.arange(axis.length), axis.period, -1)
    if not axis.continued:
        return turns
    places = continuation(axis, cpu)
    return turns.new_zeros(axis.period, axis.size).index_add(1, places, turns)


def _synthesis(axis: Axis) -> Tensor:
    """[outputs, period]: from a spectrum to the pixels that are outputs, but for the mean."""
    pixels = torch.arange(axis.num_outputs) * axis.stride
    return _turns(pixels, torch.arange(axis.period), axis.period, 1)


def _turns(first: Tensor, second: Tensor, period: int, sign: int) -> Tensor:
    """exp(sign * 2 pi i * first * second / period), in complex128."""
    cycles = (first[:, None] * second % period).double() / period  # exact up to here
    return torch.polar(torch.ones_like(cycles), sign * 2 * math.pi * cycles)


def _blocks(matrix: Tensor) -> Tensor:
    """The real [2n, 2m] for a complex [n, m]: values with their parts side by side, times it."""
    real, imag = matrix.real, matrix.imag
    return torch.cat([torch.cat([real, imag], 1), torch.cat([-imag, real], 1)])
