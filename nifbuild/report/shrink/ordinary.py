"""The ordinary convolutions that take the place of one whose filters are as large as the image.

An odd window of a circular kernel is a depthwise convolution with circular padding, exactly; so is
one of the other boundaries, with the padding of that name. A spec and a model are made with them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nifbuild.compile import build_model
from nifbuild.errors import Problem, SpecError
from nifbuild.geometry import Boundary
from nifbuild.nn import GlobalConv2d
from nifbuild.report.filter_windows import LayerKernels
from nifbuild.spec.canonical import yaml_text
from nifbuild.spec.ops.conv import ConvFields
from nifbuild.spec.resolve import Resolved, load_text
from nifbuild.spec.source import TreePath

_MAX_PADDING_BEYOND = {"circular": 0, "reflect": 1}
"""Padding of these kinds is taken from the image: at most its size less so many pixels."""


@dataclass(frozen=True)
class Ordinary:
    """Convolutions that follow each other in the place of one layer.

    Attributes:
        ops: As a spec says them; several have ids.
        weights: Names within the layer's module, and values.
        kernel_size: Of the convolution that has the layer's filters.
    """

    ops: tuple[Mapping[str, Any], ...]
    weights: Mapping[str, Tensor]
    kernel_size: tuple[int, int]


@dataclass(frozen=True)
class _Axis:
    """One axis of the window.

    Attributes:
        reach: Taps that are kept on either side of the centre.
        first: Offset of the first tap of the convolution, which is `padding` pixels to the left of
            its output's place.
        taps: Their number; those beyond `reach` are zero.
        padding: Pixels added on each side.
    """

    reach: int
    first: int
    taps: int
    padding: int


def as_ordinary(
    kernels: LayerKernels, fields: ConvFields, window: int, boundary: Boundary
) -> Ordinary:
    """The layer with its filters cut to a window.

    A layer that stands for an ordinary convolution without padding has its first output inside the
    image, and one that stands for an even kernel has outputs that no odd kernel gives: there the
    kernel gets rows and columns of zeros, as there is neither negative nor one-sided padding.

    Args:
        kernels: The layer, and its filters on the grid that it sees.
        fields: What its spec says.
        window: Odd; along an axis where the grid is smaller, the whole grid is taken. That of an
            even grid is an odd window one pixel larger, with zeros in its last row and column.
        boundary: How the image goes on beyond its border.

    Raises:
        SpecError: The border cannot be continued so far by an ordinary convolution.
    """
    layer = kernels.layer
    rows, columns = (_axis(fields, axis, size, window) for axis, size in enumerate(kernels.grid))
    for axis, size in zip((rows, columns), kernels.grid, strict=True):
        limit = size - _MAX_PADDING_BEYOND.get(boundary, -axis.padding)
        if axis.padding > limit:
            raise SpecError(
                Problem(
                    f"its outputs lie so far beyond the border that {axis.padding} pixels would "
                    f"have to be added to {size} by `padding_mode: {boundary}`, "
                    f"which has {limit} at most",
                    path=kernels.path,
                    fix="take a smaller window, or --boundary zeros",
                    code="padding",
                )
            )
    taps = _cut(_cut(kernels.kernels, -2, rows), -1, columns)
    spatial = {
        "op": "conv",
        "kind": "standard",
        "kernel_size": [rows.taps, columns.taps],
        "stride": list(layer.stride),
        "padding": [rows.padding, columns.padding],
        "padding_mode": boundary,
    }
    ops, weights = _assembled(layer, spatial, taps)
    return Ordinary(ops, weights, (rows.taps, columns.taps))


def _axis(fields: ConvFields, axis: int, size: int, window: int) -> _Axis:
    span = fields.dilation[axis] * (fields.kernel_size[axis] - 1)
    offset = fields.first_centres()[axis]
    kept = min(window // 2, size // 2)
    reach = max(kept, offset)
    # torch's windows start at the left: one more tap there means one output less.
    return _Axis(kept, reach, 2 * reach + 1 + span % 2, reach - offset)


def _cut(
    kernels: Float[Tensor, "filters height width"], dim: int, axis: _Axis
) -> Float[Tensor, "filters taps_high taps_wide"]:
    """The taps along one axis as `conv2d` takes them: it correlates, so they are reversed."""
    size = kernels.shape[dim]
    offsets = axis.first - torch.arange(axis.taps)
    places = offsets + size // 2
    there = (offsets.abs() <= axis.reach) & (places >= 0) & (places < size)
    taps = kernels.index_select(dim, places.clamp(0, size - 1))
    return taps * (there if dim == -1 else there[:, None])


def _assembled(
    layer: GlobalConv2d, spatial: dict[str, Any], taps: Tensor
) -> tuple[tuple[Mapping[str, Any], ...], dict[str, Tensor]]:
    """The ops around the filters, which depend on how the layer mixes channels."""
    bias = None if layer.bias is None else layer.bias.detach().cpu()
    if layer.pointwise is None:
        op = {
            **spatial,
            "out_channels": layer.out_channels,
            "groups": layer.in_channels if layer.mixing == "depthwise" else layer.groups,
            "bias": bias is not None,
        }
        weight = taps.reshape(layer.out_channels, -1, *taps.shape[1:])
        return (op,), {"weight": weight} | ({} if bias is None else {"bias": bias})
    depthwise = {"id": "depthwise", **spatial, "groups": "depthwise", "bias": False}
    ops = [depthwise, _pointwise("pointwise", layer.out_channels, layer.groups, bias is not None)]
    weights = {
        "depthwise.weight": taps[:, None],
        "pointwise.weight": layer.pointwise.weight.detach().cpu(),
    }
    if bias is not None:
        weights["pointwise.bias"] = bias
    if layer.pointwise_in is not None:
        ops.insert(0, _pointwise("pointwise_in", layer.rank, layer.groups, False))
        weights["pointwise_in.weight"] = layer.pointwise_in.weight.detach().cpu()
    return tuple(ops), weights


def _pointwise(name: str, out_channels: int, groups: int, bias: bool) -> dict[str, Any]:
    return {
        "id": name,
        "op": "conv",
        "kind": "standard",
        "out_channels": out_channels,
        "kernel_size": 1,
        "groups": groups,
        "bias": bias,
    }


def ordinary_model(
    model: nn.Module, resolved: Resolved, ordinary: Mapping[str, Ordinary], name: str
) -> tuple[Resolved, nn.Module]:
    """The spec and the model with some layers exchanged; the others keep names and weights.

    Args:
        model: With the weights, of the architecture of `resolved`.
        resolved: Its spec, for images of the size that the result is for.
        ordinary: What takes the place of which module.
        name: Of the new spec.

    Returns:
        The spec, and the model in eval mode on the CPU.
    """
    shrunk = _ordinary_spec(resolved, ordinary, name)
    weights = dict(model.state_dict())
    for path, layer in ordinary.items():
        weights = {k: t for k, t in weights.items() if not k.startswith(f"{path}.")}
        weights |= {f"{path}.{key}": tensor for key, tensor in layer.weights.items()}
    built = build_model(shrunk)
    built.load_state_dict(weights)
    return shrunk, built.eval()


def _ordinary_spec(resolved: Resolved, ordinary: Mapping[str, Ordinary], name: str) -> Resolved:
    content = resolved.spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    content["name"] = name
    # What the run started from does not fit, and no filter is left that could spread.
    content["train"].pop("init", None)
    content["train"].pop("kernel_spread", None)
    for node in resolved.graph.nodes:
        op = _at(content, node.where)
        module = node.path.rpartition(".")[2]
        if node.path in ordinary:
            _at(content, node.where[:-1])[node.where[-1]] = _written(
                ordinary[node.path], op, module
            )
        elif node.op.op == "conv" and op is not None:
            # Those without an id are numbered, and now there may be fewer of them.
            op["id"] = module
    return load_text(yaml_text(content), name)


def _at(content: Any, path: TreePath) -> Any:
    """What is written at a path; None for ops that a word, as `shortcut: auto`, stands for."""
    for step in path:
        if isinstance(content, str):
            return None
        content = content[step]
    return content


def _written(ordinary: Ordinary, op: Mapping[str, Any], module: str) -> dict[str, Any]:
    """The op, or the sequence of them, with the name and the input of the one that it replaces."""
    place = {"id": module} | {key: op[key] for key in ("from",) if key in op}
    if len(ordinary.ops) == 1:
        return {**place, **ordinary.ops[0]}
    return {**place, "op": "sequence", "body": list(ordinary.ops)}
