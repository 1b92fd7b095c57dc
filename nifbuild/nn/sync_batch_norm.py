"""Batch normalisation over the batches of all processes, on any device.

`torch.nn.SyncBatchNorm` does this for GPUs and refuses CPU tensors; this module is for the others.
The mathematics is that of Ioffe and Szegedy (arXiv 1502.03167) on the union of the processes'
batches: values, gradients and running statistics equal those of one process with all the images.
"""

from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class SyncBatchNorm(_BatchNorm):
    """`nn.BatchNorm1d`, `2d` or `3d`, with statistics of all processes while training.

    Parameters, buffers and so `state_dict` keys are those of `nn.BatchNorm2d`. In eval mode, and
    with one process, it is an ordinary batch normalisation. Statistics are computed in float32 (or
    float64 for such input). Processes may hold batches of different sizes.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected [batch, channels, ...], got {input.dim()} dimensions")

    def forward(self, x: Float[Tensor, "B C *spatial"]) -> Float[Tensor, "B C *spatial"]:
        """Normalises each channel over all processes' images and positions."""
        alone = not dist.is_initialized() or dist.get_world_size() == 1
        uses_batch = self.training or self.running_mean is None
        if alone or not uses_batch:
            return super().forward(x)
        self._check_input_dim(x)
        result: tuple[Tensor, Tensor, Tensor, Tensor] = _Normalize.apply(
            x, self.weight, self.bias, self.eps
        )
        y, mean, variance, count = result
        if self.training and self.track_running_stats:
            self._update_running(mean, variance, count)
        return y

    @torch.no_grad()
    def _update_running(
        self, mean: Float[Tensor, " C"], variance: Float[Tensor, " C"], count: Float[Tensor, ""]
    ) -> None:
        assert self.running_mean is not None and self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        # Without a momentum, torch keeps the plain average over all batches so far.
        share = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
        unbiased = variance * (count / (count - 1).clamp(min=1))
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), share)


class _Normalize(torch.autograd.Function):
    """(x - mean) / std * weight + bias, with the mean and variance of all processes.

    Written out, as it saves only `x` for the backward pass; autograd through the sums would also
    save the centred and the normalised copy.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        wide = x if x.dtype == torch.float64 else x.float()
        dims = [d for d in range(x.dim()) if d != 1]
        # Two passes: the variance from a sum of squares would lose digits where |mean| >> std.
        sums = torch.cat([wide.sum(dims), wide.new_tensor([x.numel() / x.shape[1]])])
        dist.all_reduce(sums)
        count = sums[-1]
        mean = sums[:-1] / count
        centred = wide - _per_channel(mean, x)
        variance = centred.square().sum(dims)
        dist.all_reduce(variance)
        variance = variance / count
        inv_std = torch.rsqrt(variance + eps)
        scale = inv_std if weight is None else inv_std * weight.to(inv_std.dtype)
        y = centred * _per_channel(scale, x)
        if bias is not None:
            y = y + _per_channel(bias.to(y.dtype), x)
        ctx.save_for_backward(x, weight, mean, inv_std, count)
        ctx.mark_non_differentiable(mean, variance, count)
        return y.to(x.dtype), mean, variance, count

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(
        ctx: Any, grad: Tensor, *_: Tensor
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        x, weight, mean, inv_std, count = ctx.saved_tensors
        wide, grad_wide = x.to(mean.dtype), grad.to(mean.dtype)
        dims = [d for d in range(x.dim()) if d != 1]
        normal = (wide - _per_channel(mean, x)) * _per_channel(inv_std, x)
        grad_bias, grad_weight = grad_wide.sum(dims), (grad_wide * normal).sum(dims)
        # The statistics depend on every process's images, so the loss of each reaches all of them.
        # The gradients of weight and bias stay local: whoever averages gradients adds them up.
        sums = torch.stack([grad_bias, grad_weight])
        dist.all_reduce(sums)
        mean_grad, mean_grad_normal = sums / count
        scale = inv_std if weight is None else inv_std * weight.to(inv_std.dtype)
        grad_x = _per_channel(scale, x) * (
            grad_wide - _per_channel(mean_grad, x) - normal * _per_channel(mean_grad_normal, x)
        )
        return (
            grad_x.to(x.dtype),
            None if weight is None else grad_weight.to(weight.dtype),
            grad_bias.to(weight.dtype) if ctx.needs_input_grad[2] and weight is not None else None,
            None,
        )


def _per_channel(values: Tensor, x: Tensor) -> Tensor:
    return values.view(1, -1, *[1] * (x.dim() - 2))


def sync_batch_norm(module: nn.Module) -> nn.Module:
    """Replaces every batch normalisation in `module` by one over all processes, in place.

    GPUs get `torch.nn.SyncBatchNorm`, which is one fused kernel; other devices `SyncBatchNorm`.
    Parameters and buffers are carried over as they are, so optimizers and `state_dict` keys hold.

    Args:
        module: Any module, already on its device.

    Returns:
        `module`, or its replacement where it is itself a batch normalisation.
    """
    first = next(module.parameters(), None)
    if first is not None and first.device.type == "cuda":
        converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(module)
        return converted
    for name, child in list(module.named_children()):
        setattr(module, name, sync_batch_norm(child))
    if type(module) in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d):
        return _converted(module)
    return module


def _converted(module: nn.Module) -> SyncBatchNorm:
    assert isinstance(module, _BatchNorm)
    sync = SyncBatchNorm(
        module.num_features,
        eps=module.eps,
        momentum=module.momentum,
        affine=False,
        track_running_stats=module.track_running_stats,
    )
    sync.affine = module.affine
    for name in ("weight", "bias"):
        setattr(sync, name, getattr(module, name))
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        sync.register_buffer(name, getattr(module, name))
    return sync.train(module.training)
