"""Convolution of images with filters that are given by their spectra, and its derivatives.

One pass does it all: mix channels, transform, multiply, fold the stride, mix again, transform back.
So nothing between these steps is kept for the backward pass, and on a CPU nothing leaves its cache.
"""

from typing import Any, Literal

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from nifbuild.geometry import Frame
from nifbuild.nn import frame as framing
from nifbuild.nn.fourier import fold, full_precision, half_plane_weight, transform_dtype, unfold
from nifbuild.nn.tracing import is_batched, max_chunks, takes_cpu_ways, takes_single_steps

Memory = Literal["recompute", "save"]

CHUNK_BYTES = 2**21
PAIRWISE_CHUNK_BYTES = 2**26


def spectral_convolution(
    x: Float[Tensor, "batch in_channels height width"],
    kernel_f: Complex[Tensor, "filters period_height period_half"]
    | Complex[Tensor, "groups out_per_group in_per_group period_height period_half"],
    frame: Frame,
    *,
    mix_in: Float[Tensor, "groups rank_per_group in_per_group"] | None = None,
    mix_out: Float[Tensor, "groups out_per_group filters_per_group"] | None = None,
    bias: Float[Tensor, " out_channels"] | None = None,
    memory: Memory = "recompute",
    dtype: torch.dtype | None = None,
) -> Float[Tensor, "batch out_channels out_height out_width"]:
    """Convolves images with filters as large as they are.

    Computes bias + mix_out(ifft(fold(kernel_f * fft(mix_in(x))))), in float32 (float64 for a
    float64 `x`) with autocast off. `mix_out` commutes with the transform, and is applied on the
    side of it where there are fewer channels.

    Within the transforms of `torch.func`, in forward-mode differentiation and in `torch.jit.trace`,
    torch derives and records the steps one by one; then `memory` makes no difference.

    Args:
        x: Images, of any floating dtype.
        kernel_f: Spectra of real filters, laid into the frame's periods by
            `nifbuild.nn.frame.lay_kernel`: one for each channel, or one for each pair of an
            output and an input channel of a group, whose results are summed over the inputs.
        frame: Where outputs lie and how the image goes on beyond its border.
        mix_in: Weight of a grouped 1x1 convolution before the filters.
        mix_out: Weight of a grouped 1x1 convolution after the filters.
        bias: Added to each output channel.
        memory: What is kept for the gradients of the weights. `recompute` keeps `x`, which the
            layer before has often kept anyway, and transforms it again in the backward pass; `save`
            keeps its spectrum too.
        dtype: Of the result; that of `x` if None.

    Returns:
        Contiguous.

    Raises:
        RuntimeError: In a double backward with `memory="save"`; `recompute` supports it.
    """
    dtype = dtype or x.dtype
    weights = (kernel_f, mix_in, mix_out, bias)
    if takes_single_steps(x, *weights):
        return _convolve(_of_size(x, frame), weights, frame).to(dtype).contiguous()
    y: Tensor = _SpectralConvolution.apply(x, *weights, frame, memory, dtype)
    return y


class _SpectralConvolution(torch.autograd.Function):
    """The half-plane product, with real transforms in its backward pass too.

    Autograd's own derivative of a real transform goes through a complex one of the full plane.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        kernel_f: Tensor,
        mix_in: Tensor | None,
        mix_out: Tensor | None,
        bias: Tensor | None,
        frame: Frame,
        memory: Memory,
        dtype: torch.dtype,
    ) -> Tensor:
        sizes = (axis.num_outputs for axis in frame)
        y = x.new_empty(x.shape[0], _num_outputs(kernel_f, mix_out), *sizes, dtype=dtype)
        keeps = any(ctx.needs_input_grad[1:4])
        spectrum = None
        if keeps and memory == "save":
            channels = x.shape[1] if mix_in is None else mix_in.shape[0] * mix_in.shape[1]
            spectrum = kernel_f.new_empty(x.shape[0], channels, *kernel_f.shape[-2:])
        weights = (kernel_f, mix_in, mix_out, bias)
        for part in _parts(x, kernel_f, frame):
            y[part] = _convolve(
                x[part], weights, frame, None if spectrum is None else spectrum[part]
            )
        # With a spectrum, the input itself is needed for the gradient of `mix_in` alone.
        keeps_x = keeps and (spectrum is None or ctx.needs_input_grad[2])
        ctx.save_for_backward(x if keeps_x else None, spectrum, kernel_f, mix_in, mix_out, bias)
        ctx.frame, ctx.x_dtype, ctx.in_channels = frame, x.dtype, x.shape[1]
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            return _differentiable_backward(ctx, grad)
        x, spectrum, kernel_f, mix_in, mix_out, bias = ctx.saved_tensors
        frame: Frame = ctx.frame
        needs_x, _, _, _, needs_bias = ctx.needs_input_grad[:5]
        grad_x = None
        if needs_x:
            sizes = (axis.size for axis in frame)
            grad_x = grad.new_empty(grad.shape[0], ctx.in_channels, *sizes, dtype=ctx.x_dtype)
        weights = (kernel_f, kernel_f.conj().resolve_conj(), mix_in, mix_out)
        needs = ctx.needs_input_grad[1:4]
        grads = [
            _zeros_like(weight, grad) if needed else None
            for weight, needed in zip((kernel_f, mix_in, mix_out), needs, strict=True)
        ]
        for part in _parts(grad, kernel_f, frame):
            _derive(grad, (x, spectrum), weights, frame, grad_x, grads, part)
        if grads[0] is not None:
            grads[0] *= _half_plane_weight(frame[0].period, frame[1].period, kernel_f)
        grad_bias = grad.sum((0, 2, 3), dtype=bias.dtype) if needs_bias else None
        return grad_x, *grads, grad_bias, None, None, None


def _convolve(
    x: Tensor,
    weights: tuple[Tensor, Tensor | None, Tensor | None, Tensor | None],
    frame: Frame,
    spectrum: Tensor | None = None,
) -> Tensor:
    """The outputs; writes the images' spectra to `spectrum`."""
    kernel_f, mix_in, mix_out, bias = weights
    with full_precision(x.device):
        x_f = framing.analyse(_mix(_real(x), mix_in), frame)
        if spectrum is not None:
            spectrum.copy_(x_f)
        return _synthesise(_product(x_f, kernel_f), mix_out, bias, frame)


def _of_size(x: Tensor, frame: Frame) -> Tensor:
    """The images as they are; a trace of this refuses images of another size."""
    rows, columns = frame
    for dim, axis in ((-2, rows), (-1, columns)):
        x = torch.split(x, [axis.size], dim=dim)[0]
    return x


def _zeros_like(weight: Tensor, grad: Tensor) -> Tensor:
    """To sum gradients in: one for each of several backward passes, if `grad` stands for them."""
    return grad.new_zeros(weight.shape, dtype=weight.dtype)


def _derive(
    grad: Tensor,
    kept: tuple[Tensor | None, Tensor | None],
    weights: tuple[Tensor, Tensor, Tensor | None, Tensor | None],
    frame: Frame,
    grad_x: Tensor | None,
    grads: list[Tensor | None],
    part: slice,
) -> None:
    """Writes a part of the input's gradient, and adds what a part gives to those of the weights."""
    (x, spectrum), (kernel_f, conj_kernel_f, mix_in, mix_out) = kept, weights
    grad_kernel, grad_in, grad_out = grads
    strides, width = (frame[0].folds, frame[1].folds), frame[1].period
    with full_precision(grad.device):
        grad_f = framing.synthesise_adjoint(_real(grad[part]), frame)
        x_f = grad_f  # of no use if neither is kept
        if spectrum is not None:
            x_f = spectrum[part]
        elif x is not None:
            x_f = framing.analyse(_mix(_real(x[part]), mix_in), frame)
        if mix_out is not None:
            if grad_out is not None:
                folded_f = fold(_product(x_f, kernel_f), width, strides)
                weight = _half_plane_weight(frame[0].folded, frame[1].folded, kernel_f)
                grad_out += _mix_gradient(folded_f, grad_f * weight, len(mix_out))
            grad_f = _mix(grad_f, mix_out.mT)
        grad_f = unfold(grad_f, width, strides)
        if grad_kernel is not None:
            grad_kernel += _kernel_gradient(x_f, grad_f, kernel_f)
        if grad_x is None and grad_in is None:
            return
        grad_v = framing.analyse_adjoint(_product_adjoint(grad_f, conj_kernel_f), frame)
        if mix_in is not None:
            if grad_in is not None and x is not None:
                grad_in += _mix_gradient(_real(x[part]), grad_v, len(mix_in))
            grad_v = _mix(grad_v, mix_in.mT)
        if grad_x is not None:
            grad_x[part] = grad_v


def _half_plane_weight(height: int, width: int, like: Tensor) -> Tensor:
    """A frequency of the half plane stands for its mirror too."""
    return half_plane_weight(height, width, dtype=like.real.dtype, device=like.device)


def _differentiable_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    """The gradients as functions of the inputs, for a double backward."""
    x, spectrum, kernel_f, mix_in, mix_out, bias = ctx.saved_tensors
    if spectrum is not None:
        raise RuntimeError(
            "`memory` (='save') keeps no input to differentiate twice; use `memory='recompute'`"
        )
    with torch.enable_grad(), full_precision(grad.device):
        if x is None:  # the gradients that are wanted do not depend on it
            sizes = (axis.size for axis in ctx.frame)
            x = grad.new_zeros(grad.shape[0], ctx.in_channels, *sizes, dtype=ctx.x_dtype)
            x.requires_grad_()
        y = _convolve(x, (kernel_f, mix_in, mix_out, bias), ctx.frame).to(grad.dtype)
        inputs = (x, kernel_f, mix_in, mix_out, bias)
        wanted = [i for i, needed in enumerate(ctx.needs_input_grad[:5]) if needed]
        found = torch.autograd.grad(y, [inputs[i] for i in wanted], grad, create_graph=True)
    grads: list[Tensor | None] = [None] * 8
    for i, gradient in zip(wanted, found, strict=True):
        grads[i] = gradient
    return tuple(grads)


def _product(x_f: Tensor, kernel_f: Tensor) -> Tensor:
    """Spectra of images times those of filters: one for each channel, or for each pair."""
    if kernel_f.ndim == 3:
        return x_f * kernel_f
    y_f = torch.einsum("bgihw,goihw->bgohw", _grouped(x_f, kernel_f), kernel_f)
    return y_f.flatten(1, 2)


def _product_adjoint(grad_f: Tensor, conj_kernel_f: Tensor) -> Tensor:
    """From the gradient of the product to that of the images' spectra; may write to `grad_f`."""
    if conj_kernel_f.ndim == 3:
        return grad_f.mul_(conj_kernel_f)
    grads_f = _grouped(grad_f, conj_kernel_f)
    if is_batched(grad_f):
        grad_v = (grads_f[:, :, :, None] * conj_kernel_f).sum(2)
    else:
        grad_v = torch.einsum("bgohw,goihw->bgihw", grads_f, conj_kernel_f)
    return grad_v.reshape(grad_v.shape[0], -1, *grad_v.shape[-2:])


def _kernel_gradient(x_f: Tensor, grad_f: Tensor, kernel_f: Tensor) -> Tensor:
    """The gradient of the filters' spectra, but for the half plane's weights."""
    x_f = torch.conj_physical(x_f)
    if kernel_f.ndim == 3:
        product = x_f * grad_f if is_batched(grad_f) else x_f.mul_(grad_f)
        return product.sum(0)
    inputs_f, grads_f = _grouped(x_f, kernel_f), _grouped(grad_f, kernel_f)
    if is_batched(grad_f):
        return (inputs_f[:, :, None] * grads_f[:, :, :, None]).sum(0)
    return torch.einsum("bgihw,bgohw->goihw", inputs_f, grads_f)


def _grouped(spectrum_f: Tensor, kernel_f: Tensor) -> Tensor:
    batch, channels, *size = spectrum_f.shape
    return spectrum_f.reshape(batch, len(kernel_f), channels // len(kernel_f), *size)


def _real(x: Tensor) -> Tensor:
    return x.to(transform_dtype(x.dtype))


def _num_outputs(kernel_f: Tensor, mix_out: Tensor | None) -> int:
    if mix_out is not None:
        return mix_out.shape[0] * mix_out.shape[1]
    return kernel_f.shape[0] * (kernel_f.shape[1] if kernel_f.ndim == 5 else 1)


def _parts(x: Tensor, kernel_f: Tensor, frame: Frame) -> list[slice]:
    """Slices of the batch; on a CPU their spectra stay in its cache from one step to the next."""
    if x.shape[0] == 0:
        return []
    if not takes_cpu_ways(x):
        return [slice(None)]  # the compiler does not know how many there are
    # Products over pairs of channels have a blocking of their own, and want many images.
    budget = CHUNK_BYTES if kernel_f.ndim == 3 else PAIRWISE_CHUNK_BYTES
    image = max(x.shape[1], kernel_f.shape[0]) * frame[0].period * frame[1].period
    size = max(1, budget // max(1, image * kernel_f.real.element_size()))
    stop = min(x.shape[0], size * max_chunks())
    return [slice(start, start + size) for start in range(0, stop, size)]


def _synthesise(
    product_f: Tensor, mix_out: Tensor | None, bias: Tensor | None, frame: Frame
) -> Tensor:
    """Fold the stride, mix channels, and invert the transform."""
    product_f = fold(product_f, frame[1].period, (frame[0].folds, frame[1].folds))
    reduces = mix_out is not None and mix_out.shape[1] < mix_out.shape[2]
    if reduces:
        product_f = _mix(product_f, mix_out)
    y = framing.synthesise(product_f, frame)
    if not reduces:
        y = _mix(y, mix_out)
    return y if bias is None else y + bias[:, None, None]


def _mix(x: Tensor, weight: Tensor | None) -> Tensor:
    """A grouped 1x1 convolution, of images or of their spectra: a real one acts alike on both."""
    if weight is None:
        return x
    values = torch.view_as_real(x) if x.is_complex() else x
    mixed = weight @ values.reshape(x.shape[0], weight.shape[0], weight.shape[2], -1)
    mixed = mixed.reshape(x.shape[0], -1, *values.shape[2:])
    return torch.view_as_complex(mixed) if x.is_complex() else mixed


def _mix_gradient(x: Tensor, grad: Tensor, groups: int) -> Tensor:
    """The gradient of a 1x1 convolution's weight; complex inputs stand for pairs of reals."""
    inputs, grads = (
        (torch.view_as_real(t) if t.is_complex() else t).reshape(
            t.shape[0], groups, t.shape[1] // groups, -1
        )
        for t in (x, grad)
    )
    if grads.shape[2] * inputs.shape[2] < (grads.shape[2] + inputs.shape[2]) * inputs.shape[3]:
        return (grads @ inputs.mT).sum(0)
    # Small images: one product over batch and pixels, after a copy, instead of one for each image.
    inputs, grads = (t.permute(1, 2, 0, 3).flatten(2) for t in (inputs, grads))
    return grads @ inputs.mT
