"""What YAML may say under `data:` whatever the source: splits, decoding, normalisation."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from nifbuild.spec.augment import Augment
from nifbuild.spec.base import ImageSize, PositiveInt, Share, Spec
from nifbuild.spec.splits import Splits


class Normalize(Spec):
    """Fixed statistics, in units where black is 0 and white is 1."""

    mean: tuple[Annotated[float, Field(ge=-10, le=10)], ...]
    """Subtracted from each channel; one number for each channel, or one for all."""

    std: tuple[Annotated[float, Field(ge=1e-6, le=10)], ...]
    """Divides each channel; one number for each channel, or one for all."""


class Limit(Spec):
    """The largest number of images used of each split, taken after a shuffle fixed by `seed`.

    A smaller limit with the same seed gives a subset of a larger one.
    """

    train: PositiveInt | None = None
    """Training images, counted after validation was set aside. Null: all."""

    validation: PositiveInt | None = None
    """Validation images. Null: all."""

    test: PositiveInt | None = None
    """Test images. Null: all."""


class CommonData(Spec):
    """The fields of every source."""

    per_pixel: ClassVar[bool] = False
    """Whether each pixel has a class of its own, rather than each image."""

    validation: Share = 0.1
    """Share of the training images set aside for validation where the source has no validation
    split; each class in proportion, fixed by `seed`. 0: none."""

    test: Share = 0.2
    """Share of the training images set aside for testing where the source has no test split; each
    class in proportion, fixed by `seed`. 0: none."""

    limit: Limit = Limit()
    """Use only so many images of each split, for a short study or a trial."""

    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Fixes which images are set aside and kept. Not the seed of training: runs that differ in that
    one see the same split."""

    num_classes: PositiveInt | None = None
    """An assertion: data with another number of classes is an error. Null: as the data says."""

    size: ImageSize | None = None
    """Height and width, in pixels, that this data wants of the model's input. Null: the
    architecture's own."""

    resize: Literal["crop", "stretch"] = "crop"
    """How an image of another shape reaches the input size: `crop` scales it to cover the size and
    cuts the centre out; `stretch` scales height and width apart."""

    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] = "bilinear"
    """Of resizing; all but `nearest` average over pixels where the image shrinks."""

    crop_share: Annotated[float, Field(ge=0.1, le=1)] = 1.0
    """The input size as a share of the size that an image is scaled to before its centre is cut
    out: 0.875 cuts 224 of 256 pixels, as is customary for photographs. It holds for all images but
    those that `augment.resized_crop` cuts."""

    normalize: Literal["auto"] | Normalize = "auto"
    """Mean and standard deviation of each channel. `auto`: those of the training images (of 10,000
    drawn at random where images are not held in memory)."""

    unreadable: Literal["error", "skip"] = "error"
    """What a truncated or corrupt image does: `error` stops with its name; `skip` leaves it out,
    counts and lists it. `skip` reads every image once before training starts."""

    in_memory: Literal["auto"] | bool = "auto"
    """Decode every image once and hold it in memory at the input size, 1 byte for each channel of
    each pixel. `auto`: where all splits together take at most 2 GiB, but never the images that
    `augment.resized_crop` cuts, which it would then cut from what is held."""

    workers: Literal["auto"] | Annotated[int, Field(ge=0, le=256)] = "auto"
    """Processes that decode ahead, where images are not held in memory (else threads that decode at
    the start), for each process of the run. `auto`: as many as the run may use processors, shared
    among its processes; at most 32. A number: at most one for each processor; 0: none. Results do
    not depend on it."""

    augment: Augment = Augment()
    """Random changes of the training images."""

    @property
    def known_num_classes(self) -> int | None:
        """Number of classes, where it is known before the data is opened."""
        return self.num_classes


class NamedSplits(CommonData):
    """A source that names its splits."""

    splits: Splits = Splits()
    """Names of the splits to use, where they are not the usual ones."""
