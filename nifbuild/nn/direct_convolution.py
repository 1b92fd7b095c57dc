"""Filtering between 1x1 convolutions by direct ways, which keep nothing but the input.

On a CUDA device that is the fused kernel (`nifbuild.nn.fused`), on a CPU circulant matrices
(`nifbuild.nn.circulant`). Either is three functions: the filtered images, their gradient, and both
gradients at once. What the gradients of the 1x1 convolutions need is filtered again.
"""

from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional

from nifbuild.geometry import Axis, Frame
from nifbuild.nn import circulant
from nifbuild.nn.fourier import full_precision
from nifbuild.nn.spectral_convolution import Memory, _mix, _mix_gradient, _SpectralConvolution
from nifbuild.nn.tracing import has_values, is_batched, on_gpu


@runtime_checkable
class Kernel(Protocol):
    """What a direct way has; shapes and dtypes are those of `nifbuild.nn.fused`."""

    def filter_images(
        self, x: Tensor, kernel_f: Tensor, bias: Tensor | None, frame: Frame, dtype: torch.dtype
    ) -> Tensor:
        """The images, filtered."""

    def filter_gradient(
        self, grad: Tensor, kernel_f: Tensor, frame: Frame, dtype: torch.dtype
    ) -> Tensor:
        """The gradient of the images."""

    def both_gradients(
        self, x: Tensor, grad: Tensor, kernel_f: Tensor, frame: Frame, *, needs_x: bool
    ) -> tuple[Tensor | None, Tensor]:
        """The gradients of the images, if asked for, and of the filters' spectra."""


def fused_kernel() -> Kernel:
    """The fused kernel.

    Raises:
        ImportError: There is no Triton.
    """
    from nifbuild.nn import fused

    return fused


class DirectConvolution(torch.autograd.Function):
    """As `spectral_convolution`, but without `memory`, which stands for one signature with it."""

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
        """Of the result's dtype on a CUDA device, and inside too; in full precision on a CPU."""
        ctx.save_for_backward(x, None, kernel_f, mix_in, mix_out, bias)
        ctx.frame, ctx.x_dtype, ctx.in_channels = frame, x.dtype, x.shape[1]
        ctx.on_gpu = on_gpu(x)
        ctx.mixed_in = mixed_in = dtype if ctx.on_gpu else kernel_f.real.dtype
        way = _way(x, ctx.on_gpu)
        with full_precision(x.device):
            v = _mixed(x, mix_in, mixed_in)
            if mix_out is None:
                y: Tensor = way.filter_images(v, kernel_f, bias, frame, dtype)
                return y
            y = _mixed(way.filter_images(v, kernel_f, None, frame, mixed_in), mix_out, mixed_in)
            if bias is not None:
                y += bias[:, None, None].to(mixed_in)
            return y.to(dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """For second derivatives and batches of gradients by the chain of transforms."""
        if torch.is_grad_enabled() or is_batched(grad):
            return _SpectralConvolution.backward(ctx, grad)
        x, _, kernel_f, mix_in, mix_out, bias = ctx.saved_tensors
        needs_x, needs_kernel, needs_in, needs_out, needs_bias = ctx.needs_input_grad[:5]
        frame, way, mixed_in = ctx.frame, _way(x, ctx.on_gpu), ctx.mixed_in
        grad_x = grad_kernel = grad_in = grad_out = None
        with full_precision(x.device):
            grad_bias = grad.sum((0, 2, 3), dtype=bias.dtype) if needs_bias else None
            v = _mixed(x, mix_in, mixed_in)
            if mix_out is not None:
                grad = grad.to(mixed_in)
                if needs_out:
                    y = way.filter_images(v, kernel_f, None, frame, mixed_in)
                    grad_out = _mixed_gradient(y, grad, mix_out)
                grad = _mixed(grad, mix_out.mT, mixed_in)
            needs_v, grad_v = needs_x or needs_in, None
            if needs_kernel:
                grad_v, grad_kernel = way.both_gradients(v, grad, kernel_f, frame, needs_x=needs_v)
            elif needs_v:
                grad_v = way.filter_gradient(grad, kernel_f, frame, v.dtype)
            if grad_v is not None and mix_in is not None and needs_in:
                grad_in = _mixed_gradient(x.to(mixed_in), grad_v, mix_in)
            if grad_v is not None and needs_x:
                back = grad_v if mix_in is None else _mixed(grad_v, mix_in.mT, mixed_in)
                grad_x = back.to(x.dtype)
        return grad_x, grad_kernel, grad_in, grad_out, grad_bias, None, None, None


def _mixed(x: Tensor, weight: Tensor | None, dtype: torch.dtype) -> Tensor:
    """A grouped 1x1 convolution in `dtype`; without a weight, the images as they are."""
    if weight is None:
        return x
    if dtype in (torch.float32, torch.float64):
        return _mix(x.to(dtype), weight)
    kernel = weight.reshape(-1, weight.shape[2], 1, 1).to(dtype)
    return functional.conv2d(x.to(dtype), kernel, groups=len(weight))


def _mixed_gradient(x: Tensor, grad: Tensor, weight: Tensor) -> Tensor:
    """The gradient of its weight."""
    if grad.dtype in (torch.float32, torch.float64):
        return _mix_gradient(x.to(grad.dtype), grad, len(weight))
    kernel = weight.reshape(-1, weight.shape[2], 1, 1).to(grad.dtype)
    found = torch.ops.aten.convolution_backward(
        grad, x, kernel, None, [1, 1], [0, 0], [1, 1], False, [0, 0], len(weight),
        [False, True, False],
    )[1]  # fmt: skip
    gradient: Tensor = found.reshape(weight.shape).to(weight.dtype)
    return gradient


class _Operators:
    """The fused kernel as operators of torch.

    The compiler takes them for what they are, and prediction of memory gets the shapes of what they
    make. Called directly they cost less time.
    """

    @staticmethod
    def filter_images(
        x: Tensor, kernel_f: Tensor, bias: Tensor | None, frame: Frame, dtype: torch.dtype
    ) -> Tensor:
        y: Tensor = _filter_op(x, kernel_f, bias, _numbers(frame), dtype, False)
        return y

    @staticmethod
    def filter_gradient(grad: Tensor, kernel_f: Tensor, frame: Frame, dtype: torch.dtype) -> Tensor:
        grad_x: Tensor = _filter_op(grad, kernel_f, None, _numbers(frame), dtype, True)
        return grad_x

    @staticmethod
    def both_gradients(
        x: Tensor, grad: Tensor, kernel_f: Tensor, frame: Frame, *, needs_x: bool
    ) -> tuple[Tensor | None, Tensor]:
        grad_x, grad_kernel = _gradients_op(x, grad, kernel_f, _numbers(frame), needs_x)
        return (grad_x if needs_x else None), grad_kernel


def _way(x: Tensor, with_gpu: bool) -> Kernel:
    if not with_gpu:
        return circulant
    return fused_kernel() if has_values(x) else _Operators()


def _numbers(frame: Frame) -> list[int]:
    """A frame, as operators of torch take it."""
    return [number for axis in frame for number in axis[:-1]]


def _frame(numbers: list[int]) -> Frame:
    """With no border that is written out: what is beyond it, the periods tell."""
    half = len(numbers) // 2
    rows, columns = (Axis._make((*part, "circular")) for part in (numbers[:half], numbers[half:]))
    return rows, columns


@torch.library.custom_op("nifbuild::filter_images", mutates_args=())
def _filter_op(
    x: Tensor,
    kernel_f: Tensor,
    bias: Tensor | None,
    numbers: list[int],
    dtype: torch.dtype,
    back: bool,
) -> Tensor:
    if back:
        return fused_kernel().filter_gradient(x, kernel_f, _frame(numbers), dtype)
    return fused_kernel().filter_images(x, kernel_f, bias, _frame(numbers), dtype)


@_filter_op.register_fake
def _(
    x: Tensor,
    kernel_f: Tensor,
    bias: Tensor | None,
    numbers: list[int],
    dtype: torch.dtype,
    back: bool,
) -> Tensor:
    sizes = (axis.size if back else axis.num_outputs for axis in _frame(numbers))
    return x.new_empty(x.shape[0], x.shape[1], *sizes, dtype=dtype)


@torch.library.custom_op("nifbuild::filter_gradients", mutates_args=())
def _gradients_op(
    x: Tensor, grad: Tensor, kernel_f: Tensor, numbers: list[int], needs_x: bool
) -> tuple[Tensor, Tensor]:
    grad_x, grad_kernel = fused_kernel().both_gradients(
        x, grad, kernel_f, _frame(numbers), needs_x=needs_x
    )
    return (x.new_empty(0) if grad_x is None else grad_x), grad_kernel


@_gradients_op.register_fake
def _(
    x: Tensor, grad: Tensor, kernel_f: Tensor, numbers: list[int], needs_x: bool
) -> tuple[Tensor, Tensor]:
    like = torch.empty_like(x, memory_format=torch.contiguous_format)
    return (like if needs_x else x.new_empty(0)), torch.empty_like(kernel_f)
