"""The depthwise filtering of small images on a CPU, as one product for each channel.

For N pixels it multiplies by a circulant matrix of N x N, whose rows are the moved filter. Up to 64
pixels that takes fewer multiplications than the transforms and fewer passes over the images: with
batches of 128, forward and backward, it is 1.3 times as fast at 8x8 and 1.4 times at 4x4
(`nifbuild bench --contender fft`, 2 cores of an EPYC). Making the matrices takes time, too, so that
there have to be about as many images as pixels.
"""

import torch
from torch import Tensor

from nifbuild.geometry import Frame
from nifbuild.nn.fourier import constant, half_plane_weight, irfft2, rfft2

_MAX_PIXELS = 64


def accepts(x: Tensor, kernel_f: Tensor, frame: Frame) -> bool:
    """Whether this way is possible, and the faster one."""
    rows, columns = frame
    pixels = rows.size * columns.size
    if kernel_f.ndim != 3 or rows.continued or columns.continued:
        return False
    return pixels <= _MAX_PIXELS and x.shape[0] >= pixels


def filter_images(
    x: Tensor, kernel_f: Tensor, bias: Tensor | None, frame: Frame, dtype: torch.dtype
) -> Tensor:
    """Filters each channel; see the function of this name in `nifbuild.nn.fused`.

    Computed in the precision of `kernel_f`.
    """
    y = torch.bmm(_by_channel(x, kernel_f), _matrices(kernel_f, frame))
    if bias is not None:
        y += bias[:, None, None]
    return _by_image(y, [axis.num_outputs for axis in frame], dtype)


def filter_gradient(grad: Tensor, kernel_f: Tensor, frame: Frame, dtype: torch.dtype) -> Tensor:
    """The gradient of the images."""
    grad_x = torch.bmm(_by_channel(grad, kernel_f), _matrices(kernel_f, frame).mT)
    return _by_image(grad_x, [axis.size for axis in frame], dtype)


def both_gradients(
    x: Tensor, grad: Tensor, kernel_f: Tensor, frame: Frame, *, needs_x: bool
) -> tuple[Tensor | None, Tensor]:
    """The gradients of the images, if asked for, and of the filters' spectra."""
    grad_x = filter_gradient(grad, kernel_f, frame, x.dtype) if needs_x else None
    products = torch.bmm(_by_channel(x, kernel_f).mT, _by_channel(grad, kernel_f))
    height, width = (axis.period for axis in frame)
    taps = products.new_zeros(len(kernel_f), height * width)
    taps.index_add_(1, _taps(frame, kernel_f), products.flatten(1))
    grad_f = rfft2(taps.view(1, -1, height, width), (height, width))[0]
    return grad_x, grad_f * half_plane_weight(height, width, dtype=taps.dtype, device=taps.device)


def _by_channel(images: Tensor, kernel_f: Tensor) -> Tensor:
    return images.to(kernel_f.real.dtype).flatten(2).transpose(0, 1)


def _by_image(values: Tensor, size: list[int], dtype: torch.dtype) -> Tensor:
    images: Tensor = values.transpose(0, 1).to(dtype).contiguous().unflatten(2, size)
    return images


def _matrices(kernel_f: Tensor, frame: Frame) -> Tensor:
    """[channels, pixels, outputs]."""
    period = (frame[0].period, frame[1].period)
    kernel = irfft2(kernel_f[None], period, period)[0].flatten(1)
    pixels = frame[0].size * frame[1].size
    matrices: Tensor = kernel.index_select(1, _taps(frame, kernel_f)).unflatten(1, (pixels, -1))
    return matrices


def _taps(frame: Frame, like: Tensor) -> Tensor:
    """[pixels * outputs]: the number of the tap that carries a pixel to an output."""

    def make() -> tuple[Tensor]:
        offsets = []
        for axis in frame:
            outputs = torch.arange(axis.num_outputs, device=like.device) * axis.stride
            pixels = torch.arange(axis.size, device=like.device)
            offsets.append((outputs - pixels[:, None]) % axis.period)
        down, across = offsets
        taps = down[:, None, :, None] * frame[1].period + across[None, :, None, :]
        return (taps.flatten(),)

    return constant(("taps", frame, like.device), make)[0]
