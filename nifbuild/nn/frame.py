"""Images and filters laid into the periods of a circular convolution, and outputs taken from there.

Where they lie there, `nifbuild.geometry` says.
"""

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from nifbuild.geometry import Axis, Frame
from nifbuild.nn.fourier import irfft2, rfft2


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
