"""Where `datasets` keeps what it makes of local files: anew for files that are not the same.

It copies their rows into Arrow files, which are mapped into memory, so that any row is at hand.
Parquet is read by groups of rows: one image of a group of 100, each of 110 KB, took 4.1 ms, twice
as long as decoding it, and 0.05 ms from the copy (pyarrow 26, one core, files in memory). Images of
training come in any order. In the order of the file, groups took 0.07 ms for each image.
"""

import errno
import hashlib
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from nifbuild.data.decode import no_plain_file
from nifbuild.errors import Problem, RunError

Tell = Callable[[str], None]
"""Hears, in words, what takes long or much room, before it is begun."""

_TOLD_BYTES = 64 * 2**20
"""Copies from this size on are told of."""

_SAMPLED_BYTES = 64 * 2**20
_PIECES = 16
_SMALLEST_PIECE = 256


def cache_of(files: Sequence[Path]) -> str:
    """The folder of the cache for these files; it is another one once a file was replaced.

    `datasets` goes by paths and times of modification, which copying, unpacking and synchronising
    may keep or set.

    Raises:
        OSError: A file cannot be read, or is a pipe or a device.
    """
    import datasets

    return str(Path(datasets.config.HF_DATASETS_CACHE) / f"files-{_state(files)}")


def require_room(
    files: Sequence[Path], cache: str, where: str, tell: Tell, *, parquet: bool
) -> None:
    """The disk of the cache holds a copy of these files, or has it already.

    Args:
        files: Of one split.
        cache: As from `cache_of`.
        where: The path in the spec, for messages.
        tell: Is told how much is to be copied.
        parquet: Whether they are Parquet files, whose copy is larger than they are.

    Raises:
        RunError: There is no room for it.
    """
    folder = Path(cache)
    if any(found.parent.suffix != ".incomplete" for found in folder.rglob("dataset_info.json")):
        return
    # Another process of the run may be at it, or have been when it was killed.
    begun = sum(file.stat().st_size for file in folder.rglob("*.arrow"))
    whole = sum(map(_unpacked_bytes if parquet else _bytes, files))
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    room = shutil.disk_usage(existing).free
    if whole - begun > room:
        what = f"there is no room for a copy of the rows in {folder.parent}: they take "
        what += f"{_gigabytes(whole)}, and {_gigabytes(room)} are free"
        fix = "make room, or choose a folder on another disk: export HF_DATASETS_CACHE=DIR"
        raise RunError(Problem(what, path=where, fix=fix, code="no-room"))
    if whole >= _TOLD_BYTES:
        tell(f"{where}: copying {_gigabytes(whole)} to {folder}, once")


def _bytes(file: Path) -> int:
    return file.stat().st_size


def _unpacked_bytes(file: Path) -> int:
    about = pq.read_metadata(file)
    return sum(about.row_group(group).total_byte_size for group in range(about.num_row_groups))


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:,.2f} GB"


def _state(files: Sequence[Path]) -> str:
    """A hash that differs after a file was replaced, whatever its time of modification says.

    Nothing sets the time at which the system last changed a file's entry. Where a file system does
    not keep that one, the size and up to 64 MiB of all files together, evenly spaced in each, tell;
    of very many files only times and sizes.
    """
    digest = hashlib.sha256()
    each = _SAMPLED_BYTES // max(1, len(files))
    for file in files:
        about = file.stat()
        if reason := no_plain_file(about.st_mode):
            raise OSError(errno.EINVAL, reason, str(file))
        times = (about.st_size, about.st_mtime_ns, about.st_ctime_ns)
        digest.update(f"\0{file}\0{times}\0".encode("utf-8", "surrogateescape"))
        if each < _PIECES * _SMALLEST_PIECE:
            continue
        with file.open("rb", buffering=0) as content:
            if about.st_size <= each:
                digest.update(content.read())
                continue
            piece = each // _PIECES
            for start in np.linspace(0, about.st_size - piece, num=_PIECES, dtype=np.int64):
                content.seek(int(start))
                digest.update(content.read(piece))
    return digest.hexdigest()[:32]
