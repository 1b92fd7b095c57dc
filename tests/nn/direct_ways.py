"""What each direct way to filter images has to give, by the oracle."""

from typing import Any

import pytest
import torch

from nifbuild.geometry import Boundary, Frame, plan_axis
from nifbuild.nn.direct_convolution import Kernel
from nifbuild.nn.frame import lay_kernel
from tests.nn.oracle import filtered


def frame_of(
    size: tuple[int, int],
    stride: tuple[int, int] = (1, 1),
    boundary: Boundary = "circular",
    offset: int = 0,
) -> Frame:
    """With as many outputs as an ordinary convolution that keeps the size has at that stride."""
    rows, columns = (
        plan_axis(n, -(-n // step), step, offset, boundary)
        for n, step in zip(size, stride, strict=True)
    )
    return rows, columns


def check(
    way: Kernel,
    size: tuple[int, int],
    dtype: torch.dtype,
    bound: float,
    *,
    stride: tuple[int, int] = (1, 1),
    boundary: Boundary = "circular",
    offset: int = 0,
    batch: int = 3,
    device: str = "cpu",
) -> None:
    """Values and gradients of all its functions, relative to the norm within the bound."""
    torch.manual_seed(0)
    frame = frame_of(size, stride, boundary, offset)
    if any(axis.continued for axis in frame):
        pytest.skip("the last output lies beyond the image: pixels are written out")
    rows, columns = (
        [offset + number * axis.stride for number in range(axis.num_outputs)] for axis in frame
    )
    kernels = torch.randn(2, *size, dtype=torch.float64, requires_grad=True)
    x = torch.randn(batch, 2, *size).to(dtype).double().requires_grad_()
    bias = torch.randn(2)
    expected = filtered(x, kernels, (rows, columns), boundary) + bias.double()[:, None, None]
    upstream = torch.randn(expected.shape).to(dtype)
    wanted = torch.autograd.grad(expected, [x, kernels], upstream.double())

    origin_first = torch.roll(kernels, [-(n // 2) for n in size], (-2, -1))
    kernel_f = lay_kernel(torch.fft.rfft2(origin_first), frame)
    exact = dtype == torch.float64
    spectrum = kernel_f.detach().to(device, torch.complex128 if exact else torch.complex64)
    images, grad = x.detach().to(device, dtype), upstream.to(device)
    y = way.filter_images(images, spectrum, bias.to(device, spectrum.real.dtype), frame, dtype)
    alone = way.filter_gradient(grad, spectrum, frame, dtype)
    grad_x, grad_f = way.both_gradients(images, grad, spectrum, frame, needs_x=True)
    none, again = way.both_gradients(images, grad, spectrum, frame, needs_x=False)
    assert none is None and torch.equal(grad_f, again) and grad_x is not None
    upstream_f = grad_f.cpu().to(torch.complex128)
    (grad_kernels,) = torch.autograd.grad(kernel_f, [kernels], upstream_f)
    assert y.dtype == alone.dtype == grad_x.dtype == dtype and y.is_contiguous()
    pairs: list[tuple[Any, Any]] = [(y, expected), (alone, wanted[0]), (grad_x, wanted[0])]
    for found, right in [*pairs, (grad_kernels, wanted[1])]:
        assert found.shape == right.shape
        assert (found.double().cpu() - right).norm() <= bound * right.norm()
