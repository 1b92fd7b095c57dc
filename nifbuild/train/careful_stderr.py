"""Standard error that cannot be written, as its disk is full or its reader gone, ends nothing.

What is said there, progress and warnings, is for people; a run that took days must not die of it.
"""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO


class _Stderr(io.FileIO):
    """Standard error; what cannot be written is dropped."""

    def write(self, content: Any) -> int:
        try:
            return super().write(content)
        except OSError:
            return len(memoryview(content).cast("B"))


@contextmanager
def careful_stderr() -> Iterator[None]:
    """While entered, what is written to stderr is dropped where it cannot be written."""
    given = sys.stderr
    sys.stderr = careful = _careful(given)
    try:
        yield
    finally:
        careful.flush()
        sys.stderr = given
        if given is None:
            careful.close()


def _careful(given: TextIO | None) -> TextIO:
    if given is None:  # closed: `print` would write to stdout instead
        return Path(os.devnull).open("w")
    try:
        descriptor = given.fileno()
    except OSError:  # a stand-in that a caller has put there
        return given
    if sys.platform == "win32":  # a console is no file there
        return given
    raw = io.BufferedWriter(_Stderr(descriptor, "w", closefd=False))
    return io.TextIOWrapper(
        raw, encoding=given.encoding, errors="backslashreplace", line_buffering=True
    )
