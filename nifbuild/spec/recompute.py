"""Which blocks are computed again in the backward pass: `train.gradient_checkpointing`."""

from collections.abc import Iterator, Sequence

from nifbuild.errors import Problem, did_you_mean
from nifbuild.spec.graph import Graph
from nifbuild.spec.select import path_pattern
from nifbuild.spec.source import Map, at

_FIELD = ("train", "gradient_checkpointing")
_MAX_LISTED = 8


def recomputed_blocks(graph: Graph, selectors: Sequence[str]) -> frozenset[str]:
    """The paths of the blocks that selectors find; of blocks within blocks, the outermost."""
    patterns = [path_pattern(selector) for selector in selectors]
    found: set[str] = set()
    for block in _blocks(graph):  # outer ones come before inner ones
        inside = any(block.startswith(f"{outer}.") for outer in found)
        if not inside and any(pattern.fullmatch(block) for pattern in patterns):
            found.add(block)
    return frozenset(found)


def check_recomputed(graph: Graph, selectors: Sequence[str], tree: Map) -> Iterator[Problem]:
    """A problem for each selector that finds no block, with what is close.

    Args:
        graph: The model's nodes, without auxiliary heads.
        selectors: Of `train.gradient_checkpointing`.
        tree: The spec's values with their places.
    """
    blocks = _blocks(graph)
    for index, selector in enumerate(selectors):
        pattern = path_pattern(selector)
        if any(map(pattern.fullmatch, blocks)):
            continue
        what = f"'{selector}' selects no block of the model"
        fix = did_you_mean(selector, blocks) or _listed(blocks)
        if layers := [node.path for node in graph.nodes if pattern.fullmatch(node.path)]:
            what += f", but the layer {layers[0]}"
            fix = f"what is computed again is a block of several layers\n{_listed(blocks)}"
        place = at(tree, (*_FIELD, index)) or at(tree, _FIELD)
        mark = place.mark if place is not None else None
        yield Problem(what, mark, ".".join(_FIELD), fix, "gradient-checkpointing")


def _listed(blocks: Sequence[str]) -> str:
    if not blocks:
        return "the model has no blocks: give structures an id, or leave it out"
    more = " ..." if len(blocks) > _MAX_LISTED else ""
    return f"blocks of the model: {', '.join(blocks[:_MAX_LISTED])}{more}"


def _blocks(graph: Graph) -> list[str]:
    """The levels of names that hold others, each after those around it."""
    blocks: dict[str, None] = {}
    for node in graph.nodes:
        parts = node.path.split(".")
        for end in range(1, len(parts)):
            blocks.setdefault(".".join(parts[:end]))
    return list(blocks)
