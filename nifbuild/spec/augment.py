"""What YAML may say under `data.augment:`: random changes of the training images."""

from typing import Annotated, Self

from pydantic import BeforeValidator, Field, model_validator

from nifbuild.spec.base import Probability, Spec, finding

Share = Annotated[float, Field(gt=0, le=1)]
Aspect = Annotated[float, Field(ge=0.01, le=100)]
Alpha = Annotated[float, Field(ge=0, le=1000)]


class RandAugment(Spec):
    """RandAugment (Cubuk et al., arXiv 1909.13719): random operations of one common strength."""

    num_ops: Annotated[int, Field(ge=1, le=14)] = 2
    """Operations applied one after another to each image, drawn for each image anew."""

    magnitude: Annotated[float, Field(ge=0, le=1000)] = 9
    """Strength of every operation, from 0 (no change but of contrast by autocontrast and equalize)
    to `max_magnitude` (the strongest: 30 degrees, a shear of 0.3, colours by a factor of 1.9)."""

    max_magnitude: Annotated[float, Field(ge=1, le=1000)] = 30
    """What `magnitude` counts up to. 30: as in torchvision (`num_magnitude_bins=31`), where 9 is
    three tenths of the strongest. 10: as in the paper and in timm (`rand-m9`), where 9 is nine
    tenths."""

    @model_validator(mode="after")
    def _magnitude_within(self) -> Self:
        if self.magnitude > self.max_magnitude:
            what = f"the strongest magnitude is {self.max_magnitude:g}, not {self.magnitude:g}"
            fix = f"write {self.max_magnitude:g} or less, or count further: `max_magnitude: ...`"
            raise finding(what, fix, at=("magnitude",))
        return self


class ResizedCrop(Spec):
    """A random part of the full image, scaled to the input size.

    The rule is that of torchvision's `RandomResizedCrop` (Szegedy et al., arXiv 1409.4842): area
    and aspect are drawn until a part of them fits into the image, ten times at most, and after that
    it is the largest one in the middle whose aspect is allowed.
    """

    scale: Annotated[tuple[Share, Share], Field(strict=False)] = (0.08, 1.0)
    """Smallest and largest share of the image's area."""

    ratio: Annotated[tuple[Aspect, Aspect], Field(strict=False)] = (3 / 4, 4 / 3)
    """Smallest and largest width over height, drawn evenly on a logarithmic scale."""

    @model_validator(mode="after")
    def _ranges(self) -> Self:
        for name in ("scale", "ratio"):
            low, high = getattr(self, name)
            if low > high:
                what = f"{[low, high]} is no range: the smallest comes first"
                raise finding(what, f"write {[high, low]}", at=(name,))
        return self


def _crop_of_scale(value: object) -> object:
    return {"scale": value} if isinstance(value, list | tuple) else value


class Augment(Spec):
    """Random changes of the training images, in this order; each is off unless given.

    They are drawn for each image of a batch on its own, and applied to whole batches on the
    device that trains; but for `resized_crop`, which needs the full image and so is cut where
    images are decoded.
    """

    resized_crop: Annotated[
        ResizedCrop | None,
        BeforeValidator(
            _crop_of_scale, json_schema_input_type=tuple[Share, Share] | ResizedCrop | None
        ),
    ] = None
    """A random part of the full image, or the range of its area alone: [0.08, 1]. Null: off."""

    crop: Annotated[int, Field(ge=0, le=1024)] = 0
    """Pixels of black added on each side before a crop of the original size at a random place;
    CIFAR's recipe is 4. 0: off."""

    flip: Probability = 0.0
    """Probability of a mirror image (left to right). 0: off."""

    randaugment: RandAugment | None = None
    """Random operations on colour and geometry. Null: off."""

    erasing: Probability = 0.0
    """Probability that a rectangle of 2 to 33 % of the image is set to the mean colour
    (arXiv 1708.04896). 0: off."""

    mixup: Alpha = 0.0
    """Alpha of the Beta distribution from which the share of another image of the batch, blended
    into each, is drawn (arXiv 1710.09412). Targets are blended alike. 0: off. With `cutmix` too,
    each batch gets one of the two, at random."""

    cutmix: Alpha = 0.0
    """Alpha of the Beta distribution from which the area of the rectangle, replaced by that of
    another image of the batch, is drawn (arXiv 1905.04899). Targets are blended by area. 0: off."""

    @property
    def blends(self) -> bool:
        """Whether training targets are shares of classes rather than class numbers."""
        return self.mixup > 0 or self.cutmix > 0
