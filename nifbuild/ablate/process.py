"""Starts a cell's process, watches over it, and tells how it ended."""

import multiprocessing
import os
import signal
import time
from dataclasses import dataclass
from multiprocessing import forkserver, resource_tracker
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any, Literal

from nifbuild.ablate.cells import CellDirectory
from nifbuild.ablate.worker import BUSY, run_cell
from nifbuild.machine.launch import stop_signals
from nifbuild.machine.processes import available_cores

_SAVING_SECONDS = 120.0
"""How long a cell that is asked to stop may take to save a checkpoint."""

_PRELOADED = [
    "nifbuild.ablate.worker",
    "nifbuild.train.run",
    "nifbuild.runs.loaded",
    "nifbuild.report.filter_windows",
    # What those import when they first need it.
    "torch._dynamo",
    "datasets",
    "sklearn.datasets",
]

State = Literal["done", "pruned", "failed", "busy", "interrupted"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended.

    Attributes:
        state: `busy`: another process runs the cell; `pruned`: a search has ended it early.
        reason: Of a failure, or why it was pruned.
    """

    state: State
    reason: str = ""


def threads_for(workers: int) -> int:
    """Threads of each of so many cells at once; OMP_NUM_THREADS, where it is set, decides."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdecimal() else max(1, available_cores() // workers)


def _context() -> BaseContext:
    """Where the system can, cells are forked from one process that has loaded torch.

    That process has neither computed anything nor touched a GPU, so that a fork of it is sound: of
    other threads it has but one of jemalloc's, which provides for forks.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    _start_server()
    return context


def _start_server() -> None:
    """Starts that process, unless it runs, deaf to the signals that ask to stop.

    A scheduler sends them to every process of a job; were that one to end, it could no longer tell
    how its children do.
    """
    resource_tracker.ensure_running()  # it would unblock signals, were it started below
    before = signal.pthread_sigmask(signal.SIG_BLOCK, stop_signals())
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class CellProcess:
    """A running attempt.

    Args:
        cell: What to run.
        threads: Of torch.
        gpu: What CUDA_VISIBLE_DEVICES is to be; None: as it is.
        timeout: Seconds after which the attempt has failed; None: never.
        working_directory: From which paths of data count.
    """

    def __init__(
        self,
        cell: CellDirectory,
        *,
        threads: int,
        gpu: str | None = None,
        timeout: float | None = None,
        working_directory: str | None = None,
    ) -> None:
        self.cell = cell
        self._timeout = timeout
        self._deadline = float("inf") if timeout is None else time.monotonic() + timeout
        self._kill_at = float("inf")
        self._timed_out = self._stopped = False
        arguments = (str(cell.path.absolute()), working_directory or str(Path.cwd()), threads, gpu)
        self._process: Any = _context().Process(target=run_cell, args=arguments)  # type: ignore[attr-defined]
        self._process.start()

    @property
    def sentinel(self) -> int:
        """What `multiprocessing.connection.wait` can wait for."""
        return int(self._process.sentinel)

    def poll(self) -> Outcome | None:
        """How it ended, or None while it runs; ends what runs for too long."""
        code = self._process.exitcode
        if code is not None:
            self._process.join()
            return self._outcome(code)
        now = time.monotonic()
        if now > self._deadline:
            self._timed_out = True
            self._deadline = float("inf")
            self._ask_to_stop()
        if now > self._kill_at:
            self._process.kill()
        return None

    def stop(self) -> None:
        """Asks it to save a checkpoint and end; once, as a second signal may find it past that."""
        if not self._stopped:
            self._stopped = True
            self._ask_to_stop()

    def kill(self) -> None:
        """Ends it at once."""
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join()

    def _ask_to_stop(self) -> None:
        if self._process.exitcode is None:
            self._process.terminate()
            grace = min(_SAVING_SECONDS, self._timeout or _SAVING_SECONDS)
            self._kill_at = min(self._kill_at, time.monotonic() + grace)

    def _outcome(self, code: int) -> Outcome:
        if code == 0 and self.cell.result() is not None:
            return Outcome("done")
        if code == BUSY:
            return Outcome("busy")
        if self._timed_out:
            return self._failed(f"not done after {self._timeout:g} s (--timeout): ended")
        if self._stopped:
            return Outcome("interrupted")
        written = self.cell.failure()
        if code == 1 and written is not None:
            return Outcome("failed", str(written["reason"]))
        return self._failed(_death(code))

    def _failed(self, reason: str) -> Outcome:
        self.cell.fail(reason)
        return Outcome("failed", reason)


def _death(code: int) -> str:
    """In words, how a process ended that had no time to say why."""
    number = -code if code < 0 else code - 128 if code - 128 in stop_signals() else 0
    if not number:
        return f"its process ended with exit code {code}"
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    hint = ": perhaps the machine ran out of memory" if number == signal.SIGKILL else ""
    return f"its process was ended by {name}{hint}"
