"""What operations on a CPU take beside their results, on the machine at hand.

Most is taken by convolutions. oneDNN, which computes them, reorders images and filters, and sums
filters' gradients for each thread, in ways that depend on the processor's instruction set, the
number of threads, and the sizes; none of it is documented. So each different convolution is tried,
and what the allocator hands out meanwhile is remembered.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nifbuild.report.inspect.on_meta import layout_key
from nifbuild.report.memory import measure_peak_bytes

MAX_TRIED_BYTES = 2**26
"""Of images and their features in a trial; what more would take follows from two trials."""
_MAX_TRIED_MACS_PER_THREAD = 2**27

_aten = torch.ops.aten
_CONVOLUTION = _aten.convolution.default
_CONVOLUTION_BACKWARD = _aten.convolution_backward.default
_PROMOTING = frozenset({_aten.add.Tensor, _aten.sub.Tensor, _aten.mul.Tensor, _aten.div.Tensor})
_UNFOLDING = torch._C._ConvBackend.Slow2d
_CPU = torch.device("cpu")

_tried: dict[tuple[Any, ...], int] = {}


def cpu_workspace(func: Any, args: tuple[Any, ...], result: Any) -> int:
    """Bytes that an operation of a trace takes and gives back.

    Args:
        func: The operation.
        args: Its arguments, tensors without values among them.
        result: What it returned.
    """
    if func is _CONVOLUTION:
        x, weight, bias, *geometry = args
        return _of_convolution(func, args, (x, weight, bias, geometry), result)
    if func is _CONVOLUTION_BACKWARD:
        _, x, weight, _, *geometry, _ = args
        return _of_convolution(func, args, (x, weight, None, geometry), args[0])
    if func in _PROMOTING:
        return _promoted(args, result)
    return 0


def _promoted(args: tuple[Any, ...], result: Tensor) -> int:
    """Copies of tensors in another type than the result's."""
    tensors = [arg for arg in args if isinstance(arg, Tensor) and arg.ndim]
    others = [tensor for tensor in tensors if tensor.dtype != result.dtype]
    return sum(tensor.numel() * result.element_size() for tensor in others)


def _of_convolution(
    func: Any, args: tuple[Any, ...], forward: tuple[Any, ...], output: Tensor
) -> int:
    x, weight, bias, geometry = forward
    backend = torch._C._select_conv_backend(x, weight, bias, *geometry, None)
    if backend == _UNFOLDING:
        return _unfolded(func, args, x, weight, output)
    most = _most_images(x, weight, output)
    if len(x) <= most:
        return _try(func, args, len(x))
    # Beyond so many images, what is taken grows with each, or does not depend on them.
    few = most // 2
    at_few, at_most = _try(func, args, few), _try(func, args, 2 * few)
    return at_most + (at_most - at_few) * (len(x) - 2 * few) // few


def _most_images(x: Tensor, weight: Tensor, output: Tensor) -> int:
    """So many that a trial is short, and each thread has some; an even number."""
    threads = torch.get_num_threads()
    image_bytes = (x.nbytes + output.nbytes) // len(x)
    image_macs = output.numel() // len(x) * weight.numel() // len(weight)
    most = max(_MAX_TRIED_MACS_PER_THREAD * threads // image_macs, 2 * threads)
    most = max(2, min(most, MAX_TRIED_BYTES // image_bytes))
    step = 2 * threads if most >= 2 * threads else 2
    return most - most % step


def _try(func: Any, args: tuple[Any, ...], num_images: int) -> int:
    """What a real convolution of so many images takes beside its results."""
    key = (func, layout_key(args[:3]), layout_key(args[3:]), torch.get_num_threads(), num_images)
    if key not in _tried:
        # Of the gradient, the images, and the filter, the last one has no images.
        weight_at = 1 if func is _CONVOLUTION else 2
        tensors = [
            _zeros(arg, num_images if at < weight_at else len(arg))
            if isinstance(arg, Tensor)
            else arg
            for at, arg in enumerate(args)
        ]
        results: list[Any] = []
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            peak = measure_peak_bytes(lambda: results.append(func(*tensors)), _CPU)
        _tried[key] = peak - sum(t.nbytes for t in _tensors(results[0]))
    return _tried[key]


def _zeros(like: Tensor, length: int) -> Tensor:
    shape = (length, *like.shape[1:])
    return torch.empty_strided(shape, like.stride(), dtype=like.dtype).zero_()


def _tensors(result: Tensor | Sequence[Tensor | None]) -> list[Tensor]:
    results = [result] if isinstance(result, Tensor) else result
    return [tensor for tensor in results if tensor is not None]


def _unfolded(func: Any, args: tuple[Any, ...], x: Tensor, weight: Tensor, output: Tensor) -> int:
    """What torch's own convolution takes, which writes out each output's window.

    It does so for each group by itself, and joins the groups' results.
    """
    groups = args[8] if func is _CONVOLUTION else args[9]
    stride, padding = (args[3], args[4]) if func is _CONVOLUTION else (args[4], args[5])
    plain = weight.shape[2:].numel() == 1 and set(stride) == {1} and set(padding) == {0}
    window = weight[0].numel()
    pixels = output.numel() // output.shape[1]
    columns = 0 if plain else window * pixels * x.element_size()
    if groups == 1:
        return columns
    one = columns + (x.nbytes + weight.nbytes) // groups
    if func is _CONVOLUTION:
        return max(output.nbytes, one)
    joined = (x.nbytes if args[10][0] else 0) + (weight.nbytes if args[10][1] else 0)
    return max(joined, one + output.nbytes // groups)
