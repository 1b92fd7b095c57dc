"""Why a convolution of somebody's model cannot be exchanged: what else there is to it."""

import ast
import inspect
import textwrap
from collections.abc import Iterator
from functools import cache
from typing import Any

from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from nifbuild.nn.pointwise import computes_otherwise, has_call_hooks

_STATE_HOOKS = (
    "_state_dict_hooks",
    "_state_dict_pre_hooks",
    "_load_state_dict_pre_hooks",
    "_load_state_dict_post_hooks",
)


def obstacle(conv: nn.Conv2d, module: nn.Module) -> str:
    """Why a convolution in a model cannot be exchanged; empty where it can."""
    if isinstance(conv.weight, UninitializedParameter):
        return "it is uninitialised: run the model once first, or pass an `example`"
    if "forward" in vars(conv):
        return "its `forward` was replaced on the instance, which would be lost"
    if computes_otherwise(conv) and not hasattr(conv, "parametrizations"):
        return f"{type(conv).__name__} computes something else than nn.Conv2d"
    if hasattr(conv, "parametrizations"):
        return "its weight is parametrized"
    if has_call_hooks(conv) or any(map(_has_hooks, conv.parameters())):
        return "it has hooks, which would be lost"
    if any(getattr(conv, name) for name in _STATE_HOOKS):
        return "it has hooks of its state_dict, which would be lost"
    own = {*conv._parameters, *conv._buffers, *conv._modules} - {"weight", "bias"}
    if own:
        return f"it holds more than an nn.Conv2d, which would be lost: {', '.join(sorted(own))}"
    return _weight_in_use(conv, module)


def _has_hooks(tensor: Tensor) -> bool:
    return bool(tensor._backward_hooks or getattr(tensor, "_post_accumulate_grad_hooks", None))


def _weight_in_use(conv: nn.Conv2d, module: nn.Module) -> str:
    """Who else uses the weight: it would have none, or another one."""
    for path, other in module.named_modules():
        if other is not conv and any(p is conv.weight for p in other._parameters.values()):
            return f"it shares its weight with {path or 'the model'}"
        for name in _weights_read(other.__class__):
            if _follow(other, name) is conv:
                reader = type(other).__name__
                return (
                    f"{reader} ({path or 'the model'}) reads its `weight`, which would be missing"
                )
    return ""


def _follow(module: nn.Module, names: str) -> object:
    """A module below another one; None where there is none."""
    found: object = module
    for name in names.split("."):
        found = found._modules.get(name) if isinstance(found, nn.Module) else None
    return found


@cache
def _weights_read(own: Any) -> frozenset[str]:
    """The modules, such as `proj` or `convs.0`, whose `weight` a class reads in its forward pass.

    Found in the text of `forward` and of the methods that it calls, as far as that is at hand.
    """
    if own.__module__.startswith("torch.nn."):
        return frozenset()
    found: set[str] = set()
    todo, done = ["forward"], set()
    while todo:
        name = todo.pop()
        tree = _text(own, name) if name not in done else None
        done.add(name)
        if tree is None:
            continue
        local = dict(_assigned(tree))
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr == "weight":
                found.add(_chain(node.value, local))
            if isinstance(node, ast.Call):
                todo.append(_chain(node.func, {}))
    return frozenset(found - {""})


def _text(own: type, method: str) -> ast.AST | None:
    function = getattr(own, method, None) if method.isidentifier() else None
    if not inspect.isfunction(function) or function.__module__.startswith("torch.nn."):
        return None
    try:
        return ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, SyntaxError):
        return None


def _assigned(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Local names that stand for a module: `proj = self.proj`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            yield node.targets[0].id, _chain(node.value, {})


def _chain(node: ast.AST, local: dict[str, str]) -> str:
    """`a.0` for `self.a[0]`; empty for what does not start at `self` or a local name."""
    if isinstance(node, ast.Name):
        return local.get(node.id, "")
    if isinstance(node, ast.Attribute):
        first, name = node.value, node.attr
    elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        first, name = node.value, str(node.slice.value)
    else:
        return ""
    if isinstance(first, ast.Name) and first.id == "self":
        return name
    before = _chain(first, local)
    return f"{before}.{name}" if before else ""
