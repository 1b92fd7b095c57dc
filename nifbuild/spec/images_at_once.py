"""How many images a training step must pass through a model at once."""

from nifbuild.errors import Problem
from nifbuild.spec.graph import Graph
from nifbuild.spec.ops import Layer
from nifbuild.spec.source import Map, at

_FIELDS = (("train", "batch_size"), ("train", "accumulate"))


def too_few_images(graph: Graph, images: int, tree: Map) -> Problem | None:
    """Why so many images at once cannot be trained with; None where they can.

    Args:
        graph: The model's nodes.
        images: How many pass through it at once: of one process, and of one micro-batch.
        tree: The spec's values with their places.
    """
    for node in graph.nodes:
        if not isinstance(node.op, Layer):
            continue
        (shape,) = node.input_shapes
        needed = node.op.fewest_images(shape)
        if images >= needed:
            continue
        written = [place for place in (at(tree, field) for field in _FIELDS) if place is not None]
        op = at(tree, node.where)
        mark = (written or [tree if op is None else op])[0].mark
        what = f"a batch of {images} cannot be trained: {node.op.op} needs more than one value for "
        what += f"each channel, and '{node.path}' gets an image of {shape}"
        fix = f"let {needed} images or more pass at once: a larger batch_size, a smaller accumulate"
        return Problem(what, mark, "train.batch_size", fix, "batch-size")
    return None
