"""Images of another size than the one that a model was trained on."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from nifbuild.errors import Mark, Problem, SpecError
from nifbuild.spec.graph import INPUT, Node
from nifbuild.spec.image_size import Pixels, parse_size, size_text
from nifbuild.spec.ops import Shape, ShapeError

if TYPE_CHECKING:
    from nifbuild.spec.resolve import Resolved

Size = tuple[int, int]
"""Height and width in pixels."""


def parse_sizes(sizes: Pixels | list[Pixels]) -> tuple[Size, ...]:
    """What `--size` may say: `32,48,64`, or heights and widths such as `32x48`.

    Raises:
        SpecError: It says something else.
    """
    try:
        listed = sizes.split(",") if isinstance(sizes, str) else sizes
        each = listed if isinstance(listed, list) else [listed]
        return tuple(dict.fromkeys(map(parse_size, each)))
    except ValueError as error:
        fix = "as in --size 224, or --size 32,48,64 or 32x48 (height x width)"
        raise SpecError(Problem(str(error), Mark("--size"), fix=fix, code="size")) from None


def parse_one_size(size: Pixels) -> Size:
    """What `--size` may say where it names one size: `64`, or `64x48` (height x width).

    Raises:
        SpecError: It says something else.
    """
    sizes = parse_sizes(size)
    if len(sizes) > 1:
        raise SpecError(
            Problem(f"'{size}' is more than one size", Mark("--size"), fix="name one", code="size")
        )
    return sizes[0]


def require_takes(resolved: "Resolved", sizes: Sequence[Size]) -> None:
    """Raises SpecError, naming the module and its line, for each size that the model cannot take.

    Shapes are followed through the modules as they were built, rather than through the spec read
    for another size, in which `shortcut: auto` may be another module.
    """
    problems: list[Problem] = []
    for size in sizes:
        try:
            _follow(resolved, size)
        except SpecError as error:
            problems += error.problems
    if problems:
        raise SpecError(problems)


def _follow(resolved: "Resolved", size: Size) -> None:
    graph = resolved.graph
    shapes = {INPUT: Shape(graph.input_shape.channels, size)}
    for index, node in enumerate(graph.nodes):
        inputs = tuple(shapes[i] for i in node.inputs)
        try:
            shapes[index] = node.op.output_shape(*inputs)
            _require_own_weights(node, inputs)
        except ShapeError as error:
            what = f"images of {size_text(size)} do not fit: {error.what}"
            mark = resolved.mark(*node.where, error.field)
            raise SpecError(Problem(what, mark, node.path, error.fix, "shape")) from None


def _require_own_weights(node: Node, inputs: tuple[Shape, ...]) -> None:
    """Raises ShapeError where weights are for another number of values.

    Those of a free-frequency filter depend on the size too; it is made to be used at others.
    """
    if [x.channels for x in inputs] == [x.channels for x in node.input_shapes]:
        return
    if _weight_shapes(node, inputs) != _weight_shapes(node, node.input_shapes):
        built, given = (" and ".join(map(str, shapes)) for shapes in (node.input_shapes, inputs))
        raise ShapeError(
            f"{node.op.op} has weights for an input of {built}, and gets {given}",
            "such a model takes the size that it was trained on; "
            "one with global_avg_pool before flatten takes others",
        )


def _weight_shapes(node: Node, inputs: tuple[Shape, ...]) -> dict[str, torch.Size]:
    with torch.device("meta"):
        built = node.op.build(*inputs)
    weights = built.state_dict() if isinstance(built, nn.Module) else {"": built}
    return {name: weight.shape for name, weight in weights.items()}
