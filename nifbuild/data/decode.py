"""One image, from bytes or a file to pixels of the shape that the model takes.

By Pillow, as nothing is clearly faster. From 200 JPEG files of 500x375 (69 KB each) to random crops
of 224x224, in images per second on one core: Pillow 13.0 with libjpeg-turbo, as here, 488;
kornia-rs 0.2 with the same crops 459, as it has no draft mode (decoding alone 669 against 628), and
its pixels differ by up to 5 of 255 before they are scaled; simplejpeg 1.9, which is libjpeg-turbo
again, 500.
"""

import functools
import io
import math
import os
import stat
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from nifbuild.data.crops import Box, Choose, Size, central_box, scaled_size, seen_part
from nifbuild.data.modes import of_mode
from nifbuild.errors import Problem, RunError, SpecError
from nifbuild.spec.common_data import CommonData
from nifbuild.spec.document import RunSpec

Cell = Mapping[str, Any] | bytes | str | None
"""What a row holds: encoded bytes, a path, or a mapping with `bytes` and `path`.

A mapping's path may be bytes: names of files need not be UTF-8, and texts of a table are.
"""

# Files are taken for what their first bytes say, whatever their name. So the kinds that are tried
# are those that Pillow decodes itself: for EPS it starts Ghostscript, an IPTC file may hold any
# other kind, and others are stubs. A PCX file that is cut off may look whole.
_FORMATS = (
    "AVIF",
    "BMP",
    "DIB",
    "GIF",
    "ICO",
    "JPEG",
    "JPEG2000",
    "MPO",
    "PNG",
    "PPM",
    "QOI",
    "SGI",
    "SUN",
    "TGA",
    "TIFF",
    "WEBP",
)

_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_ORIENTATION_TAG = 0x0112
# The EXIF standard's orientations 2 to 8: what brings the stored pixels upright.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_FIRST_SIDEWAYS = 5
_MIRRORED = ((2, 3, 6, 7), (3, 4, 7, 8))
"""Those whose left edge was a right or a lower one as stored, and the same for the upper edge."""
# A JPEG decoder can shrink by 2, 4 or 8 for little time. Twice the wanted size is left to proper
# resampling, after which the difference from a full decode is at most a few of 255 steps.
_DRAFT_MARGIN = 2
_EMPTY = "it is empty"


class UnreadableImageError(RunError):
    """An image is truncated, corrupt, or of a kind without a defined look.

    A data loader's worker hands an exception over as text, a traceback within; what people should
    read is at its end.
    """

    def __init__(self, problems: Problem | str) -> None:
        if isinstance(problems, str):
            text = problems.rsplit(f"{type(self).__name__}: ", 1)[-1].strip()
            path, _, what = text.partition(": ")
            what, _, fix = what.partition("\n")
            problems = Problem(what, path=path, fix=fix.strip(), code="unreadable-image")
        super().__init__(problems)

    @classmethod
    def of(cls, name: str, reason: str) -> "UnreadableImageError":
        """The error for one image, by name."""
        return cls(
            Problem(
                f"the image {name} cannot be read: {reason}",
                path="data.unreadable",
                fix="replace the image, or leave such images out: `--set data.unreadable=skip`; "
                "where there is no --set, `unreadable: skip` in a file that --data names",
                code="unreadable-image",
            )
        )


@dataclass(frozen=True)
class _Loaded:
    """An upright image, which the decoder may have shrunk.

    Attributes:
        image: What there is of it.
        full: Its full size.
        reduced: This over the size of what there is.
        origin: Where its left and upper edge are there: where a last pixel stands for fewer than
            `reduced`, and is the first one once upright, they are within that.
    """

    image: Image.Image
    full: Size
    reduced: int = 1
    origin: tuple[float, float] = (0.0, 0.0)

    def resized(self, box: Box, size: Size, resampling: Image.Resampling) -> Image.Image:
        """A part of the full image, scaled as if there were nothing beyond its edges."""
        left, top, right, bottom = (
            start + edge / self.reduced for start, edge in zip(self.origin * 2, box, strict=True)
        )
        whole = math.floor(left), math.floor(top), math.ceil(right), math.ceil(bottom)
        image = self.image
        if whole != (0, 0, *image.size):
            image = image.crop(whole)
        inner = (left - whole[0], top - whole[1], right - whole[0], bottom - whole[1])
        return image.resize(size, resampling, box=inner)


@dataclass(frozen=True)
class Decoder:
    """Turns encoded images into pixels.

    Transparent places become white. Gray scales of 12 and 16 bits are scaled to 8. The upright
    orientation in EXIF is applied. Of several frames or pages the first one is taken. Images of
    unbounded range (32-bit integers, floats) have no defined look, and are refused.

    Attributes:
        channels: 1 for gray, 3 for red, green and blue.
        height: Of the result, in pixels.
        width: Of the result, in pixels.
        resize: `crop` covers the size and cuts the centre out, `stretch` ignores the aspect ratio.
        interpolation: A name of Pillow's filters; they average where the image shrinks.
        crop_share: The size as a share of the one that is covered before the centre is cut out.
    """

    channels: Literal[1, 3]
    height: int
    width: int
    resize: Literal["crop", "stretch"] = "crop"
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] = "bilinear"
    crop_share: float = 1.0

    @property
    def colours(self) -> int:
        """How many of the channels are of the image; all but that of a mask."""
        return self.channels

    def of_one_pixel(self) -> "Decoder":
        """What tries whether images can be read, in the shortest time."""
        return Decoder(self.channels, 1, 1, "stretch", "nearest")

    @classmethod
    def of(cls, data: CommonData, channels: Literal[1, 3], size: tuple[int, int]) -> "Decoder":
        """What a spec says of decoding, for images of this height and width."""
        return cls(channels, *size, data.resize, data.interpolation, data.crop_share)

    def converted(self, image: Image.Image) -> Image.Image:
        """A loaded image in the mode of the result."""
        return of_mode(image, "L" if self.channels == 1 else "RGB")

    def __call__(
        self, cell: Cell, choose: Choose | None = None
    ) -> UInt8[np.ndarray, "channels height width"]:
        """The pixels of an image.

        Args:
            cell: What a row holds.
            choose: The part of the upright image that is scaled to the size. None: as `resize` and
                `crop_share` say.

        Raises:
            ValueError: It cannot be read; the message says why.
        """
        return self.with_size(cell, choose)[0]

    def with_size(
        self, cell: Cell, choose: Choose | None = None
    ) -> tuple[UInt8[np.ndarray, "channels height width"], Size]:
        """The same, and width and height of the whole image, once it is upright."""
        try:
            with opened(cell) as image:
                loaded = self._upright(image, choose)
                return self._pixels(loaded, choose), loaded.full
        except UnidentifiedImageError as error:  # its own text has an address in memory
            raise ValueError(f"cannot identify image file: none of {readable()}") from error
        except OSError as error:
            raise ValueError(error.strerror or str(error)) from error  # not the name again
        except Exception as error:
            # Pillow's decoders meet a corrupt file with OSError, SyntaxError, struct.error,
            # EOFError, DecompressionBombError and more, none of them documented.
            raise ValueError(str(error) or type(error).__name__) from error

    def part(
        self, pixels: UInt8[np.ndarray, "channels height width"], choose: Choose
    ) -> UInt8[np.ndarray, "channels height width"]:
        """A part of an image that is decoded already, scaled to the size."""
        stored = pixels[0] if self.channels == 1 else pixels.transpose(1, 2, 0)
        image = Image.fromarray(np.ascontiguousarray(stored))
        return self._pixels(_Loaded(image, image.size), choose)

    def _upright(self, image: Image.Image, choose: Choose | None) -> _Loaded:
        mode = "L" if self.channels == 1 else "RGB"
        stored, sideways = image.size, _orientation(image) >= _FIRST_SIDEWAYS
        smallest = self._draft_size(stored[::-1] if sideways else stored, choose)
        drafted = image.draft(mode, smallest[::-1] if sideways else smallest)
        image.load()
        # Of some formats Pillow turns the pixels itself while it loads them, and then says so.
        orientation = _orientation(image)
        loaded = self.converted(image)
        if orientation in _UPRIGHT:
            loaded = loaded.transpose(_UPRIGHT[orientation])
        reduced = 1 if drafted is None else round(stored[0] / drafted[1][2])
        if reduced == 1:
            return _Loaded(loaded, loaded.size)
        full = stored[::-1] if sideways else stored
        across, down = (
            have - length / reduced if orientation in mirrored else 0.0
            for have, length, mirrored in zip(loaded.size, full, _MIRRORED, strict=True)
        )
        return _Loaded(loaded, full, reduced, (across, down))

    def _draft_size(self, full: Size, choose: Choose | None) -> Size:
        """The smallest size that decoding the whole image may give for the result."""
        scaled: tuple[float, float] = self._scaled_size(full)
        if choose is not None:
            left, top, right, bottom = choose(full)
            scaled = (
                full[0] * self.width / (right - left),
                full[1] * self.height / (bottom - top),
            )
        width, height = (math.ceil(length * _DRAFT_MARGIN) for length in scaled)
        return width, height

    def _scaled_size(self, full: Size) -> Size:
        stretch = self.resize == "stretch"
        return scaled_size(full, (self.width, self.height), self.crop_share, stretch=stretch)

    def _pixels(
        self, loaded: _Loaded, choose: Choose | None
    ) -> UInt8[np.ndarray, "channels height width"]:
        wanted, resampling = (self.width, self.height), _RESAMPLING[self.interpolation]
        if choose is not None:
            image = loaded.resized(choose(loaded.full), wanted, resampling)
        else:
            box, size = seen_part(loaded.full, self._scaled_size(loaded.full), wanted)
            image = loaded.resized(box, size, resampling)
            if size != wanted:
                image = image.crop(central_box(size, wanted))
        pixels = np.asarray(image)
        return pixels[None] if self.channels == 1 else pixels.transpose(2, 0, 1)


def decoder_for(spec: RunSpec, size: tuple[int, int] | None = None) -> Decoder:
    """How a spec wants images decoded: as for evaluation, so for prediction and once exported.

    Args:
        spec: Whatever it does not say of data has its default.
        size: Height and width in pixels. None: the model's.

    Raises:
        SpecError: The model takes images of neither 1 nor 3 channels.
    """
    data = spec.data or CommonData()
    return Decoder.of(data, colours(spec.input.channels), size or spec.input.size)


def colours(channels: int) -> Literal[1, 3]:
    """The channels of a model's input, once they are known to be those of images.

    Raises:
        SpecError: They are not.
    """
    if channels == 1:
        return 1
    if channels == 3:
        return 3
    raise SpecError(
        Problem(
            f"the model takes {channels} channels, and images have 1 or 3",
            path="input.channels",
            fix="use 1 (gray) or 3 (colour): images are converted as needed",
            code="channels",
        )
    )


@functools.cache
def _formats() -> tuple[str, ...]:
    """Those of `_FORMATS` that this Pillow was built with."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def readable() -> str:
    """The formats that are read, in words."""
    *names, last = _formats()
    return f"{', '.join(names)} or {last}"


@functools.cache
def image_suffixes() -> frozenset[str]:
    """How names of files end that may hold images, in lower case."""
    formats = _formats()
    return frozenset(end for end, kind in Image.registered_extensions().items() if kind in formats)


def opened(cell: Cell) -> Image.Image:
    """The image, not loaded yet, of a kind that Pillow decodes itself.

    Raises:
        Exception: Of many kinds; see `Decoder`, which says why an image cannot be read.
    """
    if not isinstance(cell, Mapping):
        cell = {"bytes" if isinstance(cell, bytes) else "path": cell}
    encoded, path = cell.get("bytes"), cell.get("path")
    if encoded is not None:
        if not encoded:
            raise ValueError(_EMPTY)
        return Image.open(io.BytesIO(encoded), formats=_formats())
    if path is None:
        raise ValueError("the row has no image")
    file = Path(os.fsdecode(path))
    about = file.stat()
    if reason := no_plain_file(about.st_mode):
        raise ValueError(f"it is {reason}")
    if not about.st_size:
        raise ValueError(_EMPTY)
    return Image.open(file, formats=_formats())


def no_plain_file(mode: int) -> str:
    """What a file of this `st_mode` is instead of a plain one; empty where it is one."""
    if stat.S_ISREG(mode):
        return ""
    if stat.S_ISDIR(mode):
        return "a folder, not a file"
    # Reading one may wait, or go on, for ever.
    return "a pipe, a socket or a device, not a file"


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # broken metadata, of which there are as many kinds, around sound pixels
        return 1


def cell_name(cell: Cell) -> str:
    """The path of an image, where the cell knows one."""
    if isinstance(cell, Mapping):
        path = cell.get("path")
        return os.fsdecode(path) if path is not None else ""
    return cell if isinstance(cell, str) else ""


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Silences warnings of Pillow about metadata and sizes that do not change what is decoded."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\b")
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield
