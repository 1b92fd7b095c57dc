"""From the spec's words to the optimizer, and the learning rate at each step."""

import math

import torch
from torch import nn
from torch.optim import Optimizer

from nifbuild.spec.training import AdamW, Cosine, Sgd, Step, TrainSpec


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Two groups: parameters with weight decay, and those without.

    Without: all that hold one number for each channel (biases, scales and offsets of normalisation,
    layer scales), scalars, and every parameter whose name ends in `bias`, whatever its shape: the
    networks that make filters stack the biases of several layers in one matrix.
    """
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            is_bias = name.rpartition(".")[2].endswith("bias")
            is_per_channel = all(extent == 1 for extent in parameter.shape[1:])
            (plain if is_per_channel or is_bias else decayed).append(parameter)
    groups: list[dict[str, object]] = [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def build_optimizer(model: nn.Module, spec: Sgd | AdamW) -> Optimizer:
    """The optimizer over all trainable parameters, at its peak learning rate."""
    groups = parameter_groups(model, spec.weight_decay)
    if isinstance(spec, Sgd):
        nesterov = spec.nesterov and spec.momentum > 0
        return torch.optim.SGD(groups, lr=spec.lr, momentum=spec.momentum, nesterov=nesterov)
    return torch.optim.AdamW(groups, lr=spec.lr, betas=spec.betas, eps=spec.eps)


def lr_factor(spec: TrainSpec, step: int, steps_per_epoch: int) -> float:
    """The share of the peak learning rate that optimizer step `step` (from 0) uses.

    A closed form of the step rather than a scheduler with a state: nothing to save, and no question
    of how often it is advanced by several processes, micro-batches, or steps that fp16 skips (they
    count, as their images are spent).
    """
    schedule = spec.schedule
    total = spec.epochs * steps_per_epoch
    epochs = spec.epochs / 20 if schedule.warmup_epochs is None else schedule.warmup_epochs
    warmup = round(epochs * steps_per_epoch)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if isinstance(schedule, Cosine):
        # `min_lr` is reached after the last step: a last step with rate 0 would be wasted.
        progress = (step - warmup) / (total - warmup)
        return schedule.min_lr + (1 - schedule.min_lr) * (1 + math.cos(math.pi * progress)) / 2
    if isinstance(schedule, Step):
        return schedule.factor ** sum(step >= at * steps_per_epoch for at in schedule.at_epochs)
    return 1.0


def set_lr(optimizer: Optimizer, lr: float) -> None:
    """Sets the learning rate of all groups."""
    for group in optimizer.param_groups:
        group["lr"] = lr
