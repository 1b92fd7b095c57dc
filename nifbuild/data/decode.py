"""One image, from bytes or a file to pixels of the shape that the model takes."""

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

from nifbuild.errors import Problem, RunError

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
_TIFF_BITS, _TIFF_PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0
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
                fix="replace the image, or leave such images out: `unreadable: skip`",
                code="unreadable-image",
            )
        )


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
    """

    channels: Literal[1, 3]
    height: int
    width: int
    resize: Literal["crop", "stretch"] = "crop"
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] = "bilinear"

    def __call__(self, cell: Cell) -> UInt8[np.ndarray, "channels height width"]:
        """The pixels of an image.

        Raises:
            ValueError: It cannot be read; the message says why.
        """
        try:
            with _open(cell) as image:
                return self._pixels(image)
        except UnidentifiedImageError as error:  # its own text has an address in memory
            raise ValueError(f"cannot identify image file: none of {readable()}") from error
        except OSError as error:
            raise ValueError(error.strerror or str(error)) from error  # not the name again
        except Exception as error:
            # Pillow's decoders meet a corrupt file with OSError, SyntaxError, struct.error,
            # EOFError, DecompressionBombError and more, none of them documented.
            raise ValueError(str(error) or type(error).__name__) from error

    def _pixels(self, image: Image.Image) -> UInt8[np.ndarray, "channels height width"]:
        mode = "L" if self.channels == 1 else "RGB"
        image.draft(mode, self._draft_size(image.size, self._stored_size(_orientation(image))))
        image.load()
        # Of some formats Pillow turns the pixels itself while it loads them, and then says so.
        orientation = _orientation(image)
        image = self._resized(_converted(image, mode), self._stored_size(orientation))
        if orientation in _UPRIGHT:
            image = image.transpose(_UPRIGHT[orientation])
        pixels = np.asarray(image)
        return pixels[None] if self.channels == 1 else pixels.transpose(2, 0, 1)

    def _stored_size(self, orientation: int) -> tuple[int, int]:
        """Width and height of the result before it is brought upright."""
        sideways = orientation >= _FIRST_SIDEWAYS
        return (self.height, self.width) if sideways else (self.width, self.height)

    def _draft_size(self, given: tuple[int, int], wanted: tuple[int, int]) -> tuple[int, int]:
        """The smallest (width, height) that decoding may give for a result of the wanted one."""
        scales = [want / have for want, have in zip(wanted, given, strict=True)]
        if self.resize == "crop":
            scales = [max(scales)] * 2
        width, height = (
            math.ceil(have * scale * _DRAFT_MARGIN)
            for have, scale in zip(given, scales, strict=True)
        )
        return width, height

    def _resized(self, image: Image.Image, size: tuple[int, int]) -> Image.Image:
        if image.size == size:
            return image
        box = (0.0, 0.0, float(image.width), float(image.height))
        if self.resize == "crop":
            scale = min(image.width / size[0], image.height / size[1])
            width, height = size[0] * scale, size[1] * scale
            left, top = (image.width - width) / 2, (image.height - height) / 2
            # Rounding may put the far edge beyond the image, which Pillow refuses.
            right, bottom = min(left + width, image.width), min(top + height, image.height)
            box = (left, top, right, bottom)
        return image.resize(size, _RESAMPLING[self.interpolation], box=box)


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


def _open(cell: Cell) -> Image.Image:
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


def _converted(image: Image.Image, mode: str) -> Image.Image:
    """The image, loaded, in the mode `L` or `RGB`."""
    # Pillow scales the gray levels of a PGM file of more than 8 bits to 16.
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        image = _of_eight_bits(image)
    elif image.mode in ("I", "F"):
        raise ValueError(f"its values (Pillow's mode {image.mode}) have no defined white")
    elif image.has_transparency_data:
        if image.mode == "La":
            image = image.convert("LA")  # Pillow has no direct way
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image).convert("RGB")
    elif image.mode == "LAB":
        image = image.convert("RGB")  # Pillow has no direct way to gray
    return image if image.mode == mode else image.convert(mode)


def _of_eight_bits(image: Image.Image) -> Image.Image:
    """An image of gray levels of up to 16 bits, scaled to 8."""
    tags: Mapping[int, Any] = getattr(image, "tag_v2", {})
    white = 2 ** tags.get(_TIFF_BITS, (16,))[0] - 1
    wide = np.asarray(image).astype(np.uint32)
    levels = ((wide * 255 + white // 2) // white).astype(np.uint8)
    if tags.get(_TIFF_PHOTOMETRIC) == _WHITE_IS_ZERO:  # Pillow sees to it up to 8 bits only
        levels = 255 - levels
    transparent = image.info.get("transparency")
    if transparent is not None:
        levels[wide == transparent] = 255
    return Image.fromarray(levels)


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
