"""`torch.compile`, or a reason why not."""

import warnings

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from nifbuild.train.ema import copy_all


def compiled_or_eager(
    module: nn.Module, images: Tensor, accelerator: Accelerator
) -> tuple[nn.Module, str]:
    """The compiled module, tried out on one training step; or the module itself and the reason.

    Compilation is lazy, so only a trial tells whether it works. The trial leaves no trace: running
    statistics are put back and gradients dropped.

    Args:
        module: On its device, in train mode.
        images: Input of the shape that training has.
        accelerator: Says the precision, and lets all processes decide alike.
    """
    compiled = torch.compile(module)
    assert isinstance(compiled, nn.Module)
    before = [buffer.clone() for buffer in module.buffers()]
    reason = ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the compiler's remarks about its own inner workings
            with accelerator.autocast():
                loss = compiled(images).float().square().mean()
            loss.backward()
    except Exception as error:  # whatever a compiler raises
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = " ".join(lines[:2]) or type(error).__name__
    copy_all(module.buffers(), before)
    module.zero_grad(set_to_none=True)
    failed = torch.tensor(float(bool(reason)), device=accelerator.device)
    if accelerator.reduce(failed).item():
        return module, reason or "it failed in another process"
    return compiled, ""
