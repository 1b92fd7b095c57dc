"""The nodes of a resolved spec become an `nn.Module`."""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from nifbuild.errors import Problem, SpecError
from nifbuild.spec.graph import Graph, Node
from nifbuild.spec.ops import installed
from nifbuild.spec.ops.base import Layer
from nifbuild.spec.ops.init import InitSection
from nifbuild.spec.recompute import recomputed_blocks
from nifbuild.spec.resolve import Resolved

if TYPE_CHECKING:
    from torch import nn

_OVERFLOWS = ("Storage size calculation overflowed", "integer multiplication overflow")
"""What torch says of a tensor whose size does not fit into 64 bits."""


def build_model(resolved: Resolved) -> "nn.Module":
    """The torch module of a spec, with freshly drawn weights.

    Modules are named by the ids of the spec; each level of names is a module of its own, which runs
    its part of the graph; those that `train.gradient_checkpointing` selects compute it again in the
    backward pass. Weights are drawn from torch's global generator: seed it to repeat them. While
    training, a model with auxiliary heads gives a tuple: its output, then those of the heads.

    Raises:
        SpecError: If an op has more weights than torch can count.
    """
    if not isinstance(resolved, Resolved):
        raise TypeError(f"build_model takes what load_spec gives, not {resolved!r:.60}")
    graph = resolved.graph
    recomputed = recomputed_blocks(graph, resolved.spec.train.gradient_checkpointing)
    try:
        members = tuple(range(len(graph.nodes)))
        heads = tuple(head.output for head in graph.heads)
        return _build_scope(
            graph, "", members, (graph.output,), recomputed, resolved.spec.init, heads
        )
    except _TooManyWeights as error:
        what = f"{error.node.op.op} has more weights than torch can count"
        fix = "use fewer channels, or a smaller kernel_size"
        mark = resolved.mark(*error.node.where)
        raise SpecError(Problem(what, mark, error.node.path, fix, "too-large")) from None
    except _NotBuilt as error:
        what = installed.broken(error.node.op.op, f"cannot be built: {error.__cause__!r}")
        mark = resolved.mark(*error.node.where)
        raise SpecError(Problem(what, mark, error.node.path, code="installed-op")) from error


def build_skeleton(resolved: Resolved) -> "nn.Module":
    """The same module with shapes and no values, on torch's meta device; takes milliseconds."""
    import torch

    from nifbuild.nn.tracing import Undrawn

    with torch.device("meta"), Undrawn():
        return build_model(resolved)


def leave_out_auxiliary(model: "nn.Module") -> None:
    """Takes the auxiliary heads out of a model of `build_model`, which only training runs."""
    from nifbuild.nn.step_graph import StepGraph, leave_out_training_outputs

    assert isinstance(model, StepGraph)  # as all models of a spec are
    leave_out_training_outputs(model)


def _build_scope(
    graph: Graph,
    prefix: str,
    members: tuple[int, ...],
    outputs: tuple[int, ...],
    recomputed: Collection[str],
    init: InitSection,
    heads: tuple[int, ...] = (),
) -> "nn.Module":
    from nifbuild.nn.step_graph import Step, StepGraph

    groups: dict[str, list[int]] = {}
    for index in members:
        name = graph.nodes[index].path[len(prefix) :].split(".")[0]
        groups.setdefault(name, []).append(index)
    children: dict[str, nn.Module | nn.Parameter] = {}
    steps: list[Step] = []
    for name, group in groups.items():
        inside = set(group)
        used_outside = {i for m in members if m not in inside for i in graph.nodes[m].inputs}
        produced = tuple(i for i in group if i in used_outside or i in (*outputs, *heads))
        node = graph.nodes[group[0]]
        if node.path == prefix + name:
            children[name] = _build(node, init)
            taken = node.inputs
        else:
            inner = f"{prefix}{name}."
            children[name] = _build_scope(graph, inner, tuple(group), produced, recomputed, init)
            taken = _inputs(graph, group)
        steps.append(Step(name, taken, produced))
    return StepGraph(
        children,
        steps,
        _inputs(graph, members),
        outputs,
        heads,
        recompute=prefix.removesuffix(".") in recomputed,
    )


class _TooManyWeights(Exception):
    def __init__(self, node: Node) -> None:
        super().__init__(node.path)
        self.node = node


class _NotBuilt(Exception):
    """An op of an installed package fails; its cause says how."""

    def __init__(self, node: Node) -> None:
        super().__init__(node.path)
        self.node = node


def _build(node: Node, init: InitSection) -> "nn.Module | nn.Parameter":
    try:
        module = node.op.build(*node.input_shapes)
    except Exception as error:
        is_torchs = isinstance(error, RuntimeError) and any(w in str(error) for w in _OVERFLOWS)
        if is_torchs or isinstance(error, OverflowError):
            raise _TooManyWeights(node) from error
        if installed.origin_of(node.op.op):
            raise _NotBuilt(node) from error
        raise
    scheme = node.op.scheme(init) if isinstance(node.op, Layer) else None
    if scheme is not None:
        scheme.apply(module)
    return module


def _inputs(graph: Graph, members: Sequence[int]) -> tuple[int, ...]:
    """What the members take from outside, in the order of first use."""
    inside = set(members)
    used = [i for m in members for i in graph.nodes[m].inputs]
    return tuple(dict.fromkeys(i for i in used if i not in inside))
