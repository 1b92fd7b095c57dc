"""Files and folders that are written whole or not at all, and folders that go in one step.

What is not complete yet, or about to go, has a name of its own: a kill at any moment leaves the old
or the new under the real one, and at most a rest that `nifbuild.runs.ownership` knows.
"""

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from nifbuild.errors import Problem

WRITING = ".writing_"
"""Before the name of what is not complete yet."""

REMOVING = ".removing_"
"""Before the name of a folder that is about to go."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV)


def write_atomically(path: Path, content: bytes, *, concurrent: bool = False) -> None:
    """Writes a file, flushed to disk before it takes its name.

    Args:
        path: The file.
        content: All of it.
        concurrent: Whether another process may write it at the same moment: then what is not
            complete yet is named by the process, too.
    """
    own = f"{os.getpid()}_" if concurrent else ""
    temporary = path.with_name(f"{WRITING}{own}{path.name}")
    try:
        _write_file(temporary, content)
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):  # where nothing can be written, nothing can be removed
            temporary.unlink()
        raise


def write_folder(final: Path, files: Mapping[str, bytes]) -> None:
    """Writes a folder with files, flushed to disk before it takes its name."""
    temporary = final.with_name(f"{WRITING}{final.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        for name, content in files.items():
            _write_file(temporary / name, content)
        _flush_folder(temporary)
        temporary.rename(final)
        _flush_folder(final.parent)
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def remove_folder(path: Path) -> None:
    """Removes a folder, renamed before: a kill on the way must not leave half of it as a whole."""
    if path.exists():
        removed = path.with_name(f"{REMOVING}{path.name}")
        if removed.exists():  # an earlier kill
            shutil.rmtree(removed)
        path.rename(removed)
        shutil.rmtree(removed)


@contextlib.contextmanager
def staging_folder(parent: Path) -> Iterator[Path]:
    """A folder in another one, for files that `move_in` gives their places; gone in the end."""
    folder = Path(tempfile.mkdtemp(prefix=WRITING, dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def move_in(files: Iterable[Path], folder: Path, *, overwrite: bool) -> None:
    """Moves complete files to a folder on the same disk, all of them flushed before the first.

    Args:
        files: The files.
        folder: Where to.
        overwrite: What is there under their names is replaced; a link is not followed.

    Raises:
        FileExistsError: Something is there, and is not to be replaced.
        OSError: A file cannot be moved.
    """
    files = list(files)
    for file in files:
        with file.open("rb+") as opened:
            os.fsync(opened.fileno())  # before the name: never half of a file after a power cut
    for file in files:
        target = folder / file.name
        if overwrite:
            file.replace(target)
            continue
        try:
            os.link(file, target)  # fails where something has appeared meanwhile
        except OSError as error:
            if error.errno not in _NO_LINKS or os.path.lexists(target):
                raise
            file.replace(target)  # a file system without links


def try_writing(folder: Path, name: str) -> None:
    """Raises OSError unless a file of that name can be made there, and leaves nothing.

    Permissions alone tell little: of root, of read-only disks, of names that are too long.
    """
    with tempfile.TemporaryDirectory(prefix=WRITING, dir=folder) as trial:
        (Path(trial) / name).touch()


def is_full(error: OSError) -> bool:
    """Whether there was no room for what was to be written."""
    return error.errno in _FULL


def write_problem(run: Path, error: OSError, intact: str | None) -> Problem:
    """What to do about a write to a run that failed; `intact`: the checkpoint that is there."""
    remedy = "make room" if is_full(error) else "make it writable"
    if intact is not None:
        fix = f"{intact} is intact: {remedy}, then continue with --resume"
    else:
        again = "start again with --resume" if os.path.lexists(run) else "call it again"
        fix = f"{remedy}, then {again}; or write elsewhere with --out DIR"
    reason = error.strerror or str(error)
    return Problem(f"cannot write to {run}: {reason}", fix=fix, code="write")


def _write_file(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _flush_folder(path: Path) -> None:
    """Makes the names in a folder durable, where the system knows how."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
