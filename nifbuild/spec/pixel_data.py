"""What YAML may say under `data:` where each pixel has a class of its own."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from nifbuild.spec.base import ImageSize, PositiveInt, finding
from nifbuild.spec.common_data import CommonData, NamedSplits

IGNORED = 255
"""The class number, wherever masks are held, of pixels that count for nothing."""
MOVING = ("crop", "flip")
"""Random changes that move pixels, and so those of masks with them."""

Name = Annotated[str, Field(min_length=1)]


class PixelData(CommonData):
    """The fields of sources whose targets are masks: a class number for each pixel."""

    per_pixel: ClassVar[bool] = True

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, in the order of their numbers."""
        raise NotImplementedError

    @property
    def known_num_classes(self) -> int:
        """As many as have names."""
        return len(self.class_names)

    @property
    def ignored(self) -> int:
        """The value, in masks as they are stored, of pixels that have no class."""
        return IGNORED

    @model_validator(mode="after")
    def _changes_fit_masks(self) -> Self:
        default = type(self.augment)()
        for name in type(self.augment).model_fields:
            if name not in MOVING and getattr(self.augment, name) != getattr(default, name):
                what = f"`{name}` does not fit data with a class for each pixel"
                fix = f"leave it out; {' and '.join(MOVING)} move images and masks alike"
                raise finding(what, fix, at=("augment", name))
        return self

    @model_validator(mode="after")
    def _as_many_classes(self) -> Self:
        known = self.known_num_classes
        if self.num_classes not in (None, known):
            what = f"the data has {known} classes, not {self.num_classes}"
            fix = f"write `num_classes: {known}`, or leave it out"
            raise finding(what, fix, at=("num_classes",))
        return self


class DistantMarkData(PixelData):
    """Black and white pixels at random; the class of each is what stands `distance` to its left.

    A task with a known answer to how far a network has to see. Pixels are drawn one by one, black
    or white with equal chance, so that a network whose output depends on no pixel further away than
    `distance` - 1 is at chance, whatever it does: half of the pixels right, a mean IoU of a third.
    Pixels closer to the left border than `distance` have no class, and are ignored.

    Images are drawn when the data is opened; `seed` fixes them, too.
    """

    source: Literal["distant_mark"]
    """Which kind of source this is."""

    distance: PositiveInt
    """Pixels from where the class is to be told to the pixel that decides it."""

    size: ImageSize = (32, 32)
    """Height and width of the images, in pixels, and of the model's input: nothing is resized. The
    width is more than `distance`."""

    images: Annotated[int, Field(ge=2, le=10**5)] = 500
    """Number of images, before some are set aside."""

    @model_validator(mode="after")
    def _distance_fits(self) -> Self:
        if self.distance >= self.size[1]:
            what = f"no pixel of {self.size[1]} in a row has another {self.distance} to its left"
            fix = f"write `distance: {self.size[1] - 1}` or less, or a larger `size`"
            raise finding(what, fix, at=("distance",))
        return self

    @model_validator(mode="after")
    def _left_stays_left(self) -> Self:
        if self.augment.flip:
            what = "in a mirror image, what tells the class of a pixel is to its right"
            raise finding(what, "leave flip out", at=("augment", "flip"))
        return self

    @property
    def class_names(self) -> tuple[str, ...]:
        """What a pixel can be."""
        return ("black", "white")


class SegmentationData(NamedSplits, PixelData):
    """Folders of images, and of masks beside them: a class number for each pixel."""

    source: Literal["segmentation"]
    """Which kind of source this is."""

    path: Name
    """A folder with `images/` and `masks/`, which is then split; or with `train/` and perhaps
    `test/`, `val/` or `validation/`, each of which has these two. An image and its mask have the
    same name but for the ending, and the same size. Masks are PNG files, gray or with a palette,
    whose values are class numbers."""

    classes: (
        Annotated[int, Field(ge=2, le=IGNORED)]
        | Annotated[tuple[Name, ...], Field(min_length=2, max_length=IGNORED)]
    )
    """The names of the classes, in the order of their numbers from 0; or how many there are."""

    ignore_index: Annotated[int, Field(ge=0, le=255)] = IGNORED
    """The value of pixels of a mask that have no class; they count neither in the loss nor in any
    figure."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names; where there are none, the numbers."""
        return (
            tuple(map(str, range(self.classes))) if isinstance(self.classes, int) else self.classes
        )

    @property
    def ignored(self) -> int:
        """As it is written."""
        return self.ignore_index
