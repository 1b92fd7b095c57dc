"""The depthwise filtering of images in one Triton kernel: each pixel is read and written once.

The chain of library calls in `nifbuild.nn.spectral_convolution` moves spectra through a GPU's
memory between its steps. Here an image stays on the chip, and its transforms are small matrix
products.

A real signal x[0 ... N-1] is split about its middle into an even and an odd part of half the
length,

    e[p] = x[p] + x[N - 1 - p],    o[p] = x[p] - x[N - 1 - p],    p = 0 ... ceil(N / 2) - 1,

of which the one has cosines alone, C[k] = sum_p e[p] cos(2 pi k (p + 1/2) / N) for k = 0 ..., and
the other sines alone, S[k] likewise for k = 1 ... N / 2. Along both axes, each way takes eight
real products with matrices of N / 2 x N / 2, a third of what complex ones would take. The sine of
frequency N / 2 stands where that of frequency 0, which is none, would stand: in row 0. The half
pixel cancels, as shifts do in a convolution. In names, the first letter says what a part is along
the height (c: cosine or even, s: sine or odd) and the second what it is along the width.

A filter acts on the pair of cosine and sine of a frequency as a turn and a scaling do. Its own
parts, about the origin pixel, are those of K[k, l] = cc - ss - i (sc + cs) and
K[-k, l] = cc + ss + i (sc - cs).

Importing this file needs Triton, which comes with torch where it has CUDA on Linux.
"""

import functools
import math
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from nifbuild.geometry import Frame
from nifbuild.nn.fourier import constant

_LEAST_TILE = 16
"""The tensor cores' least matrix."""


class _Tile(NamedTuple):
    """How many images lie side by side along an axis of a matrix, as half signals."""

    half: int
    images: int
    size: int


def _tile(period: int) -> _Tile:
    half = (period + 1) // 2
    size = max(_LEAST_TILE, triton.next_power_of_2(half))
    return _Tile(half, size // half, size)


def _matrices(period: int, like: Tensor) -> Tensor:
    """Orthonormal cosines and sines, [2, frequency, pixel], repeated along the diagonal."""

    def make() -> tuple[Tensor]:
        half, images, size = _tile(period)
        cpu = torch.device("cpu")
        order = torch.arange(half, dtype=torch.float64, device=cpu)
        angles = 2 * math.pi / period * order[:, None] * (order + 0.5)
        scale = torch.full((half, 1), 2 / period, dtype=torch.float64, device=cpu)
        scale[0] = 1 / period
        cosines, sines = scale.sqrt() * angles.cos(), scale.sqrt() * angles.sin()
        if period % 2 == 0:
            sines[0] = (math.pi * (order + 0.5)).sin() / math.sqrt(period)
        matrices = torch.zeros(2, size, size, dtype=torch.float64, device=cpu)
        for start in range(0, images * half, half):
            block = slice(start, start + half)
            matrices[:, block, block] = torch.stack([cosines, sines])
        return (matrices.float().to(like.device),)

    return constant(("fused", period, like.device), make)[0]


@triton.jit
def _dot(a, b, PRECISION: tl.constexpr):
    if PRECISION == "fp16":
        return tl.dot(a.to(tl.float16), b.to(tl.float16))
    elif PRECISION == "tf32":
        return tl.dot(_as_tf32(a), _as_tf32(b), input_precision="tf32")
    else:
        return tl.dot(a, b, input_precision=PRECISION)


@triton.jit
def _as_tf32(values):
    """Rounded to TF32's 10 bits: the tensor cores cut them off, which errs in one direction."""
    bits = values.to(tl.int32, bitcast=True)
    rounded = ((bits + 0x1000) & -0x2000).to(tl.float32, bitcast=True)
    return tl.where(values == values, rounded, values)


@triton.jit
def _in_range(cc, cs, sc, ss, PRECISION: tl.constexpr):
    """The parts of an image in the range of 16 bits, whatever its own; and what divides them."""
    if PRECISION == "fp16":
        largest = tl.maximum(tl.maximum(tl.abs(cc), tl.abs(cs)), tl.maximum(tl.abs(sc), tl.abs(ss)))
        scale = tl.maximum(tl.max(largest), 1e-30)
        return cc / scale, cs / scale, sc / scale, ss / scale, scale
    else:
        return cc, cs, sc, ss, 1.0


@triton.jit
def _places(
    index, HALF: tl.constexpr, IMAGES: tl.constexpr, PERIOD: tl.constexpr,
    EXTENT: tl.constexpr, STEP: tl.constexpr, image_stride, pixel_stride,
):  # fmt: skip
    """Along an axis of the tile: where its pixels lie and whether there, then of their mirrors.

    An image holds every `STEP`-th pixel of the period. Those that are their own mirror count once.
    """
    pixel = index % HALF
    mirror = PERIOD - 1 - pixel
    start, of_image = index // HALF * image_stride, index < HALF * IMAGES
    there = of_image & (pixel % STEP == 0) & (pixel // STEP < EXTENT)
    mirror_there = of_image & (mirror % STEP == 0) & (mirror // STEP < EXTENT) & (mirror != pixel)
    offset, mirror_offset = pixel // STEP * pixel_stride, mirror // STEP * pixel_stride
    return start + offset, there, start + mirror_offset, mirror_there


# The offsets along the two axes are joined at each image: joined before, they would take up more
# registers than there are.


@triton.jit
def _load_parts(images, valid, h, h_there, m, m_there, w, w_there, n, n_there):
    """The even and odd parts of the images."""
    a = tl.load((images + h) + w, mask=(valid & h_there) & w_there, other=0.0).to(tl.float32)
    b = tl.load((images + m) + w, mask=(valid & m_there) & w_there, other=0.0).to(tl.float32)
    c = tl.load((images + h) + n, mask=(valid & h_there) & n_there, other=0.0).to(tl.float32)
    d = tl.load((images + m) + n, mask=(valid & m_there) & n_there, other=0.0).to(tl.float32)
    even, odd, even_right, odd_right = a + b, a - b, c + d, c - d
    return even + even_right, even - even_right, odd + odd_right, odd - odd_right


@triton.jit
def _store_parts(images, valid, h, h_there, m, m_there, w, w_there, n, n_there, cc, cs, sc, ss):
    """The images of these parts."""
    dtype: tl.constexpr = images.dtype.element_ty
    even, odd, even_right, odd_right = cc + cs, sc + ss, cc - cs, sc - ss
    tl.store((images + h) + w, (even + odd).to(dtype), mask=(valid & h_there) & w_there)
    tl.store((images + m) + w, (even - odd).to(dtype), mask=(valid & m_there) & w_there)
    tl.store((images + h) + n, (even_right + odd_right).to(dtype), mask=(valid & h_there) & n_there)
    tl.store((images + m) + n, (even_right - odd_right).to(dtype), mask=(valid & m_there) & n_there)


@triton.jit
def _analyse(cc, cs, sc, ss, ch, sh, cw, sw, PRECISION: tl.constexpr):
    """From even and odd parts of pixels to cosines and sines; matrices are [frequency, pixel]."""
    cc = _dot(ch, _dot(cc, tl.trans(cw), PRECISION), PRECISION)
    cs = _dot(ch, _dot(cs, tl.trans(sw), PRECISION), PRECISION)
    sc = _dot(sh, _dot(sc, tl.trans(cw), PRECISION), PRECISION)
    ss = _dot(sh, _dot(ss, tl.trans(sw), PRECISION), PRECISION)
    return cc, cs, sc, ss


@triton.jit
def _synthesise(cc, cs, sc, ss, ch, sh, cw, sw, PRECISION: tl.constexpr):
    """The way back."""
    cc = _dot(tl.trans(ch), _dot(cc, cw, PRECISION), PRECISION)
    cs = _dot(tl.trans(ch), _dot(cs, sw, PRECISION), PRECISION)
    sc = _dot(tl.trans(sh), _dot(sc, cw, PRECISION), PRECISION)
    ss = _dot(tl.trans(sh), _dot(ss, sw, PRECISION), PRECISION)
    return cc, cs, sc, ss


@triton.jit
def _filter_parts(kernel_f, k, l, PH: tl.constexpr, PW: tl.constexpr):
    """The parts cc, cs, sc, ss of a filter at frequencies (k, l), from its half plane."""
    half: tl.constexpr = PW // 2 + 1
    here, mirror = kernel_f + 2 * (k * half + l), kernel_f + 2 * ((PH - k) % PH * half + l)
    a, b, c, d = tl.load(here), tl.load(here + 1), tl.load(mirror), tl.load(mirror + 1)
    return (a + c) * 0.5, (b + d) * -0.5, (d - b) * 0.5, (c - a) * 0.5


@triton.jit
def _load_filter(kernel_f, k, l, ODD_SIGN: tl.constexpr, PH: tl.constexpr, PW: tl.constexpr):
    """A filter as `_apply_filter` takes it.

    Its cc for each of the parts; its cs for those that are cosines and those that are sines along
    the height; its sc for those that are so along the width; its ss.

    With an `ODD_SIGN` of -1 it is the mirrored filter, by which gradients go back.
    """
    cc, cs, sc, ss = _filter_parts(kernel_f, k, l, PH, PW)
    top, left = k == 0, l == 0
    cs, ss = tl.where(left, 0.0, cs), tl.where(left, 0.0, ss)
    on_cs, on_sc, on_ss, cs_of_s, sc_of_s = cc, cc, cc, cs, sc
    if PW % 2 == 0:
        last_cc, _, last_sc, _ = _filter_parts(kernel_f, k, l * 0 + PW // 2, PH, PW)
        on_cs, sc_of_s = tl.where(left, last_cc, cc), tl.where(left, last_sc, sc)
        on_ss = on_cs
    if PH % 2 == 0:
        last_cc, last_cs, _, _ = _filter_parts(kernel_f, k * 0 + PH // 2, l, PH, PW)
        on_sc = tl.where(top, last_cc, cc)
        cs_of_s = tl.where(top, tl.where(left, 0.0, last_cs), cs)
        on_ss = tl.where(top, last_cc, on_ss)
        if PW % 2 == 0:
            corner = tl.load(kernel_f + 2 * (PH // 2 * (PW // 2 + 1) + PW // 2))
            on_ss = tl.where(top & left, corner, on_ss)
    return (
        cc, on_cs, on_sc, on_ss,
        cs * ODD_SIGN, cs_of_s * ODD_SIGN, sc * ODD_SIGN, sc_of_s * ODD_SIGN, ss,
    )  # fmt: skip


@triton.jit
def _apply_filter(
    cc, cs, sc, ss, on_cc, on_cs, on_sc, on_ss, cs_of_c, cs_of_s, sc_of_c, sc_of_s, s2
):
    """The convolution, on parts."""
    return (
        on_cc * cc - cs_of_c * cs - sc_of_c * sc + s2 * ss,
        cs_of_c * cc + on_cs * cs - s2 * sc - sc_of_s * ss,
        sc_of_c * cc - s2 * cs + on_sc * sc - cs_of_s * ss,
        s2 * cc + sc_of_s * cs + cs_of_s * sc + on_ss * ss,
    )


@triton.jit
def _load_matrices(matrices, SIZE: tl.constexpr, PRECISION: tl.constexpr):
    index = tl.arange(0, SIZE)
    offset = index[:, None] * SIZE + index[None, :]
    cosines, sines = tl.load(matrices + offset), tl.load(matrices + SIZE * SIZE + offset)
    if PRECISION == "fp16":
        return cosines.to(tl.float16), sines.to(tl.float16)
    else:
        return cosines, sines


@triton.jit(do_not_specialize=["batch", "channels", "tiles"])
def _filter_kernel(
    x, kernel_f, bias, y, down, across, batch, channels, tiles,
    PH: tl.constexpr, PW: tl.constexpr, IN_H: tl.constexpr, IN_W: tl.constexpr,
    IN_DOWN: tl.constexpr, IN_RIGHT: tl.constexpr, OUT_H: tl.constexpr, OUT_W: tl.constexpr,
    OUT_DOWN: tl.constexpr, OUT_RIGHT: tl.constexpr, ODD_SIGN: tl.constexpr,
    HAS_BIAS: tl.constexpr, TH: tl.constexpr, TW: tl.constexpr, HALF_H: tl.constexpr,
    HALF_W: tl.constexpr, NH: tl.constexpr, NW: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """A program filters some of the images of one channel."""
    channel, part, parts = tl.program_id(0), tl.program_id(1), tl.num_programs(1)
    row, column = tl.arange(0, TH)[:, None], tl.arange(0, TW)[None, :]
    h, w = row % HALF_H, column % HALF_W
    row_image, column_image = row // HALF_H * NW, column // HALF_W
    stride = channels * (IN_H * IN_W)
    a, a_there, b, b_there = _places(row, HALF_H, NH, PH, IN_H, IN_DOWN, stride * NW, IN_W)
    c, c_there, d, d_there = _places(column, HALF_W, NW, PW, IN_W, IN_RIGHT, stride, 1)
    stride = channels * (OUT_H * OUT_W)
    e, e_there, f, f_there = _places(row, HALF_H, NH, PH, OUT_H, OUT_DOWN, stride * NW, OUT_W)
    g, g_there, i, i_there = _places(column, HALF_W, NW, PW, OUT_W, OUT_RIGHT, stride, 1)
    kernel_f += channel.to(tl.int64) * (PH * (PW // 2 + 1) * 2)
    ch, sh = _load_matrices(down, TH, PRECISION)
    cw, sw = _load_matrices(across, TW, PRECISION)
    f0, f1, f2, f3, f4, f5, f6, f7, f8 = _load_filter(kernel_f, h, w, ODD_SIGN, PH, PW)
    offset = 0.0
    if HAS_BIAS:
        offset = tl.load(bias + channel)
    for tile in range(part, tiles, parts):
        first = tile * (NH * NW)
        valid = row_image + column_image < batch - first
        plane = first.to(tl.int64) * channels + channel
        cc, cs, sc, ss = _load_parts(
            x + plane * (IN_H * IN_W), valid, a, a_there, b, b_there, c, c_there, d, d_there
        )
        cc, cs, sc, ss, scale = _in_range(cc, cs, sc, ss, PRECISION)
        cc, cs, sc, ss = _analyse(cc, cs, sc, ss, ch, sh, cw, sw, PRECISION)
        cc, cs, sc, ss = _apply_filter(cc, cs, sc, ss, f0, f1, f2, f3, f4, f5, f6, f7, f8)
        cc, cs, sc, ss, again = _in_range(cc, cs, sc, ss, PRECISION)
        cc, cs, sc, ss = _synthesise(cc, cs, sc, ss, ch, sh, cw, sw, PRECISION)
        scale *= again
        cc, cs, sc, ss = cc * scale + offset, cs * scale, sc * scale, ss * scale
        _store_parts(
            y + plane * (OUT_H * OUT_W), valid,
            e, e_there, f, f_there, g, g_there, i, i_there, cc, cs, sc, ss,
        )  # fmt: skip


@triton.jit(do_not_specialize=["batch", "channels", "tiles"])
def _derive_kernel(
    x, grad, kernel_f, grad_x, grad_kernel, down, across, batch, channels, tiles,
    PH: tl.constexpr, PW: tl.constexpr, IN_H: tl.constexpr, IN_W: tl.constexpr,
    OUT_H: tl.constexpr, OUT_W: tl.constexpr, DOWN: tl.constexpr, RIGHT: tl.constexpr,
    NEEDS_X: tl.constexpr, TH: tl.constexpr, TW: tl.constexpr, HALF_H: tl.constexpr,
    HALF_W: tl.constexpr, NH: tl.constexpr, NW: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """A program takes some of the images of one channel: their gradient, and the filter's part."""
    channel, part, parts = tl.program_id(0), tl.program_id(1), tl.num_programs(1)
    row, column = tl.arange(0, TH)[:, None], tl.arange(0, TW)[None, :]
    h, w = row % HALF_H, column % HALF_W
    row_image, column_image = row // HALF_H * NW, column // HALF_W
    stride = channels * (IN_H * IN_W)
    a, a_there, b, b_there = _places(row, HALF_H, NH, PH, IN_H, 1, stride * NW, IN_W)
    c, c_there, d, d_there = _places(column, HALF_W, NW, PW, IN_W, 1, stride, 1)
    stride = channels * (OUT_H * OUT_W)
    e, e_there, f, f_there = _places(row, HALF_H, NH, PH, OUT_H, DOWN, stride * NW, OUT_W)
    g, g_there, i, i_there = _places(column, HALF_W, NW, PW, OUT_W, RIGHT, stride, 1)
    kernel_f += channel.to(tl.int64) * (PH * (PW // 2 + 1) * 2)
    ch, sh = _load_matrices(down, TH, PRECISION)
    cw, sw = _load_matrices(across, TW, PRECISION)
    f0, f1, f2, f3, f4, f5, f6, f7, f8 = _load_filter(kernel_f, h, w, -1.0, PH, PW)
    below, right = h > 0, w > 0
    acc_cc = tl.zeros([TH, TW], tl.float32)
    acc_cs = tl.zeros([TH, TW], tl.float32)
    acc_sc = tl.zeros([TH, TW], tl.float32)
    acc_ss = tl.zeros([TH, TW], tl.float32)
    for tile in range(part, tiles, parts):
        first = tile * (NH * NW)
        valid = row_image + column_image < batch - first
        plane = first.to(tl.int64) * channels + channel
        cc, cs, sc, ss = _load_parts(
            x + plane * (IN_H * IN_W), valid, a, a_there, b, b_there, c, c_there, d, d_there
        )
        gcc, gcs, gsc, gss = _load_parts(
            grad + plane * (OUT_H * OUT_W), valid, e, e_there, f, f_there, g, g_there, i, i_there
        )
        cc, cs, sc, ss, scale = _in_range(cc, cs, sc, ss, PRECISION)
        gcc, gcs, gsc, gss, grad_scale = _in_range(gcc, gcs, gsc, gss, PRECISION)
        cc, cs, sc, ss = _analyse(cc, cs, sc, ss, ch, sh, cw, sw, PRECISION)
        gcc, gcs, gsc, gss = _analyse(gcc, gcs, gsc, gss, ch, sh, cw, sw, PRECISION)
        both = scale * grad_scale
        cc, cs, sc, ss = cc * both, cs * both, sc * both, ss * both
        dcc, dcs, dsc, dss = _filter_products(cc, cs, sc, ss, gcc, gcs, gsc, gss, below, right)
        acc_cc += dcc
        acc_cs += dcs
        acc_sc += dsc
        acc_ss += dss
        if NEEDS_X:
            gcc, gcs, gsc, gss = _apply_filter(
                gcc, gcs, gsc, gss, f0, f1, f2, f3, f4, f5, f6, f7, f8
            )
            gcc, gcs, gsc, gss, again = _in_range(gcc, gcs, gsc, gss, PRECISION)
            gcc, gcs, gsc, gss = _synthesise(gcc, gcs, gsc, gss, ch, sh, cw, sw, PRECISION)
            back = grad_scale * again
            _store_parts(
                grad_x + plane * (IN_H * IN_W), valid,
                a, a_there, b, b_there, c, c_there, d, d_there,
                gcc * back, gcs * back, gsc * back, gss * back,
            )  # fmt: skip
    if NH * NW > 1:  # the images side by side in a tile
        same_h = (row % HALF_H == tl.arange(0, TH)[None, :] % HALF_H).to(tl.float32)
        same_w = (tl.arange(0, TW)[:, None] % HALF_W == column % HALF_W).to(tl.float32)
        acc_cc = _sum_blocks(acc_cc, same_h, same_w)
        acc_cs = _sum_blocks(acc_cs, same_h, same_w)
        acc_sc = _sum_blocks(acc_sc, same_h, same_w)
        acc_ss = _sum_blocks(acc_ss, same_h, same_w)
    _store_filter(
        grad_kernel + (part.to(tl.int64) * channels + channel) * (PH * (PW // 2 + 1) * 2),
        row, column, acc_cc, acc_cs, acc_sc, acc_ss, PH, PW, HALF_H, HALF_W,
    )  # fmt: skip


@triton.jit
def _filter_products(cc, cs, sc, ss, gcc, gcs, gsc, gss, below, right):
    """What images and gradients give to a filter's parts, as `_store_filter` takes them.

    Row and column 0 of the products hold both the frequency 0 and the last one. Parts of a filter
    that vanish at frequency 0 leave room there for what belongs to the last one.
    """
    cs_of_c, cs_of_s = gcs * cc - gcc * cs, gss * sc - gsc * ss
    sc_of_c, sc_of_s = gsc * cc - gcc * sc, gss * cs - gcs * ss
    on_cs, on_sc, on_ss = gcs * cs, gsc * sc, gss * ss
    zero = tl.zeros_like(cc)
    dcc = gcc * cc + tl.where(right, on_cs, zero)
    dcc += tl.where(below, on_sc + tl.where(right, on_ss, zero), zero)
    dcs = tl.where(right, cs_of_c + tl.where(below, cs_of_s, zero), tl.where(below, sc_of_s, on_ss))
    dsc = tl.where(below, sc_of_c + tl.where(right, sc_of_s, zero), tl.where(right, cs_of_s, on_cs))
    whole = gcc * ss - gcs * sc - gsc * cs + gss * cc
    edge = tl.where(right, on_sc + on_ss, tl.where(below, on_cs + on_ss, on_sc))
    return dcc, dcs, dsc, tl.where(below & right, whole, edge)


@triton.jit
def _sum_blocks(values, same_h, same_w):
    return tl.dot(same_h, tl.dot(values, same_w, input_precision="ieee"), input_precision="ieee")


@triton.jit
def _store_filter(
    kernel_f, k, l, cc, cs, sc, ss,
    PH: tl.constexpr, PW: tl.constexpr, HALF_H: tl.constexpr, HALF_W: tl.constexpr,
):  # fmt: skip
    """The half plane of a filter's gradient, from the sums of `_filter_products`."""
    half: tl.constexpr = PW // 2 + 1
    inside = (k < HALF_H) & (l < HALF_W)
    zero = tl.zeros_like(cc)
    below, right = k > 0, l > 0
    own_cs, own_sc = tl.where(right, cs, zero), tl.where(below, sc, zero)
    own_ss = tl.where(below & right, ss, zero)
    # Row 0 is its own mirror: there both halves belong to one frequency.
    here, mirror = kernel_f + 2 * (k * half + l), kernel_f + 2 * ((PH - k) % PH * half + l)
    tl.store(here, tl.where(below, (cc - own_ss) * 0.5, cc), mask=inside)
    tl.store(here + 1, tl.where(below, (own_sc + own_cs) * -0.5, -own_cs), mask=inside)
    tl.store(mirror, (cc + own_ss) * 0.5, mask=inside & below)
    tl.store(mirror + 1, (own_sc - own_cs) * 0.5, mask=inside & below)
    top, left, corner = inside & (k == 0), inside & (l == 0), inside & (k == 0) & (l == 0)
    if PH % 2 == 0:
        last = kernel_f + 2 * (PH // 2 * half + l + k * 0)
        tl.store(last, ss, mask=top)
        tl.store(last + 1, tl.where(right, -sc, zero), mask=top)
    if PW % 2 == 0:
        here = kernel_f + 2 * (k * half + PW // 2 + l * 0)
        mirror = kernel_f + 2 * ((PH - k) % PH * half + PW // 2 + l * 0)
        tl.store(here, tl.where(below, ss * 0.5, sc), mask=left)
        tl.store(here + 1, tl.where(below, cs * -0.5, zero), mask=left)
        tl.store(mirror, ss * 0.5, mask=left & below)
        tl.store(mirror + 1, cs * 0.5, mask=left & below)
        if PH % 2 == 0:
            last = kernel_f + 2 * (PH // 2 * half + PW // 2 + k * 0 + l * 0)
            tl.store(last, cs, mask=corner)
            tl.store(last + 1, zero, mask=corner)


def filter_images(
    x: Tensor, kernel_f: Tensor, bias: Tensor | None, frame: Frame, dtype: torch.dtype
) -> Tensor:
    """Filters each channel of images with a filter as large as they are.

    Args:
        x: [batch, channels, height, width], in float32, bfloat16 or float16.
        kernel_f: [channels, period_height, period_half], complex64, as
            `nifbuild.nn.frame.lay_kernel` lays it into the frame's periods.
        bias: [channels], float32.
        frame: One that the kernel accepts.
        dtype: Of the result.

    Returns:
        [batch, channels, out_height, out_width], contiguous. Products round as TF32's do, to 10
        bits, unless `dtype` is float32 and torch's own switch
        (`torch.set_float32_matmul_precision`) is at its default: then each takes three of them, and
        has the precision of float32.
    """
    return _filter(x, kernel_f, bias, frame, dtype, adjoint=False)


def filter_gradient(grad: Tensor, kernel_f: Tensor, frame: Frame, dtype: torch.dtype) -> Tensor:
    """The gradient of the images from that of what `filter_images` makes of them."""
    return _filter(grad, kernel_f, None, frame, dtype, adjoint=True)


def both_gradients(
    x: Tensor, grad: Tensor, kernel_f: Tensor, frame: Frame, *, needs_x: bool
) -> tuple[Tensor | None, Tensor]:
    """The gradients of the images, if asked for, and of the filters' spectra, in one pass.

    Each program adds up some of the images, and these sums are added in a fixed order.
    """
    x, grad = x.contiguous(), grad.contiguous()
    batch, channels = x.shape[:2]
    grad_x = torch.empty_like(x) if needs_x else None
    launch = _Launch.plan(frame, x, grad.dtype)
    shape = (launch.parts, *kernel_f.shape, 2)
    if batch == 0:
        return grad_x, torch.zeros_like(kernel_f)
    sums = x.new_empty(shape, dtype=torch.float32)
    rows, columns = frame
    with _on_device_of(x):
        _derive_kernel[channels, launch.parts](
            x, grad, _real_view(kernel_f), x if grad_x is None else grad_x, sums,
            *launch.matrices, batch, channels, launch.tiles,
            PH=rows.period, PW=columns.period, IN_H=rows.size, IN_W=columns.size,
            OUT_H=rows.num_outputs, OUT_W=columns.num_outputs,
            DOWN=rows.stride, RIGHT=columns.stride,
            NEEDS_X=needs_x, **launch.sizes,
        )  # fmt: skip
    total = sums[0] if launch.parts == 1 else sums.sum(0)
    return grad_x, torch.view_as_complex(total)


def _filter(
    x: Tensor,
    kernel_f: Tensor,
    bias: Tensor | None,
    frame: Frame,
    dtype: torch.dtype,
    *,
    adjoint: bool,
) -> Tensor:
    x = x.contiguous()
    batch, channels = x.shape[:2]
    rows, columns = frame
    images = [(axis.size, 1) for axis in frame]
    outputs = [(axis.num_outputs, axis.stride) for axis in frame]
    (in_h, in_w), (out_h, out_w) = (outputs, images) if adjoint else (images, outputs)
    y = x.new_empty(batch, channels, out_h[0], out_w[0], dtype=dtype)
    if y.numel() == 0:
        return y
    launch = _Launch.plan(frame, x, dtype)
    with _on_device_of(x):
        _filter_kernel[channels, launch.parts](
            x, _real_view(kernel_f), x if bias is None else bias, y,
            *launch.matrices, batch, channels, launch.tiles,
            PH=rows.period, PW=columns.period, IN_H=in_h[0], IN_W=in_w[0],
            IN_DOWN=in_h[1], IN_RIGHT=in_w[1], OUT_H=out_h[0], OUT_W=out_w[0],
            OUT_DOWN=out_h[1], OUT_RIGHT=out_w[1], ODD_SIGN=-1.0 if adjoint else 1.0,
            HAS_BIAS=bias is not None, **launch.sizes,
        )  # fmt: skip
    return y


class _Launch(NamedTuple):
    """How images are shared out among programs."""

    parts: int
    tiles: int
    matrices: tuple[Tensor, Tensor]
    sizes: dict[str, Any]

    @classmethod
    def plan(cls, frame: Frame, x: Tensor, dtype: torch.dtype) -> "_Launch":
        matmul = torch.get_float32_matmul_precision()
        parts, tiles, sizes = _shares(frame, x.shape[0], x.shape[1], x.device, dtype, matmul)
        rows, columns = frame
        matrices = _matrices(rows.period, x), _matrices(columns.period, x)
        return cls(parts, tiles, matrices, sizes)


@functools.lru_cache(maxsize=1024)
def _shares(
    frame: Frame, batch: int, channels: int, device: torch.device, dtype: torch.dtype, matmul: str
) -> tuple[int, int, dict[str, Any]]:
    """Parts, tiles and sizes; kept, as launching takes longer than the work where that is small."""
    down, across = (_tile(axis.period) for axis in frame)
    tiles = -(-batch // (down.images * across.images))
    parts = max(1, min(tiles, -(-_programs(device) // channels)))
    one_image = down.images * across.images == 1
    sizes = {
        "TH": down.size, "TW": across.size, "HALF_H": down.half, "HALF_W": across.half,
        "NH": down.images, "NW": across.images, "PRECISION": _precision(dtype, one_image, matmul),
        # The compiler's own way of loading ahead needs more registers than there are.
        "num_warps": 1 if down.size * across.size <= 16 * 16 else 2, "num_stages": 1,
    }  # fmt: skip
    return parts, tiles, sizes


def _programs(device: torch.device) -> int:
    """How many programs fill a device; each one loads a filter and the transforms' matrices."""
    if device.type != "cuda":
        return 1
    return 16 * torch.cuda.get_device_properties(device).multi_processor_count


def _precision(dtype: torch.dtype, one_image: bool, matmul: str) -> str:
    """How products are computed, for results of a dtype; `matmul` is torch's switch.

    Those of 16 bits are twice as fast as TF32's and round as finely, but their range is small: each
    image is scaled to it, which images in one tile could not be.
    """
    if dtype != torch.float32:
        return "fp16" if one_image else "tf32"
    return "tf32x3" if matmul == "highest" else "tf32"


def _real_view(kernel_f: Tensor) -> Tensor:
    return torch.view_as_real(kernel_f.resolve_conj().contiguous())


def _on_device_of(x: Tensor) -> Any:
    """Triton launches on the current device."""
    return torch.cuda.device(x.device) if x.device.type == "cuda" else nullcontext()
