"""The kernels of a model, on the grid that each of its layers sees."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nifbuild.nn import GlobalConv2d


@dataclass(frozen=True)
class LayerKernels:
    """The filters of one layer.

    Attributes:
        path: The module's name.
        layer: The module.
        kernels: y[n] = sum_m k[m] x[n - m], with the origin at (height // 2, width // 2); float32,
            on the CPU, without gradient.
    """

    path: str
    layer: GlobalConv2d
    kernels: Float[Tensor, "filters height width"]

    @property
    def grid(self) -> tuple[int, int]:
        """Height and width, in pixels, of the image that the layer sees."""
        return self.kernels.shape[-2], self.kernels.shape[-1]


def layer_kernels(model: nn.Module, input_shape: tuple[int, int, int]) -> list[LayerKernels]:
    """The kernels of all filters as large as the image, in the order in which they are applied.

    A layer that is applied several times counts once, on the first grid that it sees.

    Args:
        model: Any model; it sees one black image in eval mode, and is left as it was.
        input_shape: Channels, height and width of that image.
    """
    names = {module: path for path, module in model.named_modules()}
    found: dict[GlobalConv2d, LayerKernels] = {}

    def remember(layer: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        if isinstance(layer, GlobalConv2d) and layer not in found:
            height, width = arguments[0].shape[-2:]
            kernels = layer.spatial_kernel(height, width, centered=True)
            found[layer] = LayerKernels(names[layer], layer, kernels.detach().float().cpu())

    first = next(model.parameters())
    modes = {module: module.training for module in model.modules()}
    hooks = [
        layer.register_forward_pre_hook(remember)
        for layer in model.modules()
        if isinstance(layer, GlobalConv2d)
    ]
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(1, *input_shape, device=first.device, dtype=first.dtype))
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in modes.items():
            module.training = mode
    return list(found.values())
