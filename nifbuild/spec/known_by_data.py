"""A spec and its data: what the data knows of the model, and whether the two suit each other."""

from nifbuild.errors import Mark, Problem, SpecError
from nifbuild.spec.common_data import CommonData
from nifbuild.spec.document import RunSpec
from nifbuild.spec.expressions import substitute
from nifbuild.spec.graph import Graph
from nifbuild.spec.ops import Shape
from nifbuild.spec.source import List, Map, Scalar, at, plain
from nifbuild.spec.source import Node as TreeNode


def with_what_data_knows(
    source: Map,
    tree: Map,
    scope: dict[str, TreeNode],
    data: CommonData,
    num_classes: int | None,
) -> tuple[dict[str, TreeNode], Map, list[Problem]]:
    """What the data knows takes the place of what the architecture assumes.

    A value by flag, or in the file that describes the data itself, is no assumption; where it
    differs there is a conflict.

    Args:
        source: The composed spec.
        tree: The same, as far as it is written out.
        scope: The variables.
        data: The typed section.
        num_classes: What the data turned out to have; None: it was not looked at.

    Returns:
        The variables, the tree, and what is wrong.
    """
    problems: list[Problem] = []
    place = source.entries["data"].mark
    known = num_classes if num_classes is not None else data.known_num_classes
    assumed = scope.get("num_classes")
    if known is not None and assumed is not None:
        if _insists(assumed, place) and plain(assumed) != known:
            claimed = at(source, ("data", "num_classes")) if num_classes is None else None
            problems.append(_class_conflict(assumed, known, claimed))
        said = at(source, ("data", "num_classes"))
        scope = {**scope, "num_classes": Scalar(known, place if said is None else said.mark)}
    images = tree.get("input") or Map({}, {}, place)
    if isinstance(images, Scalar):  # it may be a variable that holds a mapping
        images = substitute(images, scope)
    if data.size is not None and isinstance(images, Map):  # else the check of `input` tells of it
        said = at(source, ("data", "size"))
        mark = place if said is None else said.mark
        size = List(tuple(Scalar(extent, mark) for extent in data.size), mark)
        assumed = images.get("size")
        if assumed is not None and _insists(assumed, place):
            given = plain(substitute(assumed, scope))
            if not _is_size(given):
                return scope, tree, problems  # the check of `input` tells what is wrong
            if given not in (list(data.size), data.size[0] if len(set(data.size)) == 1 else None):
                what = f"input.size is {given}, and the data wants {list(data.size)}"
                fix = "leave one of the two out"
                problems.append(Problem(what, assumed.mark, "input.size", fix, "conflict"))
        tree = tree.with_entry("input", images.with_entry("size", size, place))
    return scope, tree, problems


def _is_size(value: object) -> bool:
    extents = value if isinstance(value, list) else [value, value]
    return len(extents) == 2 and all(type(extent) is int for extent in extents)


def _class_conflict(assumed: TreeNode, known: int, claimed: TreeNode | None) -> Problem:
    """`claimed` is where the spec says of data that was not opened how many classes it has."""
    if claimed is not None:
        what = f"num_classes is {plain(assumed)} under vars ({assumed.mark}) and {known} under data"
        fix = "make both the number that the data has; data.num_classes may be left out"
        return Problem(what, claimed.mark, "data.num_classes", fix, "conflict")
    what = f"num_classes is {plain(assumed)}, and the data has {known} classes"
    return Problem(what, assumed.mark, "vars.num_classes", f"set it to {known}", "conflict")


def _insists(node: TreeNode, data_place: Mark) -> bool:
    return node.mark.line == 0 or node.mark.file == data_place.file


def check_output(spec: RunSpec, graph: Graph, tree: Map, num_classes: int | None) -> None:
    """A model that has data must end in a number for each class, of the image or of each pixel.

    Raises:
        SpecError: It ends in something else.
    """
    if spec.data is None:
        return
    known = num_classes if num_classes is not None else spec.data.known_num_classes
    shape = graph.output_shape
    last = graph.nodes[graph.output] if graph.output >= 0 else None
    node = at(tree, last.where) if last is not None else None
    mark = node.mark if node is not None else tree.mark
    path = last.path if last is not None else "model"
    per_pixel = spec.data.per_pixel
    what = ""
    if per_pixel and not shape.is_image:
        what = f"the model ends in a vector of {shape}, and the data has a class for each pixel"
        fix = "end it with a conv of `out_channels: $num_classes` and `kernel_size: 1`, without "
        fix += (
            "pooling over the image, flatten and linear; or name data with a class for each image"
        )
    elif per_pixel and shape.size != spec.input.size:
        what = f"the model ends in an image of {shape}, and the data has a class for each pixel of "
        what += str(Shape(spec.input.channels, spec.input.size))
        fix = "bring it back to the size of the input, with `upsample` or `conv_transpose`"
    elif shape.is_image and not per_pixel:
        what = f"the model ends in an image of {shape}, and classes need a vector"
        fix = "end it with global_avg_pool, flatten, and linear with `out_features: $num_classes`"
        fix += "; or name data with a class for each pixel, such as `source: segmentation`"
    elif known is not None and shape.channels != known:
        what = f"the model gives {shape.channels} outputs, and the data has {known} classes"
        field = "out_channels" if per_pixel else "out_features"
        fix = f"write `{field}: $num_classes`, with `num_classes` under `vars`"
    if what:
        raise SpecError(Problem(what, mark, path, fix, "output"))
