"""A short text that changes when the data does."""

import hashlib
import io
import math
import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nifbuild.data.decode import Cell, cell_name
from nifbuild.data.splits import Rows
from nifbuild.spec.splits import Role

if TYPE_CHECKING:
    import datasets

WHOLE_BYTES = 256 * 2**20
_TRIAL_IMAGES = 64
_CHUNK = 1024


def fingerprint(
    class_names: tuple[str, ...],
    tables: "Mapping[Role, datasets.Dataset]",
    image: Mapping[Role, str],
    labels: Mapping[Role, Rows],
) -> str:
    """A hash of the class names, all labels, and the encoded images.

    Of each split, the images are read whole up to about 256 MiB; of a larger one, evenly spaced
    images of about that size together, and the size of every other one. It depends neither on where
    the data lies nor on what of it is set aside or limited.

    Args:
        class_names: In the order of their numbers.
        tables: The rows of each split.
        image: The column of images in each.
        labels: The class number of each row [rows], for each split.

    Returns:
        32 hexadecimal digits.
    """
    digest = hashlib.sha256("\0".join(class_names).encode())
    for role in sorted(tables):
        digest.update(f"\0{role}\0{len(labels[role])}\0".encode())
        digest.update(np.ascontiguousarray(labels[role], dtype="<i8").tobytes())
        _add_images(digest, tables[role].select_columns([image[role]]), image[role])
    return digest.hexdigest()[:32]


def _add_images(digest: "hashlib._Hash", table: "datasets.Dataset", column: str) -> None:
    rows = table.with_format("arrow")

    def cells(indices: list[int]) -> list[Cell]:
        found: list[Cell] = rows[indices][column].to_pylist()
        return found

    trial = np.linspace(0, len(table) - 1, num=min(_TRIAL_IMAGES, len(table)), dtype=int)
    mean_bytes = np.mean([len(content_of(cell)) for cell in cells(trial.tolist())])
    step = max(1, math.ceil(mean_bytes * len(table) / WHOLE_BYTES))
    if step > 1:
        digest.update(_sizes(rows[:][column]).tobytes())
    chosen = range(0, len(table), step)
    for start in range(0, len(chosen), _CHUNK):
        for cell in cells(list(chosen[start : start + _CHUNK])):
            content = content_of(cell)
            digest.update(len(content).to_bytes(8, "little"))
            digest.update(content)


def _sizes(column: pa.ChunkedArray) -> "np.ndarray":
    """Bytes of each encoded image, -1 where there is none; no image is read.

    What a table holds has its place written down; of a file the system tells.
    """
    encoded, paths = column, None
    if pa.types.is_struct(column.type):
        names = [inner.name for inner in column.type]
        encoded = pc.struct_field(column, "bytes")
        paths = pc.struct_field(column, "path") if "path" in names else None
    elif not (pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type)):
        encoded, paths = None, column
    sizes = np.full(len(column), -1, dtype="<i8")
    if encoded is not None:
        sizes = pc.fill_null(pc.binary_length(encoded), -1).to_numpy().astype("<i8")
    if paths is not None:
        without = np.flatnonzero(sizes < 0)
        for row, path in zip(without, paths.take(pa.array(without)).to_pylist(), strict=True):
            with suppress(OSError, ValueError, TypeError):
                sizes[row] = os.stat(path).st_size  # noqa: PTH116 (a million `Path` take seconds)
    return sizes


def content_of(cell: Cell) -> bytes:
    """The encoded image; of one that cannot be read, its name (decoding it is what fails)."""
    if isinstance(cell, Mapping) and cell.get("bytes") is not None:
        return bytes(cell["bytes"])
    if isinstance(cell, bytes):
        return cell
    path = cell_name(cell)
    # By descriptor, as there may be a million of them, and a `Path` for each takes longer than all.
    with suppress(OSError, ValueError), io.FileIO(path, opener=_at_once) as file:
        about = os.fstat(file.fileno())
        if stat.S_ISREG(about.st_mode):
            # No image is larger, but a file so called may be.
            return file.read(min(about.st_size, WHOLE_BYTES)) or b""
    return os.fsencode(Path(path))


def _at_once(path: str, flags: int) -> int:
    """Opens a file; a pipe, too, without waiting for somebody to write."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
