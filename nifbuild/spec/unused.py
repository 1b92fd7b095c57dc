"""Mistakes in blocks that nothing uses, as far as they do not depend on arguments."""

from collections.abc import Iterator

from nifbuild.errors import Problem, SpecError, did_you_mean
from nifbuild.spec.blocks import Block, Scope, op_name
from nifbuild.spec.expressions import is_expression, names_within
from nifbuild.spec.ops import kinds_of
from nifbuild.spec.shorthand import branches_of, op_mapping
from nifbuild.spec.source import List, Map, Node, Scalar


def problems_within(name: str, blocks: Map, variables: Scope) -> Iterator[Problem]:
    """Those of the block of this name."""
    try:
        block = Block(name, blocks.entries[name], blocks.key_marks[name])
    except SpecError as error:
        yield from error.problems
        return
    known = {*variables, *block.arguments, *_indices(block.body)}
    for node in _ops_within(block.body):
        if not is_expression(node.text("op") or ""):
            try:
                op_name(op_mapping(node), {}, blocks)
            except SpecError as error:
                yield from error.problems
        for missing in sorted(names_within(node) - known):
            what = f"unknown variable ${missing} in block '{name}'"
            fix = did_you_mean(missing, {*variables, *block.arguments})
            yield Problem(what, node.mark, name, fix, "unknown-variable")


def _indices(node: Node) -> Iterator[str]:
    """The variables that count repetitions, of ops that are given to blocks, too."""
    if isinstance(node, Map):
        yield node.text("index") or ""
    if not isinstance(node, Scalar):
        for inner in node.items if isinstance(node, List) else node.entries.values():
            yield from _indices(inner)


def _ops_within(node: Node) -> list[Map]:
    if isinstance(node, Scalar):
        named = isinstance(node.value, str) and not is_expression(node.value)
        return [Map({"op": node}, {"op": node.mark}, node.mark)] if named else []
    if isinstance(node, List):
        return [found for item in node.items for found in _ops_within(item)]
    inner: list[Map] = []
    for op_class in list(kinds_of(node.text("op") or "").values())[:1]:
        for key, words in op_class.bodies.items():
            value = node.get(key)
            is_word = isinstance(value, Scalar) and (value.value is None or value.value in words)
            if value is not None and not is_word:
                branches = branches_of(value) if key in op_class.parallel else (value,)
                inner += [found for branch in branches for found in _ops_within(branch)]
    return [node, *inner]
