"""Files and folders that are written whole or not at all, and folders that go in one step.

What is not complete yet, or about to go, has a name of its own: a kill at any moment leaves the old
or the new under the real one, and at most a rest that `nifbuild.runs.ownership` knows.
"""

import contextlib
import errno
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from nifbuild.errors import Problem

WRITING = ".writing_"
"""Before the name of what is not complete yet."""

REMOVING = ".removing_"
"""Before the name of a folder that is about to go."""


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file, flushed to disk before it takes its name."""
    temporary = path.with_name(f"{WRITING}{path.name}")
    try:
        _write_file(temporary, content)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
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


def write_problem(run: Path, error: OSError, intact: str | None) -> Problem:
    """What to do about a write to a run that failed; `intact`: the checkpoint that is there."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    remedy = "make room" if full else "make it writable"
    if intact is not None:
        fix = f"{intact} is intact: {remedy}, then continue with --resume"
    else:
        fix = f"{remedy}, then start again with --resume; or write elsewhere with --out DIR"
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
