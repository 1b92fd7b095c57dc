"""Which way a convolution with filters as large as the image is computed: chosen by measuring.

There are a chain of Fourier transforms (`nifbuild.nn.spectral_convolution`), anywhere and for
anything; a fused kernel (`nifbuild.nn.fused`), on a CUDA device, with one filter for each channel
and periods of at most 64 pixels; and circulant matrices (`nifbuild.nn.circulant`), on a CPU, for
many images of at most 64 pixels.
"""

import os
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from nifbuild.geometry import Frame
from nifbuild.nn import circulant
from nifbuild.nn.direct_convolution import DirectConvolution, Kernel, fused_kernel
from nifbuild.nn.spectral_convolution import Memory, spectral_convolution
from nifbuild.nn.tracing import (
    has_values,
    is_recorded,
    on_gpu,
    takes_cpu_ways,
    takes_single_steps,
)

Backend = Literal["auto", "fft", "fused"]

MAX_PERIOD = 64
BOUNDS = {torch.float32: 1e-5, torch.bfloat16: 2.0**-7, torch.float16: 2.0**-9}
"""How far the two ways may differ, relative to the norm; float32 where TF32 is not allowed."""
TF32_BOUND = 2.0**-9
_MEASURED_VALUES = 2**25
"""How much of a batch is measured with, so that the first step fits where later ones do."""


class Choice(NamedTuple):
    """What was chosen for a kind of convolution on a device.

    Attributes:
        backend: The way.
        why: The reason, for people.
        frame: Where outputs lie; of images of `channels` channels, in batches of `batch`.
        batch: See `frame`.
        channels: See `frame`.
        dtype: Of the result.
        device: As torch writes it.
        trains: Whether gradients were measured, too.
        fft_ms: Median time of the chain of transforms; None if it was not measured.
        fused_ms: The same for the kernel.
        difference: Between the results, relative to the norm of the chain's.
    """

    backend: Literal["fft", "fused"]
    why: str
    frame: Frame
    batch: int
    channels: int
    dtype: torch.dtype
    device: str
    trains: bool
    fft_ms: float | None = None
    fused_ms: float | None = None
    difference: float | None = None


_CHOICES: dict[tuple[object, ...], Choice] = {}


def choices() -> list[Choice]:
    """All that was chosen since the process started, in order."""
    return [*_CHOICES.values()]


def convolution(
    x: Float[Tensor, "batch in_channels height width"],
    kernel_f: Complex[Tensor, "..."],
    frame: Frame,
    *,
    mix_in: Float[Tensor, "groups rank_per_group in_per_group"] | None = None,
    mix_out: Float[Tensor, "groups out_per_group filters_per_group"] | None = None,
    bias: Float[Tensor, " out_channels"] | None = None,
    memory: Memory = "recompute",
    dtype: torch.dtype | None = None,
    backend: Backend = "auto",
) -> Float[Tensor, "batch out_channels out_height out_width"]:
    """`spectral_convolution`, by whichever way suits.

    The fused way filters in products of 10 bits' precision where the result is in half precision,
    and then mixes channels in the result's own dtype, as an ordinary 1x1 convolution does under
    autocast. `memory` makes no difference to it: it keeps the input alone.

    Args:
        x: As for `spectral_convolution`, like all that is not named here.
        kernel_f: See there.
        frame: See there.
        mix_in: See there.
        mix_out: See there.
        bias: See there.
        memory: See there.
        dtype: See there.
        backend: `fft` is the chain, and `fused` the kernel, in whose place a CPU has the chain. On
            a CPU, `auto` multiplies many small images by circulant matrices. On a CUDA device it
            measures both the first time that it meets a shape, dtype and device, and keeps the
            fused one if it agrees with the other and is faster. With torch's deterministic
            algorithms it goes by agreement alone, as two measurements may differ. Where nothing can
            be measured, `torch.compile` gets the kernel, and a CUDA graph the chain, unless it was
            measured before.

    Raises:
        ValueError: With `backend="fused"` on a CUDA device, if the kernel cannot do it.
    """
    dtype = dtype or x.dtype
    weights = (kernel_f, mix_in, mix_out, bias)
    direct = False
    if backend == "fft" or takes_single_steps(x, *weights) or torch.compiler.is_exporting():
        pass  # what is exported runs without nifbuild, so without its kernel
    elif on_gpu(x):
        obstacle = fused_obstacle(x, kernel_f, frame, dtype, mix_in)
        if obstacle is not None and backend == "fused":
            raise ValueError(f"`backend` (='fused') is not possible: {obstacle}; use 'auto'")
        if obstacle is None:
            direct = backend == "fused" or _chosen(x, weights, frame, dtype) == "fused"
    elif takes_cpu_ways(x) and memory == "recompute":
        direct = backend == "auto" and circulant.accepts(x, kernel_f, frame)
    if direct:
        y: Tensor = DirectConvolution.apply(x, *weights, frame, memory, dtype)
        return y
    return spectral_convolution(
        x, kernel_f, frame, mix_in=mix_in, mix_out=mix_out, bias=bias, memory=memory, dtype=dtype
    )


def fused_obstacle(
    x: Tensor, kernel_f: Tensor, frame: Frame, dtype: torch.dtype, mix_in: Tensor | None = None
) -> str | None:
    """Why the kernel cannot do a convolution; None if it can."""
    channels = x.shape[1] if mix_in is None else mix_in.shape[0] * mix_in.shape[1]
    if kernel_f.ndim != 3 or kernel_f.shape[0] != channels:
        return "it has one filter for each channel, not for pairs of channels"
    if any(axis.continued for axis in frame):
        return f"a border of {frame[0].boundary} pixels is written out first"
    longest = max(axis.period for axis in frame)
    if longest > MAX_PERIOD:
        return f"a period of {longest} pixels is over {MAX_PERIOD}"
    if dtype not in BOUNDS or x.dtype not in BOUNDS:
        return f"images of {x.dtype} are computed in float64"
    return None


def _chosen(
    x: Tensor, weights: tuple[Tensor, *tuple[Tensor | None, ...]], frame: Frame, dtype: torch.dtype
) -> Literal["fft", "fused"]:
    """The way that was chosen for such images, or is now."""
    if not has_values(x):
        return "fused"  # predicted for a GPU, where it nearly always is
    if x.device.type == "cpu" and os.environ.get("TRITON_INTERPRET") != "1":
        return "fft"  # looked at as if on a GPU
    kernel_f = weights[0]
    trains = torch.is_grad_enabled() and any(
        t is not None and t.requires_grad for t in (x, *weights)
    )
    channels = kernel_f.shape[0]
    key = (frame, x.shape[0], channels, x.dtype, dtype, x.device, trains)
    found = _CHOICES.get(key)
    if found is None:
        if is_recorded() or x.shape[0] == 0:
            return "fft"  # nothing can be measured now
        with torch.inference_mode(False), torch.no_grad():
            images = x.detach()[: max(1, _MEASURED_VALUES // max(1, x[0].numel()))]
            if images.shape[1] != channels:  # they are mixed first
                images = images.new_empty(len(images), channels, *images.shape[2:]).normal_()
            found = choose(images, kernel_f.detach(), frame, dtype, trains=trains)
        _CHOICES[key] = found._replace(batch=x.shape[0])
    return found.backend


def choose(
    x: Tensor,
    kernel_f: Tensor,
    frame: Frame,
    dtype: torch.dtype,
    *,
    trains: bool,
    kernel: Kernel | None = None,
    repeats: int = 5,
) -> Choice:
    """Runs both ways on the images, and takes the fused one if it agrees and is faster.

    Args:
        x: Images.
        kernel_f: One filter for each channel.
        frame: Where outputs lie.
        dtype: Of the result.
        trains: Whether gradients count, too.
        kernel: In place of the fused one.
        repeats: How often each is timed.

    Warns:
        RuntimeWarning: The kernel fails, in its compiler say.
    """
    facts = (frame, x.shape[0], kernel_f.shape[0], dtype, str(x.device), trains)

    def fft(grad: Tensor | None) -> tuple[Tensor, ...]:
        if grad is None:
            return (spectral_convolution(x, kernel_f, frame, dtype=dtype),)
        with torch.enable_grad():
            leaves = [x.detach().requires_grad_(), kernel_f.detach().requires_grad_()]
            y = spectral_convolution(leaves[0], leaves[1], frame, dtype=dtype)
            return (y.detach(), *torch.autograd.grad(y, leaves, grad))

    def fused(own: Kernel) -> tuple[Tensor, ...]:
        y = own.filter_images(x, kernel_f, None, frame, dtype)
        if grad is None:
            return (y,)
        grad_x, grad_kernel = own.both_gradients(x, grad, kernel_f, frame, needs_x=True)
        assert grad_x is not None  # as it was asked for
        return y, grad_x, grad_kernel

    expected = fft(None)
    grad = expected[0] if trains else None
    expected = fft(grad)
    try:
        own = kernel or fused_kernel()
        found = fused(own)
        _synchronize(x)
    except Exception as error:  # of any kind: a compiler's, a driver's, no Triton
        what = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        warnings.warn(
            f"the fused convolution fails here, and Fourier transforms are used ({what})",
            RuntimeWarning,
            stacklevel=2,
        )
        return Choice("fft", f"the fused one fails: {what}", *facts)
    difference = max(map(_difference, found, expected))
    if not difference <= _bound(dtype):
        why = f"the fused one differs by {difference:.1e}, more than {_bound(dtype):.1e}"
        return Choice("fft", why, *facts, difference=difference)
    if torch.are_deterministic_algorithms_enabled():
        why = "the fused one agrees; times do not count in deterministic runs"
        return Choice("fused", why, *facts, difference=difference)
    fft_ms = _median_ms(lambda: fft(grad), x, repeats)
    fused_ms = _median_ms(lambda: fused(own), x, repeats)
    faster: Literal["fft", "fused"] = "fused" if fused_ms < fft_ms else "fft"
    why = f"the faster one: {fused_ms:.3g} ms fused, {fft_ms:.3g} ms by transforms"
    return Choice(faster, why, *facts, fft_ms, fused_ms, difference)


def _bound(dtype: torch.dtype) -> float:
    allowed = dtype == torch.float32 and torch.get_float32_matmul_precision() != "highest"
    return TF32_BOUND if allowed else BOUNDS[dtype]


def _difference(found: Tensor, expected: Tensor) -> float:
    norm = torch.linalg.vector_norm
    values = [t if t.is_complex() else t.float() for t in (found, expected)]
    scale = float(norm(values[1]))
    return float(norm(values[0] - values[1])) / scale if scale else float(norm(values[0]))


def _median_ms(way: Callable[[], object], x: Tensor, repeats: int) -> float:
    times = []
    for _ in range(repeats):
        _synchronize(x)
        started = time.perf_counter()
        way()
        _synchronize(x)
        times.append(1e3 * (time.perf_counter() - started))
    return statistics.median(times)


def _synchronize(x: Tensor) -> None:
    if x.device.type == "cuda":
        torch.cuda.synchronize(x.device)
