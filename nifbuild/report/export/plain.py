"""A model whose filters are constants, made of what any runtime has."""

import copy
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from nifbuild.nn import GlobalConv2d
from nifbuild.nn.matrix_conv import MatrixConv2d
from nifbuild.report.filter_windows import LayerKernels, layer_kernels
from nifbuild.report.shrink.ordinary import Ordinary, as_ordinary, ordinary_model
from nifbuild.spec.ops.conv import ConvFields
from nifbuild.spec.ops.pool import AdaptiveMaxPool
from nifbuild.spec.resolve import Resolved

Filters = Literal["auto", "dft", "conv"]

_MAX_CONV_SIZE = 12
"""Up to here a convolution with all taps took less time in onnxruntime than the products, on one
core of a CPU, for one filter to a channel: half at 8x8, as much at 14x14, 3.6 times as much at
28x28, 22 times at 56x56."""


class PlainModel(nn.Module):
    """A model with one named input; the exporters name the file's input after it."""

    output: ClassVar[str] = "logits"

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """The logits of normalised images."""
        logits: Tensor = self.model(images)
        return logits


class _MaxOfWindows(nn.Module):
    """An adaptive max pool, of which ONNX has none, as the largest values of slices."""

    def __init__(self, output_size: tuple[int, int]) -> None:
        super().__init__()
        self.output_size = output_size

    def forward(self, x: Tensor) -> Tensor:
        """Along the rows, then along the columns."""
        for axis, outputs in zip((2, 3), self.output_size, strict=True):
            size = x.shape[axis]
            starts = (i * size // outputs for i in range(outputs))
            stops = (-(-(i + 1) * size // outputs) for i in range(outputs))
            windows = zip(starts, stops, strict=True)
            parts = [x.narrow(axis, start, stop - start) for start, stop in windows]
            x = torch.cat([part.amax(axis, keepdim=True) for part in parts], axis)
        return x


class EndToEnd(PlainModel):
    """The same from pixels to probabilities."""

    output: ClassVar[str] = "probabilities"
    scale: Tensor
    shift: Tensor

    def __init__(self, plain: PlainModel, mean: Tensor, std: Tensor) -> None:
        super().__init__(plain.model)
        # As one product and one sum for each value.
        self.register_buffer("scale", 1 / (255 * std).view(-1, 1, 1))
        self.register_buffer("shift", (-mean / std).view(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """The probability of each class, for images with values from 0 to 255."""
        logits: Tensor = self.model(images * self.scale + self.shift)
        return logits.softmax(1)


def plain_model(model: nn.Module, resolved: Resolved, filters: Filters) -> PlainModel:
    """The same function for images of the spec's size, with filters as they are now.

    Args:
        model: On the CPU; it is left as it is.
        resolved: Its spec.
        filters: `dft`: transforms as products with constant matrices. `conv`: ordinary convolutions
            as large as the image. `auto`: for each layer what is faster.

    Returns:
        In eval mode, without gradients.

    Raises:
        SpecError: An ordinary convolution cannot continue the image so far beyond its border.
    """
    shape = resolved.spec.input
    fields = {node.path: node.op for node in resolved.graph.nodes}
    grids: dict[str, tuple[int, int]] = {}
    ordinary: dict[str, Ordinary] = {}
    for kernels in layer_kernels(model, (shape.channels, *shape.size)):
        op = fields[kernels.path]
        assert isinstance(op, ConvFields)
        if filters == "conv" or (filters == "auto" and _is_small(kernels)):
            whole = max(kernels.grid) + 1
            ordinary[kernels.path] = as_ordinary(kernels, op, whole, kernels.layer.boundary)
        else:
            grids[kernels.path] = kernels.grid
    plain = copy.deepcopy(model)
    if ordinary:
        _, plain = ordinary_model(plain, resolved, ordinary, resolved.name)
    modules = dict(plain.named_modules())
    for path, grid in grids.items():
        parent, _, name = path.rpartition(".")
        layer = modules[path]
        assert isinstance(layer, GlobalConv2d)
        setattr(modules[parent], name, MatrixConv2d(layer, grid))
    for path, op in fields.items():
        if isinstance(op, AdaptiveMaxPool):
            parent, _, name = path.rpartition(".")
            setattr(modules[parent], name, _MaxOfWindows(op.output_size))
    return PlainModel(plain).eval().requires_grad_(False)


def _is_small(kernels: LayerKernels) -> bool:
    """Whether an ordinary convolution is faster; never where filters are for pairs of channels."""
    return max(kernels.grid) <= _MAX_CONV_SIZE and kernels.layer.mixing != "full"
