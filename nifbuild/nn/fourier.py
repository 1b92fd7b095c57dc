"""The half plane of a real image's spectrum: its grid, its transforms, and what strides do to it.

The spectrum of a real image is Hermitian, X(-k) = conj X(k), so `rfft2` computes only the columns
0 ... W // 2. In shapes, `half` is W // 2 + 1. Zero frequency is at index (0, 0), unshifted.
"""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from nifbuild.nn.tracing import (
    in_cuda_graph,
    in_torch_func,
    is_recorded,
    own_cache,
    takes_cpu_ways,
)

Unit = Literal["cycles_per_image", "cycles_per_pixel"]
Coordinates = Literal["periodic", "cycles_per_image", "cycles_per_pixel"]

_CONSTANTS: dict[tuple[object, ...], tuple[Tensor, ...]] = {}
_IN_GRAPHS: dict[tuple[object, ...], tuple[Tensor, ...]] = {}
"""Those that CUDA graphs read where they lie, for as long as they may be replayed."""
_MAX_CONSTANTS = 128
# Up to here (as at 8x8) a product with the transform's matrix is faster on a CPU than its FFT.
MAX_MATRIX_ELEMENTS = 64 * 80


def _has_autocast(device_type: str) -> bool:
    if torch.compiler.is_compiling():  # that of torch 2.11 cannot look into the question
        return device_type in ("cpu", "cuda", "mps", "xpu")
    return torch.amp.is_autocast_available(device_type)


def full_precision(device: torch.device) -> AbstractContextManager[object]:
    """Switches autocast off: on CUDA it would hand half-precision tensors to cuFFT."""
    # What is recorded may be done again where it is on.
    if _has_autocast(device.type) and (is_recorded() or torch.is_autocast_enabled(device.type)):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


def result_dtype(x: Tensor) -> torch.dtype:
    """The dtype in which an ordinary convolution of `x` returns: autocast leaves float64 alone."""
    device = x.device.type
    if x.dtype == torch.float64 or not _has_autocast(device):
        return x.dtype
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


def transform_dtype(dtype: torch.dtype) -> torch.dtype:
    """The real dtype to transform in: float64 stays, everything else is computed in float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def frequency_grid(
    height: int,
    width: int,
    *,
    coordinates: Coordinates = "cycles_per_image",
    harmonics: int = 1,
    dtype: torch.dtype = torch.float32,
    device: torch.device | None = None,
) -> Float[Tensor, "2 coordinates {height} {width//2+1}"]:
    """The coordinates of every frequency k of the half plane, and those of its mirror -k.

    A filter that is a function of these has its Hermitian part on the half plane from the values at
    k and -k alone. The mirror is taken on the grid, modulo the size: for an even size the Nyquist
    frequency -N/2 is its own mirror, so there the coordinate keeps its sign.

    Args:
        height: Height of the image in pixels.
        width: Width of the image in pixels.
        coordinates: `cycles_per_image` are the signed integers -(N // 2) ... (N - 1) // 2;
            `cycles_per_pixel` are the same divided by the size, in [-1/2, 1/2); `periodic` are
            cosine and sine of 2 pi h times these, which have no jump at Nyquist.
        harmonics: How many h = 1, 2, 4, ... there are of `periodic` coordinates.
        dtype: A real dtype.
        device: Where the grid is used.

    Returns:
        Indexed by (k or -k; coordinate; row; column). There are two coordinates, the horizontal
        frequency and the vertical one, or for each h the cosine and the sine of the horizontal one
        and then those of the vertical one. The grid is cached, so it is not to be written to.
    """
    arguments = (height, width, coordinates, harmonics, dtype, device)
    return constant(("grid", *arguments), lambda: (_make_grid(*arguments),))[0]


def _make_grid(
    height: int,
    width: int,
    coordinates: Coordinates,
    harmonics: int,
    dtype: torch.dtype,
    device: torch.device | None,
) -> Tensor:
    rows, columns = torch.arange(height, device=device), torch.arange(width, device=device)
    grid = torch.stack([_signed_grid(rows, columns), _signed_grid(-rows, -columns)])
    grid = grid[..., : width // 2 + 1]
    if coordinates == "cycles_per_image":
        return grid.to(dtype).contiguous()
    sizes = torch.tensor([width, height], device=device)[:, None, None]
    if coordinates == "cycles_per_pixel":
        return grid.to(dtype) / sizes
    octaves = 2 ** torch.arange(harmonics, device=device)[:, None, None, None]
    turns = (octaves * grid[:, None]) % sizes  # whole turns are left out while they are integers
    angles = 2 * math.pi * turns.to(dtype) / sizes
    return torch.stack([angles.cos(), angles.sin()], dim=3).flatten(1, 3)


def num_coordinates(coordinates: Coordinates, harmonics: int = 1) -> int:
    """How many coordinates a frequency has."""
    return 4 * harmonics if coordinates == "periodic" else 2


def constant(key: tuple[object, ...], make: Callable[[], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """Tensors that depend on `key` alone, made once.

    A CUDA graph has those of the run before it, which it needs to be warm anyway: some are computed
    on the CPU, and nothing can be copied from there while it records.
    """
    if in_cuda_graph():
        if key in _CONSTANTS:
            _IN_GRAPHS[key] = _CONSTANTS[key]
        return _IN_GRAPHS.get(key) or make()
    if is_recorded() or in_torch_func():
        return make()  # what is made there may not outlive it
    own = own_cache.get()
    cache = _CONSTANTS if own is None else own
    found = cache.get(key)
    if found is not None:
        return found
    with torch.inference_mode(False):  # what is first used in inference must serve training later
        made = make()
    # A fake tensor must not outlive its mode.
    if own is not None or all(type(tensor) is Tensor for tensor in made):
        if len(cache) >= _MAX_CONSTANTS:
            cache.clear()
        cache[key] = made
    return made


def _signed_grid(rows: Tensor, columns: Tensor) -> Tensor:
    """Signed integer frequencies of the grid's points, [2, H, W], the horizontal one first."""
    v, u = ((i + len(i) // 2) % len(i) - len(i) // 2 for i in (rows, columns))
    return torch.stack([u.expand(len(v), -1), v[:, None].expand(-1, len(u))])


def half_plane_weight(
    height: int, width: int, *, dtype: torch.dtype, device: torch.device
) -> Float[Tensor, " {width//2+1}"]:
    """The share of each half-plane frequency in a mean over all frequencies, by column.

    A column between zero and Nyquist also stands for its mirror image, so it counts twice. These
    are the weights of `irfft2`, and hence of its adjoint.
    """
    arguments = (height, width, dtype, device)
    return constant(("half plane", *arguments), lambda: (_make_half_plane_weight(*arguments),))[0]


def _make_half_plane_weight(
    height: int, width: int, dtype: torch.dtype, device: torch.device
) -> Tensor:
    weight = torch.full((width // 2 + 1,), 2.0, dtype=dtype, device=device)
    weight[:1].fill_(1)  # on the device: assigned, a number would come from the CPU
    if width % 2 == 0:
        weight[-1:].fill_(1)
    return weight / (height * width)


def rfft2(
    x: Float[Tensor, "batch channels height width"], period: tuple[int, int]
) -> Complex[Tensor, "batch channels {period[0]} {period[1]//2+1}"]:
    """The half-plane spectrum of images that are continued with zeros to the size `period`.

    Contiguous. Small images are multiplied by the matrix of the transform: a CPU's FFT spends its
    time on the calls there.
    """
    matrix = _matrices(x, x.shape[-2:], period)
    if matrix is None:
        spectrum_f: Tensor = torch.fft.rfft2(x, s=period)
        return spectrum_f.contiguous()
    values = x.reshape(*x.shape[:-2], -1) @ matrix[0]
    values = values.reshape(*x.shape[:-2], period[0], period[1] // 2 + 1, 2)
    return torch.view_as_complex(values)


def irfft2(
    x_f: Complex[Tensor, "batch channels period_height half"],
    period: tuple[int, int],
    size: tuple[int, int],
) -> Float[Tensor, "batch channels {size[0]} {size[1]}"]:
    """The top left `size` of the images of size `period` whose half-plane spectra are given.

    Columns 0 and (for an even width) W / 2 must be Hermitian in the rows: CPU and GPU disagree
    about anything else.
    """
    matrix = _matrices(x_f.real, size, period)
    if matrix is None:
        x: Tensor = torch.fft.irfft2(x_f, s=period)
        return x.narrow(-2, 0, size[0]).narrow(-1, 0, size[1])
    x = torch.view_as_real(x_f).reshape(*x_f.shape[:-2], -1) @ matrix[1]
    return x.reshape(*x.shape[:-1], *size)


def _matrices(
    x: Tensor, size: tuple[int, int] | torch.Size, period: tuple[int, int]
) -> tuple[Tensor, Tensor] | None:
    """The transform of images of `size`, and its inverse, as matrices where that is faster."""
    if not takes_cpu_ways(x):
        return None
    spectrum = 2 * period[0] * (period[1] // 2 + 1)
    if size[0] * size[1] * spectrum > MAX_MATRIX_ELEMENTS:
        return None
    sizes, dtype = (size[0], size[1]), transform_dtype(x.dtype)
    forward, inverse = constant(
        ("transform", sizes, period, dtype), lambda: _transform_matrices(sizes, period, dtype)
    )
    return forward, inverse


def _transform_matrices(
    size: tuple[int, int], period: tuple[int, int], dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """[H * W, 2 * period_height * half] of `rfft2`, and [the same, H * W] of `irfft2`."""
    cpu = torch.device("cpu")  # whatever the default is while they are made
    pixels, frequencies = (
        torch.cartesian_prod(*(torch.arange(n, device=cpu, dtype=torch.float64) for n in extents))
        for extents in (size, (period[0], period[1] // 2 + 1))
    )
    cycles = (pixels / torch.tensor(period, device=cpu)) @ frequencies.T
    turns = torch.polar(torch.ones_like(cycles), -2 * math.pi * cycles)
    forward = torch.view_as_real(turns).flatten(1)
    weight = half_plane_weight(*period, dtype=cycles.dtype, device=cycles.device)
    weights = weight.repeat(period[0])[:, None].expand(-1, 2).flatten()
    return forward.to(dtype), (forward * weights).T.contiguous().to(dtype)


def fold(
    spectrum_f: Complex[Tensor, "*batch height half"], width: int, stride: tuple[int, int]
) -> Complex[Tensor, "*batch out_height out_half"]:
    """The spectrum of the image's every stride-th pixel: the mean of the frequencies that alias.

    Args:
        spectrum_f: Half plane of images of this width. Each stride divides its size.
        width: Of the images.
        stride: Vertical and horizontal.
    """
    rows, columns = stride
    if rows > 1:
        spectrum_f = spectrum_f.unflatten(-2, (rows, spectrum_f.shape[-2] // rows)).mean(-3)
    if columns > 1:
        aliases = full_plane(spectrum_f, width).unflatten(-1, (columns, width // columns))
        spectrum_f = aliases[..., : width // columns // 2 + 1].mean(-2)
    return spectrum_f


def unfold(
    spectrum_f: Complex[Tensor, "*batch height half"], width: int, stride: tuple[int, int]
) -> Complex[Tensor, "*batch full_height full_half"]:
    """The spectrum of images filled with zeros between their pixels: it repeats.

    Args:
        spectrum_f: Half plane of images of size width / stride.
        width: Of the images that are filled.
        stride: Vertical and horizontal.
    """
    rows, columns = stride
    if columns > 1:
        repeats = [1] * (spectrum_f.ndim - 1) + [columns]
        spectrum_f = full_plane(spectrum_f, width // columns).repeat(repeats)
        spectrum_f = spectrum_f[..., : width // 2 + 1]
    if rows > 1:
        spectrum_f = spectrum_f.repeat([1] * (spectrum_f.ndim - 2) + [rows, 1])
    return spectrum_f


def band(
    height: int, width: int, stride: tuple[int, int], like: Complex[Tensor, "..."]
) -> Float[Tensor, "{height} {width//2+1}"]:
    """1 within the band that the strided output can hold, 1/2 on its edge, 0 beyond."""
    grid = frequency_grid(height, width, dtype=like.real.dtype, device=like.device)
    share = torch.ones_like(grid[0, 0])
    for coordinate, size, step in ((grid[0, 1], height, stride[0]), (grid[0, 0], width, stride[1])):
        if step > 1:
            beyond = 2 * step * coordinate.abs() - size
            share = share * (1 - torch.sign(beyond)) / 2
    return share


def full_plane(
    half_f: Complex[Tensor, "*batch height half"], width: int
) -> Complex[Tensor, "*batch height {width}"]:
    """All columns of a Hermitian spectrum: column W - c at row -r is the conjugate of c at r."""
    mirrored = half_f[..., 1 : width - width // 2].flip(-2, -1).roll(1, -2)
    return torch.cat([half_f, mirrored.conj()], dim=-1)
