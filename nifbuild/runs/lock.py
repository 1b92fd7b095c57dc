"""One process at a time may write a run directory.

The lock is the operating system's, on a file: it ends with the process that holds it, however that
dies, so that what a crash left behind never has to be cleared away by hand.
"""

import errno
import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from nifbuild.errors import Problem, RunError, SpecError

LOCK = ".lock"
"""Name of the file within the directory; it names the process that holds it."""

_HOLDER = b'{"pid": '
"""How the file begins."""

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Keeps other processes from entering this with the same directory.

    The directory is made if need be, and removed where nothing was written to it. File systems
    without locks, and Windows, offer no protection.

    Raises:
        RunError: If another process holds it.
        SpecError: If a file of this name is there that was not written here.
        OSError: If the directory cannot be written.
    """
    made = not directory.exists()
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / LOCK
    descriptor, stays = (None, False) if sys.platform == "win32" else _acquired(path)
    try:
        yield
    finally:
        if descriptor is not None:
            with suppress(OSError):
                if stays:
                    os.truncate(descriptor, 0)
                else:
                    path.unlink()  # while it is locked: later it would be that of the next one
            os.close(descriptor)
        if made:
            with suppress(OSError):  # it holds a run
                directory.rmdir()


def is_locked(directory: Path) -> bool:
    """Whether another process is within `locked` with this directory, as far as can be told.

    It writes nothing, so that it can be asked where nothing may be written.
    """
    if sys.platform == "win32":
        return False
    try:
        descriptor = os.open(directory / LOCK, os.O_RDONLY)
    except (FileNotFoundError, PermissionError):
        return False
    try:
        _lock(descriptor, directory / LOCK, shared=True)
    except RunError:
        return True
    finally:
        os.close(descriptor)
    return False


def _acquired(path: Path) -> tuple[int, bool]:
    """The descriptor of the lock's file, once it is locked by this process; whether it stays.

    An empty file that was there before may be anybody's: it is left as it was found.
    """
    while True:
        try:
            descriptor, made = _opened(path)
        except FileNotFoundError:  # another process has removed the directory that it had made
            path.parent.mkdir(parents=True, exist_ok=True)
            continue
        try:
            found = _require_own(descriptor, path)
            _lock(descriptor, path)
            # The one that held it may have removed the file before this one had locked it.
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                holder = {"pid": os.getpid(), "host": socket.gethostname()}
                os.truncate(descriptor, 0)
                os.write(descriptor, json.dumps(holder).encode())
                return descriptor, not (made or found)
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _opened(path: Path) -> tuple[int, bool]:
    """The file, and whether it was made; not through a link, which leads to another's file."""
    flags = os.O_RDWR | os.O_NOFOLLOW
    try:
        return os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666), True
    except FileExistsError:
        return os.open(path, flags), False


def _require_own(descriptor: int, path: Path) -> bytes:
    """What the file says; raises SpecError where that is something else than who holds it."""
    content = os.pread(descriptor, 10_000, 0)
    if content and not content.startswith(_HOLDER):
        what, fix = f"{path} was not written by nifbuild", "write elsewhere with --out DIR"
        raise SpecError(Problem(what, fix=fix, code="foreign-files"))
    return content


def _lock(descriptor: int, path: Path, *, shared: bool = False) -> None:
    import fcntl  # not on Windows

    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        # Not flock(): children, such as a loader's workers, would inherit that one and outlive us.
        fcntl.lockf(descriptor, kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            raise _held(path) from error
        if error.errno not in _NO_LOCKS:
            raise


def _held(path: Path) -> RunError:
    try:
        holder = json.loads(path.read_text())
        who = f"process {holder['pid']} on {holder['host']}"
    except (OSError, ValueError, TypeError, KeyError):  # it has not written its name yet
        who = "another process"
    return RunError(
        Problem(
            f"{who} is writing to {path.parent}",
            fix="wait until it has ended, or write elsewhere with --out DIR",
            code="run-in-use",
        )
    )
