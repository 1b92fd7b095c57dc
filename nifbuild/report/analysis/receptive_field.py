"""The effective receptive field: which pixels the centre of a stage really depends on.

Source: Luo, Li, Urtasun, Zemel, "Understanding the Effective Receptive Field in Deep Convolutional
Neural Networks", arXiv 1701.04128: the gradient of the centre of a feature map with respect to the
image, averaged over images. There the gradient is that of the sum over channels; here it is the
root of the sum of the squares over channels, so that channels do not cancel, and it is squared over
images, too. (Each image's channels are summed with random signs, and the square of the gradient of
that has the sum of squares for its expectation.)
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nifbuild.report.filter_windows import effective_size, window_shares, window_sizes
from nifbuild.spec.graph import INPUT, Graph


@dataclass(frozen=True, slots=True)
class ReceptiveField:
    """What the centre of a stage depends on.

    Attributes:
        path: The module that the stage ends in.
        stage_size: Height and width of its output.
        num_images: How many images the gradient is averaged over.
        gradient: The root mean square gradient by pixel, rolled so that its centre, the circular
            mean of its square, lies at (height // 2, width // 2).
        windows: Widths of the odd windows, in pixels.
        mass: Share of the sum of `gradient` in each window.
        energy: Share of the sum of its square in each window.
        mass_sizes: By share, the width of the smallest odd window with that share of the mass.
        energy_sizes: The same of the energy.
    """

    path: str
    stage_size: tuple[int, int]
    num_images: int
    gradient: Float[Tensor, "height width"]
    windows: tuple[int, ...]
    mass: tuple[float, ...]
    energy: tuple[float, ...]
    mass_sizes: dict[float, int]
    energy_sizes: dict[float, int]

    def as_document(self) -> dict[str, Any]:
        """Plain data for JSON; the gradient itself is in the plot."""
        return {
            "stage_size": list(self.stage_size),
            "num_images": self.num_images,
            "windows": list(self.windows),
            "mass": list(self.mass),
            "energy": list(self.energy),
            "effective_size": {
                "mass": {f"{share:g}": size for share, size in self.mass_sizes.items()},
                "energy": {f"{share:g}": size for share, size in self.energy_sizes.items()},
            },
        }


def stage_ends(graph: Graph) -> tuple[str, ...]:
    """The modules that the stages end in.

    A stage is a run of modules whose outputs have one size. It ends in the last of them that all
    paths from input to output go through, such as the last block of a ResNet's stage rather than a
    convolution within the next one. What is a single pixel is no stage.
    """
    reaches = {INPUT: 0}  # the last node that takes a value
    for index, node in enumerate(graph.nodes):
        reaches[index] = index
        for source in node.inputs:
            reaches[source] = index
    ends: list[tuple[tuple[int, ...], str]] = []
    furthest = reaches[INPUT]
    for index, node in enumerate(graph.nodes):
        size = node.output_shape.size
        if node.output_shape.is_image and furthest <= index and size != (1, 1):
            if ends and ends[-1][0] == size:
                ends.pop()
            ends.append((size, node.path))
        furthest = max(furthest, reaches[index])
    return tuple(path for _, path in ends)


def measure_receptive_fields(
    model: nn.Module,
    stages: Sequence[str],
    batches: Iterable[Float[Tensor, "batch channels height width"]],
    shares: Sequence[float],
) -> tuple[ReceptiveField, ...]:
    """The effective receptive field of the centre of each stage.

    Args:
        model: In eval mode. No gradient of its weights is taken.
        stages: Names of modules that give one image each.
        batches: Normalised images on the model's device, all of one size; at least one batch.
        shares: For which to give effective sizes.
    """
    squares: dict[str, Tensor] = {}
    sizes: dict[str, tuple[int, int]] = {}
    num_images = 0
    signs = torch.Generator().manual_seed(0)
    for images in batches:
        num_images += len(images)
        for path, output, gradient in _gradients(model, stages, images, signs):
            sizes[path] = (output.shape[-2], output.shape[-1])
            squared = gradient.double().square().sum((0, 1)).cpu()
            squares[path] = squares[path] + squared if path in squares else squared
    return tuple(
        _field(path, sizes[path], num_images, squares[path] / num_images, shares) for path in stages
    )


def _gradients(
    model: nn.Module, stages: Sequence[str], images: Tensor, generator: torch.Generator
) -> Iterable[tuple[str, Tensor, Tensor]]:
    """For each stage its output, and the gradient of its centre [batch, channels, H, W]."""
    outputs: dict[str, Tensor] = {}

    def remember(path: str) -> Any:
        return lambda module, inputs, output: outputs.update({path: output})

    hooks = [model.get_submodule(path).register_forward_hook(remember(path)) for path in stages]
    wanted = [p for p in model.parameters() if p.requires_grad]
    try:
        model.requires_grad_(False)
        x = images.clone().requires_grad_()
        with torch.enable_grad():
            model(x)
        for path in stages:
            y = outputs[path]
            centre = y[:, :, y.shape[2] // 2, y.shape[3] // 2]
            signs = torch.randint(0, 2, centre.shape, generator=generator) * 2 - 1
            target = (centre * signs.to(centre)).sum()
            (gradient,) = torch.autograd.grad(target, x, retain_graph=True)
            yield path, y, gradient
    finally:
        for hook in hooks:
            hook.remove()
        for parameter in wanted:
            parameter.requires_grad_()


def _field(
    path: str,
    stage_size: tuple[int, int],
    num_images: int,
    square: Float[Tensor, "height width"],
    shares: Sequence[float],
) -> ReceptiveField:
    height, width = square.shape
    row, column = (_circular_mean(square.sum(1 - axis)) for axis in (0, 1))
    gradient = square.sqrt().roll((height // 2 - row, width // 2 - column), (0, 1))
    mass, energy = (window_shares(gradient[None], m) for m in ("mass", "energy"))
    return ReceptiveField(
        path=path,
        stage_size=stage_size,
        num_images=num_images,
        gradient=gradient,
        windows=window_sizes(height, width),
        mass=tuple(mass[0].tolist()),
        energy=tuple(energy[0].tolist()),
        mass_sizes={share: int(effective_size(mass, share)) for share in shares},
        energy_sizes={share: int(effective_size(energy, share)) for share in shares},
    )


def _circular_mean(weights: Float[Tensor, " size"]) -> int:
    """The place in the middle of the weights, on an axis that closes on itself."""
    size = len(weights)
    angles = torch.arange(size, dtype=torch.float64) * (2 * math.pi / size)
    mean = torch.polar(weights.double(), angles).sum()
    return round(mean.angle().item() * size / (2 * math.pi)) % size
