"""What YAML may say under `data:`: where images come from, how they are split, read and augmented.

One class per kind of source, chosen by `source:`. A field that means nothing for a source is not in
its class, so that a misplaced one is an error rather than silently without effect. Paths are
relative to the working directory.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from nifbuild.errors import suggestion
from nifbuild.spec.augment import Augment
from nifbuild.spec.base import LARGEST, PositiveInt, Spec, finding
from nifbuild.spec.splits import USUAL_NAMES, SplitName, Splits

Share = Annotated[float, Field(ge=0, lt=1)]
Name = Annotated[str, Field(min_length=1)]
Pixels = Annotated[int, Field(ge=1, le=2**16)]
_MAX_DRAWN = 10**9
"""Most pixels that are drawn for one data set; each takes 8 bytes for a while."""
Files = Name | Annotated[tuple[Name, ...], Field(min_length=1)]


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

    size: tuple[Pixels, Pixels] | None = None
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


class Table(NamedSplits):
    """A source with rows and columns."""

    image: Name | None = None
    """The column with images. Null: the only one of an image type, else of a usual name."""

    label: Name | None = None
    """The column with class labels: integers, or strings (sorted, they are the classes). Null: the
    only one of a class-label type, else of a usual name."""


class DigitsData(CommonData):
    """1,797 scans of handwritten digits, 8x8 pixels, 10 classes; comes with scikit-learn."""

    source: Literal["digits"]
    """Which kind of source this is."""

    @model_validator(mode="after")
    def _ten_classes(self) -> Self:
        if self.num_classes not in (None, 10):
            what = f"the data has 10 classes, not {self.num_classes}"
            fix = "write `num_classes: 10`, or leave it out"
            raise finding(what, fix, at=("num_classes",))
        return self

    @property
    def known_num_classes(self) -> int:
        """The ten digits."""
        return 10


class DistantPairData(CommonData):
    """Two marks on noise: `distance` pixels apart is one class, further apart the other.

    A task with a known answer to how large a filter has to be. The marks lie in a row or in a
    column, by chance. Those of the class `far` are 3/2 to 2 times as far apart: telling them from
    the others needs a filter that sees `distance` pixels far, and one that sees much further is
    of no use.

    A window of up to `distance` x `distance` pixels sees at most one of the marks, and that one may
    be anywhere in it: without noise, the windows of all images of both classes are the same, each
    as often. Marks keep `distance` - 1 pixels from the border, so that this holds whatever a layer
    takes to lie beyond it. So a network whose features see no more than that, and which pools them
    over the image (a layer that is linear in all pixels sees all of them), is at chance.

    Images are drawn when the data is opened; `seed` fixes them, too.
    """

    source: Literal["distant_pair"]
    """Which kind of source this is."""

    distance: Annotated[int, Field(ge=2, le=LARGEST)]
    """Pixels from one mark to the other in the class `near`; a window of `distance` + 1 sees both
    of them."""

    size: tuple[Pixels, Pixels] = (32, 32)
    """Height and width of the images, in pixels, and of the model's input: nothing is resized. Both
    are at least 4 * distance - 1."""

    images: Annotated[int, Field(ge=2, le=10**6)] = 2000
    """Number of images, before some are set aside; every other one is of each class."""

    noise: Annotated[float, Field(ge=0, le=1)] = 0.02
    """Standard deviation of each pixel, where the marks are 3/4 brighter than what is around them.
    0: none."""

    @model_validator(mode="after")
    def _marks_fit(self) -> Self:
        need = 4 * self.distance - 1
        if min(self.size) < need:
            height, width = self.size
            what = f"marks up to {2 * self.distance} pixels apart, which keep {self.distance - 1} "
            what += f"pixels from the border, need {need} x {need} pixels, not {height} x {width}"
            largest = (min(self.size) + 1) // 4
            fix = f"write `size: [{need}, {need}]`" + (
                f", or `distance: {largest}` or less" if largest >= 2 else ""
            )
            raise finding(what, fix, at=("size",))
        return self

    @model_validator(mode="after")
    def _memory_holds_them(self) -> Self:
        pixels = self.images * self.size[0] * self.size[1]
        if pixels > _MAX_DRAWN:
            what = f"{self.images:,} images of {self.size[0]:,} x {self.size[1]:,} pixels are more "
            fix = "draw fewer of them: `images: ...`, or smaller ones"
            raise finding(f"{what}than {_MAX_DRAWN:,} pixels", fix, at=("images",))
        return self

    @model_validator(mode="after")
    def _two_classes(self) -> Self:
        if self.num_classes not in (None, 2):
            what = f"the data has 2 classes, not {self.num_classes}"
            fix = "write `num_classes: 2`, or leave it out"
            raise finding(what, fix, at=("num_classes",))
        return self

    @property
    def known_num_classes(self) -> int:
        """Far and near."""
        return 2


class ImageFolderData(NamedSplits):
    """Folders of image files: a folder for each class."""

    source: Literal["imagefolder"]
    """Which kind of source this is."""

    path: Name
    """A folder with `train/` and perhaps `test/`, `val/` or `validation/`, in capitals or not, each
    of which has a folder for each class; or a folder of class folders, which is then split. What
    is left out, such as files whose suffix is no image's, is counted and said."""


class FileData(Table):
    """A source that is read from files."""

    files: Annotated[dict[SplitName, Files], Field(min_length=1)]
    """For each split, a path, a pattern such as `train-*.parquet` (`**`: any folders), or a list of
    these. Splits have the usual names, or those that `splits` gives."""

    @model_validator(mode="after")
    def _every_split_is_used(self) -> Self:
        for role, name in self.splits.named.items():
            if name not in self.files:
                listed = f"`files` has: {', '.join(self.files)}"
                fix = suggestion(name, self.files, listed)
                raise finding(f"`files` has no split '{name}'", fix, at=("splits", role))
        roles = self.splits.roles(self.files)
        if "train" not in roles:
            what = f"no split for training among {', '.join(self.files)}"
            raise finding(what, "say which it is: `splits: {train: ...}`", at=("files",))
        for name in self.files:
            if name not in roles.values():
                usual = [name for names in USUAL_NAMES.values() for name in names]
                listed = f"usual names: {', '.join(usual)}"
                listed += f"\nfor any other say what it is: `splits: {{test: {name}}}`"
                fix = suggestion(name, usual, listed)
                raise finding(f"nothing uses the split '{name}'", fix, at=("files", name))
        return self


class ParquetData(FileData):
    """Parquet files, with images as bytes or as paths."""

    source: Literal["parquet"]
    """Which kind of source this is."""


class ArrowData(FileData):
    """Arrow files, or folders written by `Dataset.save_to_disk` of the `datasets` library."""

    source: Literal["arrow"]
    """Which kind of source this is."""


class WebDatasetData(FileData):
    """Tar files in which an image and its label follow each other: `0001.jpg`, `0001.cls`.

    What stands before the first dot tells which belong together, what follows it is the column. The
    cache of `datasets` gets a copy of them all, once.
    """

    source: Literal["webdataset"]
    """Which kind of source this is."""


class HubData(Table):
    """A data set of the Hugging Face hub; downloaded once, then read from the local cache."""

    source: Literal["hub"]
    """Which kind of source this is."""

    id: Name
    """Its name on the hub, such as `uoft-cs/cifar10`, or a local folder in the hub's layout."""

    revision: Name
    """The commit to read, so that the data stays the same; or a branch or tag, such as `main`,
    which may change."""

    config: Name | None = None
    """The configuration, for data sets that have several. Null: the default one."""

    streaming: Annotated[int, Field(ge=1, le=10**6)] | None = None
    """For a first look at a large data set: read so many rows of each split, the first ones, over
    the network, and hold them in memory. Nothing else is downloaded, and nothing kept: each start
    reads them again, and needs a connection. Where rows are in the order of their classes, the
    first ones are of few. Null: all are downloaded, once."""


DataSpec = Annotated[
    DigitsData
    | DistantPairData
    | ImageFolderData
    | ParquetData
    | ArrowData
    | WebDatasetData
    | HubData,
    Field(discriminator="source"),
]
"""What stands under `data:`."""
