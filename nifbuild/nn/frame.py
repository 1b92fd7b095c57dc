"""Where a convolution's outputs lie, and how its image goes on beyond the border, along each axis.

A filter as large as the image reaches beyond it from every output. Each axis is laid into one
period of a circular convolution, long enough that nothing wraps around which should not.
"""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from nifbuild.nn.fourier import irfft2, rfft2

Boundary = Literal["circular", "zeros", "reflect", "replicate"]


class Axis(NamedTuple):
    """One axis of a convolution whose filter has as many taps as the image has pixels.

    The taps have the offsets -(size // 2) ... (size - 1) // 2.

    Attributes:
        size: Pixels of the image.
        num_outputs: Outputs of the convolution.
        stride: Pixels from one output to the next.
        period: Length of the circular convolution.
        length: How much of the period the image takes up with its continuation; the rest is zero.
        left: Pixels of continuation before the image.
        shift: Where in the period the first output lies.
        boundary: What the continuation is.
    """

    size: int
    num_outputs: int
    stride: int
    period: int
    length: int
    left: int
    shift: int
    boundary: Boundary

    @property
    def continued(self) -> bool:
        """Whether pixels beyond the border are written out."""
        return self.length != self.size or self.left != 0

    @property
    def folds(self) -> int:
        """The stride that is taken in the spectrum: it has to divide the period."""
        return 1 if self.period % self.stride else self.stride

    @property
    def steps(self) -> int:
        """The stride that is taken in the image, by leaving out what was computed between."""
        return self.stride // self.folds

    @property
    def folded(self) -> int:
        """The period after folding."""
        return self.period // self.folds

    @property
    def extent(self) -> int:
        """Pixels from the first output to the last, after folding."""
        return (self.num_outputs - 1) * self.steps + 1


Frame = tuple[Axis, Axis]
"""The vertical axis and the horizontal one."""


def plan_axis(size: int, num_outputs: int, stride: int, offset: int, boundary: Boundary) -> Axis:
    """The shortest period that computes the outputs exactly.

    Args:
        size: Pixels of the image.
        num_outputs: Outputs of the convolution.
        stride: Pixels from one output to the next.
        offset: The pixel that the first output is centred on; below zero before the image.
        boundary: How the image goes on.
    """
    last = offset + (num_outputs - 1) * stride
    back, ahead = size // 2, (size - 1) // 2
    if boundary == "circular" and last - offset < size:
        return Axis(size, num_outputs, stride, size, size, 0, offset, boundary)
    if boundary == "zeros":
        # No tap may carry the image into the wanted outputs from the next period or the last one.
        needed = max(size, size + ahead - offset, last + back + 1, last - offset + 1)
        period = fast_length(needed, stride)
        return Axis(size, num_outputs, stride, period, size, 0, offset, boundary)
    length = last - offset + 1 + back + ahead
    period = fast_length(length, stride)
    return Axis(size, num_outputs, stride, period, length, ahead - offset, ahead, boundary)


def fast_length(length: int, multiple_of: int = 1) -> int:
    """The least length not below `length` whose transform is fast: no prime factor above 7.

    Args:
        length: At least 1.
        multiple_of: A number that has to divide the result. Its own factors do not count.
    """
    quotient = -(-length // multiple_of)
    while not _is_smooth(quotient):
        quotient += 1
    return quotient * multiple_of


def _is_smooth(n: int) -> bool:
    for prime in (2, 3, 5, 7):
        while n % prime == 0:
            n //= prime
    return n == 1


def lay_kernel(
    kernel_f: Complex[Tensor, "filters height half"], frame: Frame
) -> Complex[Tensor, "filters period_height period_half"]:
    """The filters' spectra for the circular convolution of the frame's periods.

    Args:
        kernel_f: Half plane of filters as large as the image, with their origin at index (0, 0).
        frame: The axes.
    """
    if all(axis.period == axis.size and axis.shift == 0 for axis in frame):
        return kernel_f
    rows, columns = frame
    sizes, periods = (rows.size, columns.size), (rows.period, columns.period)
    kernel = irfft2(kernel_f[None], sizes, sizes)[0]
    for dim, axis in ((-2, rows), (-1, columns)):
        index = torch.arange(axis.size, device=kernel.device)
        offset = (index + axis.size // 2) % axis.size - axis.size // 2
        shape = list(kernel.shape)
        shape[dim] = axis.period
        places = (offset - axis.shift) % axis.period
        kernel = kernel.new_zeros(shape).index_copy(dim, places, kernel)
    return rfft2(kernel[None], periods)[0]


def analyse(
    x: Float[Tensor, "batch channels height width"], frame: Frame
) -> Complex[Tensor, "batch channels period_height period_half"]:
    """The spectrum of the images and their continuation."""
    for dim, axis in ((-2, frame[0]), (-1, frame[1])):
        if axis.continued:
            x = x.index_select(dim, continuation(axis, x.device))
    return rfft2(x, (frame[0].period, frame[1].period))


def analyse_adjoint(
    spectrum_f: Complex[Tensor, "batch channels period_height period_half"], frame: Frame
) -> Float[Tensor, "batch channels height width"]:
    """From the gradient's spectrum over the periods to the gradient of the images."""
    rows, columns = frame
    x = irfft2(spectrum_f, (rows.period, columns.period), (rows.length, columns.length))
    for dim, axis in ((-2, rows), (-1, columns)):
        if axis.continued:
            shape = list(x.shape)
            shape[dim] = axis.size
            x = x.new_zeros(shape).index_add_(dim, continuation(axis, x.device), x)
    return x


def synthesise(
    folded_f: Complex[Tensor, "batch channels folded_height folded_half"], frame: Frame
) -> Float[Tensor, "batch channels out_height out_width"]:
    """The outputs, from the folded spectrum."""
    rows, columns = frame
    periods, extents = (rows.folded, columns.folded), (rows.extent, columns.extent)
    return irfft2(folded_f, periods, extents)[..., :: rows.steps, :: columns.steps]


def synthesise_adjoint(
    grad: Float[Tensor, "batch channels out_height out_width"], frame: Frame
) -> Complex[Tensor, "batch channels folded_height folded_half"]:
    """The folded spectrum of the outputs' gradient, with zeros wherever there is no output."""
    rows, columns = frame
    if rows.steps > 1 or columns.steps > 1:
        spread = grad.new_zeros(*grad.shape[:-2], rows.extent, columns.extent)
        spread[..., :: rows.steps, :: columns.steps] = grad
        grad = spread
    return rfft2(grad, (rows.folded, columns.folded))


def continuation(axis: Axis, device: torch.device) -> Tensor:
    """The pixel that stands at each place of the continued image."""
    places = torch.arange(axis.length, device=device) - axis.left
    if axis.boundary == "circular":
        return places % axis.size
    if axis.boundary == "replicate" or axis.size == 1:
        return places.clamp(0, axis.size - 1)
    turn = axis.size - 1  # the border pixel itself is not repeated
    places = places % (2 * turn)
    return torch.minimum(places, 2 * turn - places)
