"""A short text that changes when the data does."""

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nifbuild.data.decode import Cell, cell_name
from nifbuild.data.splits import Rows
from nifbuild.spec.splits import Role

if TYPE_CHECKING:
    import datasets

_WHOLE_BYTES = 256 * 2**20
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
    images of about that size together. It depends neither on where the data lies nor on what of it
    is set aside or limited.

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
    mean_bytes = np.mean([len(_content(cell)) for cell in cells(trial.tolist())])
    step = max(1, math.ceil(mean_bytes * len(table) / _WHOLE_BYTES))
    chosen = range(0, len(table), step)
    for start in range(0, len(chosen), _CHUNK):
        for cell in cells(list(chosen[start : start + _CHUNK])):
            content = _content(cell)
            digest.update(len(content).to_bytes(8, "little"))
            digest.update(content)


def _content(cell: Cell) -> bytes:
    """The encoded image; of one that is not there, its name (decoding it is what fails)."""
    if isinstance(cell, Mapping) and cell.get("bytes") is not None:
        return bytes(cell["bytes"])
    if isinstance(cell, bytes):
        return cell
    path = Path(cell_name(cell))
    return path.read_bytes() if path.is_file() else str(path).encode()
