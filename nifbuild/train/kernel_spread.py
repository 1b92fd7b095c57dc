"""The penalty on filters that reach far: it trades their size for accuracy."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from nifbuild.errors import Problem, SpecError
from nifbuild.nn import GlobalConv2d

if TYPE_CHECKING:
    from nifbuild.spec.resolve import Resolved


class KernelSpread:
    """The mean of `GlobalConv2d.kernel_spread` over the layers of a model.

    Args:
        module: The model.
        resolved: Its spec, which says what size of image each layer sees.

    Raises:
        SpecError: No filter of the model is as large as the image.
    """

    def __init__(self, module: nn.Module, resolved: "Resolved") -> None:
        self._layers: list[tuple[GlobalConv2d, tuple[int, int]]] = []
        modules = dict(module.named_modules())
        for node in resolved.graph.nodes:
            layer = modules.get(node.path)
            if isinstance(layer, GlobalConv2d):
                height, width = node.input_shapes[0].size
                self._layers.append((layer, (height, width)))
        if not self._layers:
            raise SpecError(
                Problem(
                    "no filter of this model is as large as the image, so none can be made smaller",
                    resolved.mark("train", "kernel_spread"),
                    "train.kernel_spread",
                    "leave it out, or declare a conv `kind: implicit_frequency`",
                    code="kernel-spread",
                )
            )

    def __call__(self) -> Tensor:
        """The spread now, between 0 and 2; differentiable."""
        return torch.stack([layer.kernel_spread(*size) for layer, size in self._layers]).mean()
