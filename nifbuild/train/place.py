"""Where and how tensors lie: device, memory format, and the same on all processes."""

from collections.abc import Callable, Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn


class Placement:
    """Puts models and images where a run wants them.

    Args:
        device: The device.
        channels_last: Whether images and filters have their channels innermost.
        normalize: Bytes to the model's input, without augmentation.
    """

    def __init__(
        self, device: torch.device, channels_last: bool, normalize: Callable[[Tensor], Tensor]
    ) -> None:
        self.device = device
        self._normalize = normalize
        self._format = torch.channels_last if channels_last else torch.contiguous_format

    def module(self, module: nn.Module) -> nn.Module:
        """The module, moved in place."""
        return module.to(device=self.device, memory_format=self._format)  # type: ignore[call-overload,no-any-return]

    def input(self, images: Tensor) -> Tensor:
        """Images [batch, channels, height, width] in the memory format of the filters."""
        return images.contiguous(memory_format=self._format)

    def evaluation_input(self, images: Tensor) -> Tensor:
        """The model's input for images as bytes."""
        return self.input(self._normalize(images))

    def peak_memory(self) -> int:
        """Bytes that tensors took at most on a GPU; 0 elsewhere."""
        return torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else 0


def share_from_first(tensors: Iterable[Tensor]) -> None:
    """Gives every process the first one's values, in place."""
    if dist.is_initialized() and dist.get_world_size() > 1:
        for tensor in tensors:
            value = tensor.detach().contiguous()  # collectives refuse channels-last tensors
            dist.broadcast(value, src=0)
            with torch.no_grad():
                tensor.copy_(value)
