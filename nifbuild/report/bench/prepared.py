"""A module on a device with all that its forward and backward passes need."""

import copy
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from nifbuild.report.bench.contenders import InputShape
from nifbuild.report.bench.setting import Setting


class Activations:
    """An input that wants a gradient, and the gradients of outputs of its shape.

    The contenders of one shape and layout share it, so that each finds the memory in the same
    state.
    """

    def __init__(self, shape: InputShape, setting: Setting, *, channels_last: bool = False) -> None:
        self.device = setting.device
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        size = (shape.batch, shape.channels, shape.height, shape.width)
        x = torch.randn(size, device=self.device, dtype=setting.stored_dtype)
        self.x = x.contiguous(memory_format=self.layout)
        self.copied = torch.empty_like(self.x)
        self.x.requires_grad_()
        self._upstream: dict[torch.dtype, Tensor] = {}

    def copy(self) -> None:
        """Reads and writes the activations once: no layer can do with less."""
        with torch.no_grad():
            self.copied.copy_(self.x)

    def upstream(self, dtype: torch.dtype) -> Tensor:
        """What the layer behind hands back; autocast makes outputs of another dtype."""
        if dtype not in self._upstream:
            self._upstream[dtype] = torch.randn_like(self.x, dtype=dtype).detach()
        return self._upstream[dtype]


@dataclass
class Prepared:
    """A module that is ready to be timed on given activations.

    Attributes:
        module: In training mode. `inference` is a copy in eval mode: to switch one between the two
            would make it forget what it keeps for inference.
    """

    module: nn.Module
    activations: Activations
    setting: Setting
    inference: nn.Module = field(init=False)

    def __post_init__(self) -> None:
        self.module.to(self.setting.device, self.setting.stored_dtype).train()
        self.module.to(memory_format=self.activations.layout)  # type: ignore[call-overload]
        self.inference = copy.deepcopy(self.module).eval()

    def infer(self) -> Tensor:
        """A forward pass as in deployment: eval mode, nothing kept."""
        with torch.inference_mode(), self.setting.autocasting():
            y: Tensor = self.inference(self.activations.x)
        return y

    def forward(self) -> Tensor:
        """A forward pass as in training."""
        with self.setting.autocasting():
            y: Tensor = self.module(self.activations.x)
        return y

    def forward_backward(self) -> tuple[Tensor, ...]:
        """The same, and the gradients of input and parameters."""
        y = self.forward()
        inputs = [self.activations.x, *self.module.parameters()]
        return torch.autograd.grad(y, inputs, self.activations.upstream(y.dtype))
