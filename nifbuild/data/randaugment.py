"""RandAugment (Cubuk et al., arXiv 1909.13719) on batches: each image draws operations of its own.

Kornia's class of that name draws one sequence of operations for a whole batch, and maps magnitude
to the range of each operation such that 15 of 30 changes brightness not at all. Here the operations
are Kornia's where they are more than a line, and drawing them and their strengths follows the
paper.
"""

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from nifbuild.spec.augment import RandAugment

GEOMETRIC = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
PHOTOMETRIC = (
    "autocontrast",
    "equalize",
    "solarize",
    "posterize",
    "color",
    "contrast",
    "brightness",
    "sharpness",
)
OPERATIONS = ("identity", *GEOMETRIC, *PHOTOMETRIC)

# The strongest of each (the largest magnitude), as in AutoAugment (arXiv 1805.09501), table 6.
_MAX_DEGREES = 30.0
_MAX_SHEAR = 0.3
_MAX_TRANSLATION = 150 / 331  # of height or width
_MAX_BLEND = 0.9
_MAX_BITS_LOST = 4
_ROUNDING = 1e-3
_SMOOTHED = 3  # pixels of the window that sharpness smooths over
# ITU-R 601-2, as in Pillow's conversion to gray.
_LUMA = (0.299, 0.587, 0.114)

Images = Float[Tensor, "batch channels height width"]


def randaugment(images: Images, spec: RandAugment) -> Images:
    """Applies `spec.num_ops` random operations to each image, one after another.

    Draws from PyTorch's global CPU generator.

    Args:
        images: Values 0 to 1, shape [batch, channels, height, width], with 1 or 3 channels.
        spec: Number and strength.

    Returns:
        Images of the same shape and range. Places beyond the border are black.
    """
    strength = spec.magnitude / spec.max_magnitude
    for _ in range(spec.num_ops):
        chosen = torch.randint(len(OPERATIONS), (len(images),))
        signs = torch.randint(2, (len(images),)) * 2.0 - 1.0
        images = apply_operations(images, chosen, signs * strength)
    return images


def apply_operations(
    images: Images, chosen: Int64[Tensor, " batch"], amounts: Float[Tensor, " batch"]
) -> Images:
    """Applies one operation to each image.

    Args:
        images: Values 0 to 1, shape [batch, channels, height, width].
        chosen: The place of each image's operation in `OPERATIONS`, shape [batch], on the CPU.
        amounts: From -1 to 1 for the strongest one way or the other, shape [batch], on the CPU.
            Posterize and solarize take the absolute value; autocontrast and equalize ignore it.

    Returns:
        New images of the same shape.
    """
    images = images.clone()
    first = OPERATIONS.index(GEOMETRIC[0])
    moved = torch.nonzero((chosen >= first) & (chosen < first + len(GEOMETRIC))).flatten()
    if len(moved):
        at = moved.to(images.device)
        images[at] = _warp(images[at], chosen[moved] - first, amounts[moved])
    for name in PHOTOMETRIC:
        members = torch.nonzero(chosen == OPERATIONS.index(name)).flatten()
        if len(members):
            at = members.to(images.device)
            amount = amounts[members].to(images)
            images[at] = _photometric(name, images[at], amount)
    return images


def _warp(
    images: Images, chosen: Int64[Tensor, " batch"], amounts: Float[Tensor, " batch"]
) -> Images:
    """Geometric operations, all in one resampling.

    `chosen` counts from the first of `GEOMETRIC`. Rotation and shear are about the centre.
    """
    from kornia.geometry.transform import warp_affine

    height, width = images.shape[-2:]
    share = {name: amounts * (chosen == at) for at, name in enumerate(GEOMETRIC)}
    angle = share["rotate"] * math.radians(_MAX_DEGREES)
    linear = torch.stack(
        [
            torch.stack([angle.cos(), angle.sin() + share["shear_x"] * _MAX_SHEAR], -1),
            torch.stack([-angle.sin() + share["shear_y"] * _MAX_SHEAR, angle.cos()], -1),
        ],
        -2,
    )
    centre = torch.tensor([(width - 1) / 2, (height - 1) / 2])
    shift = torch.stack([share["translate_x"] * width, share["translate_y"] * height], -1)
    offset = centre - linear @ centre + shift * _MAX_TRANSLATION
    matrix = torch.cat([linear, offset[..., None]], -1).to(images)
    warped: Tensor = warp_affine(images, matrix, (height, width), align_corners=True)
    return warped


def _photometric(name: str, images: Images, amounts: Float[Tensor, " batch"]) -> Images:
    import kornia.enhance as enhance

    factor = (1 + amounts * _MAX_BLEND).view(-1, 1, 1, 1)
    extent = amounts.abs().view(-1, 1, 1, 1)
    changed: Tensor
    match name:
        case "autocontrast":
            low = images.amin((-2, -1), keepdim=True)
            spread = images.amax((-2, -1), keepdim=True) - low
            changed = torch.where(spread > 0, (images - low) / spread.clamp_min(1e-6), images)
        case "equalize":
            changed = enhance.equalize(images)
        case "solarize":
            # The threshold counts from 256, above white, so that no strength is no change; a byte
            # divided by 255 and multiplied again is off by less than the margin.
            above = images * 255 >= 256 * (1 - extent) - _ROUNDING
            changed = torch.where(above, 1 - images, images)
        case "posterize":
            bits = 8 - (extent.flatten() * _MAX_BITS_LOST).round().int()
            changed = enhance.posterize(images, bits)
        case "color":
            changed = _blend(_gray(images), images, factor)
        case "contrast":
            changed = _blend(_gray(images).mean((-2, -1), keepdim=True), images, factor)
        case "brightness":
            changed = images * factor
        case "sharpness" if min(images.shape[-2:]) < _SMOOTHED:
            changed = images  # as Pillow: pixels at the border stay, and here all are
        case "sharpness":
            changed = enhance.sharpness(images, factor.flatten())
        case _:
            raise AssertionError(name)
    return changed.clamp(0, 1)


def _gray(images: Images) -> Float[Tensor, "batch 1 height width"]:
    if images.shape[1] == 1:
        return images
    weights = torch.tensor(_LUMA, dtype=images.dtype, device=images.device)
    return (images * weights.view(1, 3, 1, 1)).sum(1, keepdim=True)


def _blend(
    start: Float[Tensor, "batch _ _ _"], end: Images, factor: Float[Tensor, "batch 1 1 1"]
) -> Images:
    """`start` at factor 0, `end` at 1, beyond it above 1."""
    return start + (end - start) * factor
