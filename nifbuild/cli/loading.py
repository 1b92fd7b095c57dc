"""Ctrl-C while modules are loaded."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def loading() -> Iterator[None]:
    """While entered, Ctrl-C ends the process at once, with one line.

    An exception in the middle of an import may be swallowed, or leave a library half loaded, which
    then fails in ways of its own; and there is nothing to tidy up yet.
    """
    previous = signal.getsignal(signal.SIGINT)
    if previous is not signal.default_int_handler:  # ignored, or another's
        yield
        return
    # Of several processes, the launcher tells of it.
    signal.signal(signal.SIGINT, signal.SIG_DFL if "RANK" in os.environ else _leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def _leave(number: int, frame: FrameType | None) -> None:
    sys.stderr.write("interrupted\n")
    sys.stderr.flush()
    os._exit(128 + number)
