"""Where `datasets` keeps what it makes of local files: anew for files that are not the same."""

import errno
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nifbuild.data.decode import no_plain_file

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
