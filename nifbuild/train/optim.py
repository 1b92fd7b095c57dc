"""From the spec's words to the optimizer, and the learning rate at each step."""

import itertools
from collections.abc import Collection
from typing import NotRequired, TypedDict

from torch import Tensor, nn
from torch.optim import Optimizer

from nifbuild.errors import Problem, SpecError, did_you_mean
from nifbuild.nn import GlobalConv2d
from nifbuild.spec.optimizers import Optimizer as OptimizerFields
from nifbuild.spec.optimizers import OwnSettings
from nifbuild.spec.select import select_weights
from nifbuild.spec.training import TrainSpec

_MAX_LISTED = 12


class Group(TypedDict):
    """Parameters that are trained alike, as torch's optimizers take and keep them."""

    params: list[nn.Parameter]
    weight_decay: float
    lr_factor: float
    use_muon: NotRequired[bool]
    """Whether updates are made orthogonal; absent where the optimizer makes none so."""


def parameter_groups(model: nn.Module, spec: OptimizerFields) -> list[Group]:
    """The trainable parameters in groups: with weight decay, and without.

    The same two again for each of the spec's `groups`, and for its `filters`; and apart from each
    the hidden matrices, where the optimizer makes their updates orthogonal. Without decay are all
    that hold one number for each channel (biases, scales and offsets of normalisation, layer
    scales), scalars, and every parameter whose name ends in `bias`, whatever its shape: the
    networks that make filters stack the biases of several layers in one matrix. Nor does `gamma` or
    `beta`, which global response normalisation lays out along the last of four axes.

    Raises:
        SpecError: One of the spec's groups selects nothing, or what others have selected.
    """
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    settings = _settings_by_name(model, parameters, spec)
    hidden = _hidden_matrices(model) if spec.orthogonal else set()
    groups = []
    own: OwnSettings | None
    for own in dict.fromkeys((None, *spec.groups, spec.filters)):
        names = [name for name in parameters if settings.get(name) is own]
        decay = spec.weight_decay if own is None or own.weight_decay is None else own.weight_decay
        for decayed, is_hidden in itertools.product((True, False), (False, True)):
            group = Group(
                params=[
                    parameters[name]
                    for name in names
                    if _is_decayed(name, parameters[name]) is decayed
                    and (parameters[name] in hidden) is is_hidden
                ],
                weight_decay=decay if decayed else 0.0,
                lr_factor=1.0 if own is None else own.lr_factor,
            )
            if spec.orthogonal:
                group["use_muon"] = is_hidden
            groups.append(group)
    return [group for group in groups if group["params"]]


def _is_decayed(name: str, parameter: Tensor) -> bool:
    own = name.rpartition(".")[2]
    is_bias = own.endswith("bias") or own in ("gamma", "beta")
    is_per_channel = all(extent == 1 for extent in parameter.shape[1:])
    return not (is_per_channel or is_bias)


def _hidden_matrices(model: nn.Module) -> set[Tensor]:
    """The weights of convolutions of one group and of linear layers, without the outermost."""
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    dense = (layer for layer in layers[1:-1] if isinstance(layer, nn.Linear) or layer.groups == 1)
    return {layer.weight for layer in dense if _is_decayed("weight", layer.weight)}


def _settings_by_name(
    model: nn.Module, names: Collection[str], spec: OptimizerFields
) -> dict[str, OwnSettings]:
    """For each parameter with settings of its own, whose they are."""
    settings: dict[str, OwnSettings] = {}
    for group in spec.groups:
        found = select_weights(group.match, names)
        new = [name for name in found if name not in settings]
        if not new:
            raise SpecError(_useless(group.match, bool(found), names))
        settings |= dict.fromkeys(new, group)
    if spec.filters is not None:
        convs = (module for module in model.modules() if isinstance(module, GlobalConv2d))
        filters = {id(weight) for conv in convs for weight in conv.filter_weights()}
        for name, parameter in model.named_parameters():
            if id(parameter) in filters and name in names:
                settings.setdefault(name, spec.filters)
    return settings


def _useless(selector: str, taken: bool, names: Collection[str]) -> Problem:
    what = f"'{selector}' selects neither a weight nor a module"
    modules = list(dict.fromkeys(name.rpartition(".")[0] for name in names))
    listed = f"modules: {', '.join(modules[:_MAX_LISTED])} ..."
    fix = did_you_mean(selector, [*modules, *names]) or listed
    if taken:
        what = f"all that '{selector}' selects is in groups before"
        fix = "the first group that selects a weight counts: put the narrower one first"
    return Problem(what, path="train.optimizer.groups", fix=fix, code="group")


def build_optimizer(model: nn.Module, spec: OptimizerFields) -> Optimizer:
    """The optimizer over all trainable parameters, at its peak learning rate.

    Raises:
        SpecError: As `parameter_groups`.
    """
    optimizer = spec.build(parameter_groups(model, spec))
    set_lr(optimizer, spec.lr)
    return optimizer


def lr_factor(spec: TrainSpec, step: int, steps_per_epoch: int) -> float:
    """The share of the peak learning rate that optimizer step `step` (from 0) uses.

    A closed form of the step rather than a scheduler with a state: nothing to save, and no question
    of how often it is advanced by several processes, micro-batches, or steps that fp16 skips (they
    count, as their images are spent).
    """
    return spec.schedule.share_of_peak(step, spec.epochs, steps_per_epoch)


def set_lr(optimizer: Optimizer, lr: float) -> None:
    """Sets the learning rate; groups with a factor get so many times it."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_factor"]
