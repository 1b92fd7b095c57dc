"""From batches of bytes to what a model takes: random changes, then normalisation.

A random part of the full image was cut out before, where it was decoded: see `crops`.

Everything works on whole batches where they lie. Random numbers come from the CPU's generator,
seeded for each batch and put back afterwards, so that a seed means the same changes on every
device, and nothing else notices. Moving pixels (crop, flip) is done on bytes: it is exact, and a
quarter of the memory traffic. Kornia turns and erases; it is imported when first needed.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float, Float32, Int64, UInt8
from torch import Tensor
from torch.nn import functional as F

from nifbuild.data.randaugment import randaugment
from nifbuild.spec.augment import Augment
from nifbuild.spec.pixel_data import IGNORED

Bytes = UInt8[Tensor, "batch channels height width"]
Images = Float32[Tensor, "batch channels height width"]
Classes = Int64[Tensor, " batch"]
Masks = UInt8[Tensor, "batch height width"]
Targets = Float32[Tensor, "batch classes"]

_ERASED_AREA = (0.02, 1 / 3)
_ERASED_RATIOS = (0.3, 3.3)


def scaled(images: Bytes) -> Images:
    """Bytes as numbers of which black is 0 and white is 1."""
    return images.float() / 255


def normalized(
    pixels: Images, mean: Float32[Tensor, "channels 1 1"], std: Float32[Tensor, "channels 1 1"]
) -> Images:
    """Pixels of which white is 1, less each channel's mean, over its standard deviation."""
    return (pixels - mean) / std


class Preprocess:
    """Makes a model's input of images: `train` with random changes, `eval` without."""

    def __init__(
        self,
        augment: Augment,
        num_classes: int,
        mean: Float32[Tensor, " channels"],
        std: Float32[Tensor, " channels"],
    ) -> None:
        """Keeps what to do.

        Args:
            augment: The random changes.
            num_classes: The width of blended targets.
            mean: Subtracted from each channel, shape [channels]; white is 1.
            std: Divides each channel, shape [channels].
        """
        self.augment = augment
        self.num_classes = num_classes
        self._mean = mean.view(-1, 1, 1)
        self._std = std.view(-1, 1, 1)

    @property
    def blends(self) -> bool:
        """Whether targets are shares of classes [batch, classes] rather than class numbers."""
        return self.augment.blends

    def eval(self, images: Bytes) -> Images:
        """Normalises images [batch, channels, height, width]; the result lies on their device."""
        return self._normalized(scaled(images))

    def train(
        self, images: Bytes, labels: Classes | Masks, seed: int
    ) -> tuple[Images, Classes | Targets | Masks]:
        """Changes and normalises images at random.

        Args:
            images: 0 to 255, shape [batch, channels, height, width].
            labels: Their classes, shape [batch], on the same device; or of each pixel, shape
                [batch, height, width].
            seed: Fixes all random choices; use another for each batch.

        Returns:
            The images, and targets: the classes [batch], or with mixup or cutmix each class's share
            [batch, classes]; or masks, of which what crops add at the border has no class.
        """
        augment = self.augment
        with _seeded(seed):
            masked = labels.ndim > 1
            if masked:
                # What moves the image moves the mask, a channel of it then. The border that crops
                # add is 0, which is to mean that it is ignored.
                images = torch.cat([images, IGNORED - labels[:, None]], dim=1)
            if augment.crop:
                images = random_crop(images, augment.crop)
            if augment.flip:
                images = random_flip(images, augment.flip)
            if masked:
                images, labels = images[:, :-1], IGNORED - images[:, -1]
            pixels = scaled(images)
            if augment.randaugment is not None:
                pixels = randaugment(pixels, augment.randaugment)
            pixels = self._normalized(pixels)
            if augment.erasing:
                pixels = random_erasing(pixels, augment.erasing)
            if not self.blends:
                return pixels, labels
            targets = F.one_hot(labels, self.num_classes).float()
            use_mixup = bool(torch.rand(()) < 0.5) if augment.cutmix else True
            if augment.mixup and use_mixup:
                return mixup(pixels, targets, augment.mixup)
            return cutmix(pixels, targets, augment.cutmix)

    def _normalized(self, pixels: Images) -> Images:
        self._mean, self._std = self._mean.to(pixels.device), self._std.to(pixels.device)
        return normalized(pixels, self._mean, self._std)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seeds the CPU's generator, and puts it back; the generators of GPUs are not touched."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def random_crop(images: Bytes, padding: int) -> Bytes:
    """Adds black borders and cuts the original size out, at a random place of each image."""
    height, width = images.shape[-2:]
    padded = F.pad(images, [padding] * 4)
    top, left = torch.randint(2 * padding + 1, (2, len(images))).to(images.device)
    # All windows as one view; picking from it copies rows, six times faster than single pixels.
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)
    return windows[torch.arange(len(images), device=images.device), :, top, left]


def random_flip(images: Bytes, probability: float) -> Bytes:
    """Mirrors some of the images, left to right."""
    mirrored = (torch.rand(len(images)) < probability).to(images.device)
    return torch.where(mirrored.view(-1, 1, 1, 1), images.flip(-1), images)


def random_erasing(pixels: Images, probability: float) -> Images:
    """Sets a random rectangle of some of the images to 0, the mean colour of normalised images."""
    from kornia.augmentation import RandomErasing

    erased = RandomErasing(_ERASED_AREA, _ERASED_RATIOS, 0.0, p=probability)(pixels)
    assert isinstance(erased, Tensor)
    return erased


def mixup(pixels: Images, targets: Targets, alpha: float) -> tuple[Images, Targets]:
    """Blends each image and its target with another's, each pair with a share of its own.

    arXiv 1710.09412, where one share serves a whole batch.
    """
    partner, share = _partners(len(pixels), alpha)
    partner, share = partner.to(pixels.device), share.to(pixels.device)
    pixels = torch.lerp(pixels, pixels[partner], share.view(-1, 1, 1, 1))
    return pixels, torch.lerp(targets, targets[partner], share[:, None])


def cutmix(pixels: Images, targets: Targets, alpha: float) -> tuple[Images, Targets]:
    """Replaces a rectangle of each image by that of another, and that share of its target.

    arXiv 1905.04899, where one rectangle serves a whole batch. The share is that of the pixels that
    were replaced, after the rectangle was cut off at the border.
    """
    height, width = pixels.shape[-2:]
    partner, area = _partners(len(pixels), alpha)
    rows = _random_interval(height, area.sqrt())
    columns = _random_interval(width, area.sqrt())
    mask = (rows[:, :, None] & columns[:, None, :]).to(pixels.device)
    partner = partner.to(pixels.device)
    share = mask.float().mean((1, 2))
    pixels = torch.where(mask[:, None], pixels[partner], pixels)
    return pixels, torch.lerp(targets, targets[partner], share[:, None])


def _partners(number: int, alpha: float) -> tuple[Classes, Float32[Tensor, " batch"]]:
    """For each image another's place, and how much of it to take: Beta(alpha, alpha), 0 to 1."""
    concentration = torch.tensor(alpha, dtype=torch.float64)
    share = torch.distributions.Beta(concentration, concentration).sample((number,))
    return torch.randperm(number), share.float()


def _random_interval(length: int, share: Float[Tensor, " batch"]) -> Tensor:
    """Masks [batch, length] of intervals of these shares, about centres drawn from all places."""
    half = (share * length / 2).view(-1, 1)
    centre = torch.rand(len(share), 1) * length
    places = torch.arange(length) + 0.5
    return (places - centre).abs() < half
