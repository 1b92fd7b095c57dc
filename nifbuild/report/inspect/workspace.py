"""What operations on a CPU take beside their results, on the machine at hand.

Most is taken by convolutions. oneDNN, which computes them, reorders images and filters, and sums
filters' gradients for each thread, in ways that depend on the processor's instruction set, the
number of threads, and the sizes; none of it is documented. So a convolution that may make the peak
is tried, and what the allocator hands out meanwhile is remembered. Fourier transforms are, too:
torch has several libraries for them, and copies what they overwrite.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor

from nifbuild.report.inspect.weightless import Extra, Weightless
from nifbuild.report.measure import measure_peak_bytes

MAX_TRIED_BYTES = 2**26
"""Of what goes in and comes out of a trial, and of its filters. What more images would take follows
from two trials; filters and single images that are larger are not tried."""
_MAX_TRIED_MACS_PER_THREAD = 2**25
_BLOCK = 16
"""Channels that stand together in oneDNN's layouts; it fills up with zeros."""

_aten = torch.ops.aten
_CONVOLUTION = _aten.convolution.default
_CONVOLUTION_BACKWARD = _aten.convolution_backward.default
_PROMOTING = frozenset({_aten.add.Tensor, _aten.sub.Tensor, _aten.mul.Tensor, _aten.div.Tensor})
_TRANSFORMS = frozenset({_aten._fft_r2c.default, _aten._fft_c2r.default, _aten._fft_c2c.default})
_UNFOLDING = "Slow2d"
_CPU = torch.device("cpu")

_tried: dict[tuple[Any, ...], int] = {}


def cpu_workspace(func: Any, args: tuple[Any, ...], result: Any) -> Extra | None:
    """What an operation of a trace takes and gives back.

    Args:
        func: The operation.
        args: Its arguments, tensors without values among them.
        result: What it returned.
    """
    if func is _CONVOLUTION:
        x, weight, bias, *geometry = args
        return _Convolution.of(func, args, (x, weight, result), bias, geometry).extra()
    if func is _CONVOLUTION_BACKWARD:
        grad, x, weight, _, *geometry, _ = args
        return _Convolution.of(func, args, (x, weight, grad), None, geometry).extra()
    if func in _PROMOTING:
        tensors = [arg for arg in args if isinstance(arg, Tensor) and arg.ndim]
        others = [tensor for tensor in tensors if tensor.dtype != result.dtype]
        return Extra.known(sum(tensor.numel() for tensor in others) * result.element_size())
    if func in _TRANSFORMS:
        x, both = args[0].nbytes, args[0].nbytes + result.nbytes
        if both > MAX_TRIED_BYTES:
            return Extra.known(2 * x)  # a copy for each direction
        layouts = tuple(map(_Layout.of, args))
        return Extra(2 * both, lambda: _try(func, layouts))
    return None


@dataclass(frozen=True, slots=True)
class _Layout:
    """A tensor without even a place: so that none is kept alive for a trial that may never be."""

    shape: torch.Size
    stride: tuple[int, ...]
    dtype: torch.dtype

    @classmethod
    def of(cls, arg: Any) -> Any:
        """The layout of a tensor; anything else as it is, but hashable."""
        if isinstance(arg, Tensor):
            return cls(arg.shape, arg.stride(), arg.dtype)
        return tuple(arg) if isinstance(arg, list) else arg

    @property
    def numel(self) -> int:
        return self.shape.numel()

    @property
    def nbytes(self) -> int:
        return self.numel * self.dtype.itemsize

    def in_blocks(self, channels: int) -> int:
        """Bytes in oneDNN's layout, where channels are in whole blocks.

        Args:
            channels: How many dimensions are channels: of images the second, of filters the first
                two.
        """
        sizes = list(self.shape)
        for dim in range(2 - channels, 2):
            sizes[dim] = -(-sizes[dim] // _BLOCK) * _BLOCK
        return math.prod(sizes) * self.dtype.itemsize

    def of_length(self, length: int) -> Self:
        """The same with another first dimension."""
        return replace(self, shape=torch.Size((length, *self.shape[1:])))

    def zeros(self) -> Tensor:
        """Such a tensor."""
        return torch.empty_strided(self.shape, self.stride, dtype=self.dtype).zero_()

    def weightless(self) -> Weightless:
        """Such a tensor without values."""
        meta = torch.empty_strided(self.shape, self.stride, dtype=self.dtype, device="meta")
        return Weightless(meta)


@dataclass(frozen=True, slots=True)
class _Convolution:
    """A convolution, or its gradients.

    Attributes:
        func: Which of the two.
        args: Its arguments.
        x: The images.
        weight: The filters.
        output: The convolved images, or their gradient.
        geometry: From stride to groups.
        backend: What torch has it computed by.
    """

    func: Any
    args: tuple[Any, ...]
    x: _Layout
    weight: _Layout
    output: _Layout
    geometry: list[Any]
    backend: str

    @classmethod
    def of(
        cls,
        func: Any,
        args: tuple[Any, ...],
        tensors: tuple[Tensor, Tensor, Tensor],
        bias: Tensor | None,
        geometry: list[Any],
    ) -> Self:
        """From an operation of a trace; `tensors` are images, filters and output."""
        x, weight, output = tensors
        backend = _backend(x, weight, bias, geometry)
        layouts = _Layout.of(x), _Layout.of(weight), _Layout.of(output)
        return cls(func, tuple(map(_Layout.of, args)), *layouts, geometry, backend)

    def extra(self) -> Extra:
        """What it takes: known where torch's own code computes it, else to be tried."""
        if self.backend == _UNFOLDING:
            return Extra.known(self._unfolded(*self.geometry))
        # At most what oneDNN's most wasteful way takes, and copies of everything, with a margin.
        weights = self.weight.in_blocks(2)
        images = sum(layout.in_blocks(1) for layout in (self.x, self.output))
        windows = self._columns // self.x.shape[0]
        most = torch.get_num_threads() * (8 * weights + 2 * windows) + 2 * (images + weights)
        return Extra(most, self._measured)

    @property
    def _columns(self) -> int:
        """Bytes of the window of each output."""
        window = self.weight.numel // self.weight.shape[0]
        return window * (self.output.numel // self.output.shape[1]) * self.x.dtype.itemsize

    def _unfolded(self, stride: list[int], padding: list[int], *rest: Any) -> int:
        """What torch's own convolution takes, which writes out each output's window.

        It does so for each group by itself, and joins the groups' results.
        """
        groups: int = rest[-1]
        plain = self.weight.shape[2:].numel() == 1 and set(stride) == {1} and set(padding) == {0}
        columns = 0 if plain else self._columns
        if groups == 1:
            return columns
        one = columns + (self.x.nbytes + self.weight.nbytes) // groups
        if self.func is _CONVOLUTION:
            return max(self.output.nbytes, one)
        wanted = zip((self.x, self.weight), self.args[-1], strict=False)
        joined = sum(tensor.nbytes for tensor, needed in wanted if needed)
        return max(joined, one + self.output.nbytes // groups)

    def _measured(self) -> int:
        images, image_bytes = self.x.shape[0], self.x.nbytes + self.output.nbytes
        affordable = MAX_TRIED_BYTES * images // image_bytes
        if affordable < 2 or self.weight.nbytes > MAX_TRIED_BYTES:
            return image_bytes + 2 * self.weight.nbytes  # a copy of all, and the filters' sum
        few = self._few_images(affordable)
        if images <= 2 * few:
            return self._try(images)
        # Beyond so many images, what is taken grows with each, or does not depend on them.
        at_few, at_twice = self._try(few), self._try(2 * few)
        return at_twice + (at_twice - at_few) * (images - 2 * few) // few

    def _few_images(self, affordable: int) -> int:
        """So many that a trial with twice as many is short, and that each thread has some."""
        threads, images = torch.get_num_threads(), self.x.shape[0]
        image_macs = self._columns // self.x.dtype.itemsize * self.weight.shape[0] // images
        # A single image goes other ways.
        quick = max(_MAX_TRIED_MACS_PER_THREAD * threads // image_macs // 2, threads, 2)
        few = max(1, min(quick, affordable // 2))
        few -= few % threads if few > threads else 0
        while few < images and self._backend_for(few) != self.backend:  # too small for it
            few *= 2
        return few

    def _backend_for(self, images: int) -> str:
        """What computes it with so many images."""
        x = self.x.of_length(images).weightless()
        return _backend(x, self.weight.weightless(), None, self.geometry)

    def _try(self, images: int) -> int:
        """What it takes with so many images."""
        batched = 1 if self.func is _CONVOLUTION else 2  # then come the filters
        args = tuple(arg.of_length(images) for arg in self.args[:batched])
        return _try(self.func, args + self.args[batched:], self.backend)


def _try(func: Any, args: tuple[Any, ...], backend: str = "") -> int:
    """What a real operation takes beside its results, with layouts for its tensors."""
    key = (func, args, backend, torch.get_num_threads())
    if key not in _tried:
        inputs = [arg.zeros() if isinstance(arg, _Layout) else arg for arg in args]
        results: list[Any] = []
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            peak = measure_peak_bytes(lambda: results.append(func(*inputs)), _CPU)
        kept = results if isinstance(results[0], Tensor) else results[0]
        _tried[key] = peak - sum(tensor.nbytes for tensor in kept if tensor is not None)
    return _tried[key]


def _backend(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: list[Any]) -> str:
    """What torch has a convolution computed by."""
    name: str = torch._C._select_conv_backend(x, weight, bias, *geometry, None).name
    return name
