"""Frequency grids, and circular convolution on the half plane of a real image's spectrum.

The spectrum of a real image is Hermitian, X(-k) = conj X(k), so `rfft2` computes only the columns
0 ... W // 2. In shapes, `half` is W // 2 + 1. Zero frequency is at index (0, 0), unshifted.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from jaxtyping import Complex, Float
from torch import Tensor

Coordinates = Literal["cycles_per_image", "cycles_per_pixel"]
Memory = Literal["recompute", "save"]

_GRIDS: dict[tuple[object, ...], Tensor] = {}
_MAX_GRIDS = 64
_CPU_CHUNK_BYTES = 2**21


def full_precision(device: torch.device) -> AbstractContextManager[object]:
    """Switches autocast off: on CUDA it would hand half-precision tensors to cuFFT."""
    if torch.amp.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


def transform_dtype(dtype: torch.dtype) -> torch.dtype:
    """The real dtype to transform in: float64 stays, everything else is computed in float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def frequency_grid(
    height: int,
    width: int,
    *,
    coordinates: Coordinates = "cycles_per_image",
    dtype: torch.dtype = torch.float32,
    device: torch.device | None = None,
) -> Float[Tensor, "2 2 {height} {width//2+1}"]:
    """The coordinates of every frequency k of the half plane, and those of its mirror -k.

    A filter that is a function of these has its Hermitian part on the half plane from the values at
    k and -k alone. The mirror is taken on the grid, modulo the size: for an even size the Nyquist
    frequency -N/2 is its own mirror, so there the coordinate keeps its sign.

    Args:
        height: Height of the image in pixels.
        width: Width of the image in pixels.
        coordinates: `cycles_per_image` are the signed integers -(N // 2) ... (N - 1) // 2;
            `cycles_per_pixel` are the same divided by the size, in [-1/2, 1/2).
        dtype: A real dtype.
        device: Where the grid is used.

    Returns:
        Indexed by (k or -k; horizontal or vertical frequency; row; column). It is cached, so it is
        not to be written to.
    """
    key = (height, width, coordinates, dtype, device)
    compiling = torch.compiler.is_compiling()
    if not compiling and key in _GRIDS:
        return _GRIDS[key]
    with torch.inference_mode(False):  # a grid first used in inference must serve training later
        rows, columns = torch.arange(height, device=device), torch.arange(width, device=device)
        grid = torch.stack([_signed_grid(rows, columns), _signed_grid(-rows, -columns)])
        grid = grid[..., : width // 2 + 1].to(dtype)
        if coordinates == "cycles_per_pixel":
            grid = torch.stack([grid[:, 0] / width, grid[:, 1] / height], dim=1)
        grid = grid.contiguous()
    if not compiling and type(grid) is Tensor:  # a fake tensor must not outlive its mode
        if len(_GRIDS) >= _MAX_GRIDS:
            _GRIDS.clear()
        _GRIDS[key] = grid
    return grid


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
    weight = torch.full((width // 2 + 1,), 2.0, dtype=dtype, device=device)
    weight[0] = 1
    if width % 2 == 0:
        weight[-1] = 1
    return weight / (height * width)


def circular_convolution(
    x: Float[Tensor, "batch channels height width"],
    kernel_f: Complex[Tensor, "channels height half"],
    mix: Float[Tensor, "groups out_per_group in_per_group"] | None = None,
    *,
    stride: tuple[int, int] = (1, 1),
    memory: Memory = "recompute",
) -> Float[Tensor, "batch out_channels out_height out_width"]:
    """Convolves each channel circularly with the filter whose half-plane spectrum is given.

    Computes irfft2(mix(fold(kernel_f * rfft2(x)))): the product of the spectra is folded where the
    output is strided, mixed over channels, and transformed back. All of it runs in float32 (float64
    for a float64 `x`) with autocast off.

    Args:
        x: Images, of any floating dtype.
        kernel_f: Spectra of real filters: columns 0 and (for an even width) W / 2 are Hermitian in
            the rows. CPU and GPU disagree about `irfft2` of anything else.
        mix: Weight of a grouped 1x1 convolution of the filtered channels. It commutes with the
            transform; in here, it saves inverse transforms where it reduces channels.
        stride: Vertical and horizontal. Each divides its size. The result is the
            unstrided one's `[::stride]`; the aliases' mean makes it so, not a low-pass.
        memory: What is kept for the gradients of `kernel_f` and `mix`. `recompute` keeps `x`, which
            the layer before has often kept anyway, and transforms it again in the backward;
            `save` keeps its spectrum in float32.

    Returns:
        Contiguous, in the dtype of `x`.

    Raises:
        RuntimeError: In a double backward with `memory="save"`; `recompute` supports it.
    """
    y: Tensor = _CircularConvolution.apply(x, kernel_f, mix, stride, memory)
    return y


class _CircularConvolution(torch.autograd.Function):
    """The half-plane product, with `irfft2` in its backward too.

    Autograd's own derivative of a real transform goes through a complex one of the full plane.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        kernel_f: Tensor,
        mix: Tensor | None,
        stride: tuple[int, int],
        memory: Memory,
    ) -> Tensor:
        batch, channels, height, width = x.shape
        out_channels = channels if mix is None else mix.shape[0] * mix.shape[1]
        y = x.new_empty(batch, out_channels, height // stride[0], width // stride[1])
        keeps = any(ctx.needs_input_grad[1:3])
        keeps_spectrum = keeps and memory == "save"
        spectrum = kernel_f.new_empty(batch, *kernel_f.shape) if keeps_spectrum else None
        with full_precision(x.device):
            for part in _chunks(x):
                x_f = torch.fft.rfft2(_real(x[part]))
                if spectrum is not None:
                    spectrum[part] = x_f
                y[part] = _synthesise(x_f.mul_(kernel_f), mix, x.shape, stride)
        kept = spectrum if keeps_spectrum else x if keeps else None
        ctx.save_for_backward(kept, kernel_f, mix)
        ctx.stride, ctx.shape, ctx.memory = stride, x.shape, memory
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        kept, kernel_f, mix = ctx.saved_tensors
        if torch.is_grad_enabled():
            return _differentiable_backward(ctx, kept, kernel_f, mix, grad)
        needs_x, needs_kernel, needs_mix = ctx.needs_input_grad[:3]
        grad_x = grad.new_empty(ctx.shape) if needs_x else None
        grad_kernel = torch.zeros_like(kernel_f) if needs_kernel else None
        grad_mix = torch.zeros_like(mix) if mix is not None and needs_mix else None
        conj_kernel_f = kernel_f.conj().resolve_conj()
        real_dtype, device = conj_kernel_f.real.dtype, grad.device
        with full_precision(grad.device):
            for part in _chunks(grad):
                grad_f = torch.fft.rfft2(_real(grad[part]))
                if kept is not None:
                    x_f = kept[part] if kept.is_complex() else torch.fft.rfft2(_real(kept[part]))
                if mix is not None:
                    if grad_mix is not None:
                        folded_f = _fold(x_f * kernel_f, ctx.shape, ctx.stride)
                        weight = half_plane_weight(
                            *grad.shape[-2:], dtype=real_dtype, device=device
                        )
                        grad_mix += _mix_gradient(folded_f, grad_f * weight, len(mix))
                    grad_f = _mix(grad_f, mix.mT)
                grad_f = _unfold(grad_f, ctx.shape, ctx.stride)
                if grad_kernel is not None:
                    grad_kernel += torch.conj_physical(x_f).mul_(grad_f).sum(0)
                if grad_x is not None:
                    grad_x[part] = torch.fft.irfft2(grad_f.mul_(conj_kernel_f), s=ctx.shape[-2:])
            if grad_kernel is not None:
                grad_kernel *= half_plane_weight(*ctx.shape[-2:], dtype=real_dtype, device=device)
        return grad_x, grad_kernel, grad_mix, None, None


def _differentiable_backward(
    ctx: Any, kept: Tensor | None, kernel_f: Tensor, mix: Tensor | None, grad: Tensor
) -> tuple[Tensor | None, ...]:
    """The gradients as functions of the inputs, for a double backward."""
    if kept is not None and ctx.memory == "save":
        raise RuntimeError(
            "`memory` (='save') keeps no input to differentiate twice; use `memory='recompute'`"
        )
    with torch.enable_grad(), full_precision(grad.device):
        # Without `kept` only the input's gradient is wanted, and it does not depend on the input.
        x = kept if kept is not None else grad.new_zeros(ctx.shape, requires_grad=True)
        product_f = torch.fft.rfft2(_real(x)) * kernel_f
        y = _synthesise(product_f, mix, ctx.shape, ctx.stride).to(grad.dtype)
        wanted = [i for i, needed in enumerate(ctx.needs_input_grad[:3]) if needed]
        inputs = [tensor for tensor in (x, kernel_f, mix) if tensor is not None]
        inputs = [inputs[i] for i in wanted]
        found = torch.autograd.grad(y, inputs, grad, create_graph=True)
    grads: list[Tensor | None] = [None] * 5
    for i, gradient in zip(wanted, found, strict=True):
        grads[i] = gradient
    return tuple(grads)


def _real(x: Tensor) -> Tensor:
    return x.to(transform_dtype(x.dtype))


def _chunks(x: Tensor) -> Iterator[slice]:
    """Slices of the batch; on a CPU their spectra stay in its cache from one step to the next."""
    size = max(1, x.shape[0])
    if x.device.type == "cpu" and not torch.compiler.is_compiling():
        size = max(1, _CPU_CHUNK_BYTES // max(1, x[:1].numel() * _real(x[:0]).element_size()))
    return (slice(start, start + size) for start in range(0, x.shape[0], size))


def _synthesise(
    product_f: Tensor, mix: Tensor | None, shape: torch.Size, stride: tuple[int, int]
) -> Tensor:
    """Back to the image: fold for the stride, mix channels, and invert the transform."""
    product_f = _fold(product_f, shape, stride)
    if mix is not None:
        product_f = _mix(product_f, mix)
    y: Tensor = torch.fft.irfft2(product_f, s=(shape[-2] // stride[0], shape[-1] // stride[1]))
    return y


def _fold(product_f: Tensor, shape: torch.Size, stride: tuple[int, int]) -> Tensor:
    """The spectrum of the image's every stride-th pixel: the mean of the frequencies that alias."""
    rows, columns = stride
    if rows > 1:
        product_f = product_f.unflatten(-2, (rows, shape[-2] // rows)).mean(-3)
    if columns > 1:
        width = shape[-1] // columns
        aliases = _full_plane(product_f, shape[-1]).unflatten(-1, (columns, width))
        product_f = aliases[..., : width // 2 + 1].mean(-2)
    return product_f


def _unfold(grad_f: Tensor, shape: torch.Size, stride: tuple[int, int]) -> Tensor:
    """The spectrum of the strided image, filled with zeros between its pixels: it repeats."""
    rows, columns = stride
    if columns > 1:
        grad_f = _full_plane(grad_f, shape[-1] // columns).repeat(1, 1, 1, columns)
    if rows > 1:
        grad_f = grad_f.repeat(1, 1, rows, 1)
    return grad_f[..., : shape[-1] // 2 + 1]


def _full_plane(half_f: Tensor, width: int) -> Tensor:
    """All columns of a Hermitian spectrum: column W - c at row -r is the conjugate of c at r."""
    mirrored = half_f[..., 1 : width - width // 2].flip(-2, -1).roll(1, -2)
    return torch.cat([half_f, mirrored.conj()], dim=-1)


def _mix(spectrum_f: Tensor, mix: Tensor) -> Tensor:
    """A real 1x1 convolution, which acts on real and imaginary parts alike."""
    batch, _, height, half = spectrum_f.shape
    mixed = mix @ _grouped(spectrum_f, mix.shape[0])
    return torch.view_as_complex(mixed.reshape(batch, -1, height, half, 2))


def _grouped(spectrum_f: Tensor, groups: int) -> Tensor:
    """As a real tensor [batch, groups, channels per group, values]."""
    values = torch.view_as_real(spectrum_f)
    return values.reshape(len(values), groups, values.shape[1] // groups, -1)


def _mix_gradient(folded_f: Tensor, weighted_grad_f: Tensor, groups: int) -> Tensor:
    by_image = _grouped(weighted_grad_f, groups) @ _grouped(folded_f, groups).mT
    return by_image.sum(0)
