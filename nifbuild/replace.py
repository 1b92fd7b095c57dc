"""Convolutions of any torch model, exchanged for ones whose filters are as large as the image."""

import json
from collections.abc import Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from nifbuild.errors import Mark, Problem, SpecError, counted, did_you_mean
from nifbuild.nn import GlobalConv2d
from nifbuild.nn.matrix_conv import MatrixConv2d
from nifbuild.nn.obstacles import obstacle
from nifbuild.spec.base import field_names
from nifbuild.spec.check import check
from nifbuild.spec.ops import OPS, Layer, Shape
from nifbuild.spec.patch import as_tree
from nifbuild.spec.select import agrees, path_pattern

if TYPE_CHECKING:
    from collections.abc import Iterator

_KINDS = [kind for kind in OPS["conv"] if kind != "standard"]
_ANY_SIZE = (32, 32)  # what initial filters are drawn for where nothing tells the size
_OURS = (GlobalConv2d, MatrixConv2d)


@dataclass(frozen=True)
class Replaced:
    """One convolution that was exchanged.

    Attributes:
        paths: Where it stands in the model; more than one where it is shared.
        before: The convolution.
        after: What took its place.
    """

    paths: tuple[str, ...]
    before: nn.Conv2d
    after: GlobalConv2d


@dataclass(frozen=True)
class Replacement:
    """What `replace_convs` did.

    Attributes:
        module: The model, changed in place.
        replaced: The convolutions that were exchanged.
        left: Convolutions that were selected and could not be, by path, with the reason.
    """

    module: nn.Module
    replaced: tuple[Replaced, ...]
    left: Mapping[str, str]

    def revert(self) -> None:
        """Puts the convolutions back, with the weights that they had.

        They take on the device, dtype and mode of what stood in their place. Those that were put
        back before stay as they are.

        Raises:
            SpecError: Something else stands in the place of one by now. The model is unchanged.
        """
        standing = [{_get(self.module, path) for path in c.paths} for c in self.replaced]
        for change, found in zip(self.replaced, standing, strict=True):
            if found not in ({change.after}, {change.before}):
                name = type(change.after).__name__
                what = f"what stands at {' = '.join(change.paths)} is not the {name} put there"
                raise SpecError(what, "undo first what was done to it since")
        for change, found in zip(self.replaced, standing, strict=True):
            if found == {change.before}:
                continue
            weight = next(change.after.parameters())
            change.before.to(weight.device, weight.dtype).train(change.after.training)
            _put(self.module, change.paths, change.before)

    def __str__(self) -> str:
        """A line for each convolution, and the sum."""
        lines = [
            f"{' = '.join(change.paths)}: {change.before} -> {type(change.after).__name__}"
            f"({change.after.extra_repr()})"
            for change in self.replaced
        ]
        lines += [f"{path}: left as it is: {reason}" for path, reason in self.left.items()]
        before, after = (
            sum(p.numel() for change in self.replaced for p in side(change).parameters())
            for side in (lambda c: c.before, lambda c: c.after)
        )
        lines.append(
            f"replaced {len(self.replaced)} convolutions: {before:,} weights became {after:,}"
        )
        return "\n".join(lines)


def replace_convs(
    module: nn.Module,
    *,
    match: str = "**",
    where: Mapping[str, Any] | None = None,
    kind: str = "implicit_frequency",
    expect: int | None = None,
    example: Tensor | None = None,
    **fields: Any,
) -> Replacement:
    """Exchanges convolutions of a model in place; each keeps its output shape.

    The new layers have the stride, padding, dilation, groups and bias of the old ones, their device
    and dtype, and their mode; other weights are new, and trainable.

    A convolution is left as it is, with the reason, if there is more to it than its weight and
    bias: hooks, a replaced `forward`, a parametrization, a weight that another module shares or
    reads in its forward pass (as far as the text of that tells). What reads the weight later on,
    such as conv-bn fusion, is told that there is none. The 1x1 convolutions inside of layers made
    by an earlier call belong to these, and are not looked at.

    Args:
        module: Any model; `nn.Conv2d` modules inside of it are looked at.
        match: Which module paths are meant: `*` stands for anything within one name, `**` for any
            number of names.
        where: Values that the convolutions must have, such as `{"kernel_size": 3, "stride": 1}`:
            any of in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias
            and padding_mode. A number stands for a pair of it, and `"groups": "depthwise"` for as
            many groups as channels.
        kind: `implicit_frequency`, `free_frequency` or `implicit_spatial`.
        expect: The number of convolutions that must be found, counting shared ones once.
        example: An input of the model, which tells the size of image that each convolution sees.
            Filters are drawn for it, else for 32x32; `free_frequency` needs it. It also gives lazy
            convolutions their weights.
        **fields: Other fields of that kind of `conv`, as in a spec: `mixing`, `hidden`,
            `padding_mode`, ... The boundary of a convolution that has another than zeros is kept.

    Returns:
        What was done; its `revert` undoes it.

    Raises:
        SpecError: A selector or field is wrong, or another number of convolutions is found than
            expected. The model is unchanged then.
    """
    _check_arguments(module, match, where, kind, expect, fields)
    convs = _convs(module)
    sizes = _sizes(module, convs, example)
    found = _select(convs, path_pattern(match), where or {})
    if len(found) != expect if expect is not None else not found:
        raise SpecError(_wrong_count(module, convs, match, expect, found))
    replaced, left = [], {}
    for conv, paths in found:
        reason = obstacle(conv, module)
        if reason:
            left.update(dict.fromkeys(paths, reason))
            continue
        after = _counterpart(conv, paths[0], kind, sizes.get(conv), fields)
        replaced.append(Replaced(paths, conv, after))
    for change in replaced:
        _put(module, change.paths, change.after)
    return Replacement(module, tuple(replaced), left)


def _check_arguments(
    module: object,
    match: object,
    where: Mapping[str, Any] | None,
    kind: str,
    expect: object,
    fields: Mapping[str, Any],
) -> None:
    if not isinstance(module, nn.Module):
        fix = "of a spec or a run, `build_model(load_spec(...))` or `load(...)` gives one"
        raise SpecError(f"`module` is no torch module: {module!r:.60}", fix)
    if not isinstance(match, str):
        raise SpecError(f"`match` is no text: {match!r:.60}", "one selector, such as 'layer1.**'")
    if where is not None and not isinstance(where, Mapping):
        raise SpecError(f"`where` is no dict: {where!r:.60}", "such as {'kernel_size': 3}")
    if expect is not None and (not isinstance(expect, int) or isinstance(expect, bool)):
        raise SpecError(f"`expect` is no whole number: {expect!r:.60}", "or leave it out")
    if isinstance(module, nn.Conv2d):
        what = "the model is itself a convolution, and cannot be exchanged in place"
        raise SpecError(what, "wrap it: nn.Sequential(conv)")
    if kind not in _KINDS:
        raise SpecError(f"unknown kind '{kind}'", f"kinds: {', '.join(_KINDS)}")
    known = _fields(nn.Conv2d(1, 1, 1))
    for name, value in (where or {}).items():
        if name not in known:
            raise SpecError(
                f"`where` names '{name}', which is no field of a convolution",
                did_you_mean(name, known) or f"fields: {', '.join(known)}",
            )
        if isinstance(value, str) and value != "depthwise" and not isinstance(known[name], str):
            what = f"`where` has a text for '{name}', {value!r}, which no convolution has"
            raise SpecError(what, f"such as {{'{name}': {known[name]!r}}}")
    own = {*field_names(OPS["conv"][kind])} - {"op", "id", "kind", *_GEOMETRY}
    for name in fields:
        if name not in own:
            fix = "here it is `padding_mode`, as in a spec" if name == "boundary" else ""
            fix = fix or did_you_mean(name, {*own, *_ARGUMENTS})
            listed = f"arguments: {', '.join(_ARGUMENTS)}; fields: {', '.join(sorted(own))}"
            raise SpecError(f"unknown field '{name}'", fix or listed)


_ARGUMENTS = ("match", "where", "kind", "expect", "example")
_GEOMETRY = ("out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "bias")


def _fields(conv: nn.Conv2d) -> dict[str, Any]:
    names = ("in_channels", "padding_mode", *_GEOMETRY)
    return {**{name: getattr(conv, name) for name in names}, "bias": conv.bias is not None}


def _convs(module: nn.Module) -> dict[nn.Conv2d, list[str]]:
    """The convolutions of a model with all their paths, but for those inside of layers of ours."""
    found: dict[nn.Conv2d, list[str]] = {}

    def visit(path: str, child: nn.Module) -> None:
        if isinstance(child, nn.Conv2d):
            found.setdefault(child, []).append(path)
        elif not isinstance(child, _OURS):
            for name, inner in child._modules.items():
                if inner is not None:
                    visit(f"{path}.{name}" if path else name, inner)

    visit("", module)
    return found


def _select(
    convs: Mapping[nn.Conv2d, list[str]], pattern: Any, where: Mapping[str, Any]
) -> list[tuple[nn.Conv2d, tuple[str, ...]]]:
    """The convolutions meant, with all their paths: a shared one is meant by each of them."""
    return [
        (conv, tuple(paths))
        for conv, paths in convs.items()
        if any(pattern.fullmatch(path) for path in paths) and agrees(_fields(conv), where)
    ]


def _wrong_count(
    module: nn.Module,
    convs: Mapping[nn.Conv2d, list[str]],
    match: str,
    expect: int | None,
    found: list[tuple[nn.Conv2d, Any]],
) -> Problem:
    wanted = "one or more convolutions" if expect is None else counted(expect, "convolution")
    what = f"expected {wanted}, found {len(found)}"
    paths = [paths[0] for _, paths in found] or [paths[0] for paths in convs.values()]
    listed = ", ".join(f"'{path}'" for path in (paths if found else paths[:8]))
    listed += " ..." if paths[8:] and not found else ""
    if found:
        fix = f"found: {listed}"
    elif convs:
        fix = did_you_mean(match, paths) or f"the model's convolutions: {listed}"
    else:
        ours = sum(isinstance(m, _OURS) for m in module.modules())
        fix = "there is no nn.Conv2d in the model"
        fix += f" but for {ours} that are exchanged already" if ours else ""
    return Problem(what, path="replace_convs", fix=fix, code="patch-count")


def _counterpart(
    conv: nn.Conv2d,
    path: str,
    kind: str,
    size: tuple[int, int] | None,
    fields: Mapping[str, Any],
) -> GlobalConv2d:
    """The layer that takes the place of `conv`, built as from a spec."""
    geometry: dict[str, Any] = {name: getattr(conv, name) for name in _GEOMETRY}
    geometry["bias"] = conv.bias is not None
    same = conv.padding == "same"
    if isinstance(conv.padding, str):
        geometry["padding"] = (0, 0)
    values = {**geometry, **fields}
    if conv.padding_mode != "zeros":
        values.setdefault("padding_mode", conv.padding_mode)
    if size is None and kind == "free_frequency":
        what = f"free_frequency has weights for one size of image, and that of {path} is unknown"
        raise SpecError(what, "pass an input of the model: example=torch.zeros(1, 3, 224, 224)")
    op = _checked(kind, values)
    try:
        layer = op.build(Shape(conv.in_channels, size or _ANY_SIZE))
    except ValueError as error:
        fix = "choose other fields, or leave it out by `match` or `where`"
        raise SpecError(Problem(str(error), path=path, fix=fix)) from None
    assert isinstance(layer, GlobalConv2d)
    if same:  # torch pads an even kernel on one side more: the size stays, as without a kernel
        layer.kernel_size = layer.padding = None
        layer.dilation = (1, 1)
    layer = layer.to(conv.weight.device, conv.weight.dtype).train(conv.training)
    if conv.bias is not None and layer.bias is not None:
        with torch.no_grad():
            layer.bias.copy_(conv.bias)
    return layer


def _checked(kind: str, values: Mapping[str, Any]) -> Layer:
    """The op with these fields, checked as if they stood in a spec."""
    written = json.dumps({"op": "conv", "kind": kind, **values}, default=str)
    tree = as_tree(json.loads(written), Mark("replace_convs"))
    op, problems = check(OPS["conv"][kind], tree)
    if problems:
        raise SpecError(problems)
    assert isinstance(op, Layer)
    return op


def _sizes(
    module: nn.Module, convs: Iterable[nn.Conv2d], example: Tensor | None
) -> dict[nn.Conv2d, tuple[int, int]]:
    """The size of image that each convolution sees, where there is an example to try."""
    if example is None:
        return {}
    sizes: dict[nn.Conv2d, tuple[int, int]] = {}

    def note(conv: nn.Module, inputs: tuple[Tensor, ...], named: dict[str, Tensor]) -> None:
        assert isinstance(conv, nn.Conv2d)
        x = inputs[0] if inputs else named["input"]
        sizes[conv] = (x.shape[-2], x.shape[-1])

    hooks = [conv.register_forward_pre_hook(note, with_kwargs=True) for conv in convs]
    try:
        with _evaluating(module), torch.no_grad():
            module(example)
    finally:
        for hook in hooks:
            hook.remove()
    return sizes


@contextmanager
def _evaluating(module: nn.Module) -> "Iterator[None]":
    """Eval mode, and then for each module the mode that it had."""
    modes = {child: child.training for child in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for child, mode in modes.items():
            child.training = mode


def _get(module: nn.Module, path: str) -> nn.Module | None:
    try:
        return module.get_submodule(path)
    except AttributeError:
        return None


def _put(module: nn.Module, paths: tuple[str, ...], child: nn.Module) -> None:
    for path in paths:
        parent, _, name = path.rpartition(".")
        setattr(module.get_submodule(parent), name, child)
