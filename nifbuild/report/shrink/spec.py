"""A spec with ordinary convolutions in the place of those with filters as large as the image."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from nifbuild.compile import build_model
from nifbuild.report.shrink.ordinary import Ordinary
from nifbuild.spec.canonical import yaml_text
from nifbuild.spec.resolve import Resolved, load_text
from nifbuild.spec.source import TreePath


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
