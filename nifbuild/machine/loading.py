"""Ctrl-C while modules are loaded."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_process = {"is_ours": False}


def own_process() -> None:
    """Says that this process is nifbuild's alone: that of the command line.

    In the process of another program, what Ctrl-C does is for that program to say.
    """
    _process["is_ours"] = True


@contextmanager
def loading() -> Iterator[None]:
    """While entered, Ctrl-C ends the process of the command line at once, with one line.

    An exception in the middle of an import may be swallowed, or leave a library half loaded, which
    then fails in ways of its own; and there is nothing to tidy up yet.
    """
    previous = signal.getsignal(signal.SIGINT)
    if not _process["is_ours"] or previous is not signal.default_int_handler:  # ignored, another's
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
