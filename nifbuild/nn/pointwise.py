"""1x1 convolutions beside the filters: as matrices, or called where a call is more than that."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

_CALL_HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")


def computes_otherwise(conv: nn.Module) -> bool:
    """Whether a call of the module computes something else than `nn.Conv2d`, hooks aside."""
    own = type(conv)
    if getattr(own, "_conv_forward", None) is not nn.Conv2d._conv_forward:
        return True
    return own.forward is not nn.Conv2d.forward or any(
        name in conv.__dict__ for name in ("forward", "_conv_forward")
    )


def has_call_hooks(module: nn.Module) -> bool:
    """Whether something else runs with each call of the module."""
    return any(getattr(module, name) for name in _CALL_HOOKS)


def is_matrix(pointwise: nn.Module | None) -> bool:
    """Whether a 1x1 convolution is a product with its weight, and nothing more.

    Otherwise, as with weights that are pruned or adapted by hooks, it has to be called.
    """
    return pointwise is None or not (computes_otherwise(pointwise) or has_call_hooks(pointwise))


def as_matrices(
    pointwise: nn.Conv2d | None, dtype: torch.dtype
) -> Float[Tensor, "groups out_per_group in_per_group"] | None:
    """The weight of a grouped 1x1 convolution, in the dtype to compute in."""
    if pointwise is None:
        return None
    weight: Tensor = pointwise.weight.to(dtype)
    if weight.stride(-1) != 1:
        # DistributedDataParallel wants a gradient with the strides of the weight: channels last.
        weight = weight.permute(0, 2, 3, 1)
    return weight.reshape(pointwise.groups, -1, pointwise.weight.shape[1])


def called(pointwise: nn.Module | None, x: Tensor) -> Tensor:
    """What a call of the module gives, in the dtype of its weights; `x` itself without one."""
    if pointwise is None:
        return x
    weight = next(pointwise.parameters(), None)
    y: Tensor = pointwise(x if weight is None else x.to(weight.dtype))
    return y
