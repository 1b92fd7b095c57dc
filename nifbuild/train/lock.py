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

from nifbuild.errors import Problem, RunError

LOCK = ".lock"
"""Name of the file within the directory; it names the process that holds it."""

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Keeps other processes from entering this with the same directory.

    The directory is made if need be, and removed where nothing was written to it. File systems
    without locks, and Windows, offer no protection.

    Raises:
        RunError: If another process holds it.
        OSError: If the directory cannot be written.
    """
    made = not directory.exists()
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / LOCK
    descriptor = None if sys.platform == "win32" else _acquired(path)
    try:
        yield
    finally:
        if descriptor is not None:
            with suppress(OSError):
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


def _acquired(path: Path) -> int:
    """The descriptor of the lock's file, once it is locked by this process."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock(descriptor, path)
            # The one that held it may have removed the file before this one had locked it.
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                holder = {"pid": os.getpid(), "host": socket.gethostname()}
                os.truncate(descriptor, 0)
                os.write(descriptor, json.dumps(holder).encode())
                return descriptor
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


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
