"""What YAML may say under `data:`: where images come from, how they are split, read and augmented.

One class per kind of source, chosen by `source:`. A field that means nothing for a source is not in
its class, so that a misplaced one is an error rather than silently without effect. Paths are
relative to the working directory.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from nifbuild.errors import suggestion
from nifbuild.spec.base import LARGEST, ImageSize, finding
from nifbuild.spec.common_data import CommonData, NamedSplits
from nifbuild.spec.pixel_data import DistantMarkData, SegmentationData
from nifbuild.spec.splits import USUAL_NAMES, SplitName

Name = Annotated[str, Field(min_length=1)]
_MAX_DRAWN = 10**9
"""Most pixels that are drawn for one data set; each takes 8 bytes for a while."""
Files = Name | Annotated[tuple[Name, ...], Field(min_length=1)]


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

    size: ImageSize = (32, 32)
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
    """Parquet files, with images as bytes or as paths.

    The cache of `datasets` (`HF_DATASETS_CACHE`, ~/.cache/huggingface/datasets) gets a copy of the
    rows, once, as Parquet has no quick way to a single one: the disk holds the data twice.
    """

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
    | HubData
    | DistantMarkData
    | SegmentationData,
    Field(discriminator="source"),
]
"""What stands under `data:`."""
