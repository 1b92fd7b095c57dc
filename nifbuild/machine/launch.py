"""Starts one command in several processes on this machine, and reports as if it were one.

The processes meet through the environment variables that torchrun sets. The first one has the
terminal; a failure of any is written to a file, so that the launcher shows exactly one error: that
of the process that failed first, not of those that lost touch with it.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

from nifbuild.errors import InterruptedRun, Mark, NifbuildError, Problem, RunError, SpecError
from nifbuild.machine.files import write_atomically
from nifbuild.machine.processes import world_size

PARENT_VARIABLE = "NIFBUILD_PARENT"
"""Environment variable with the process id of the launcher, where there is one."""

FAILURE_VARIABLE = "NIFBUILD_FAILURE"
"""Environment variable with the file to which a process writes its failure."""


_SAVING_SECONDS = 120.0
"""How long processes may outlive one that was interrupted: the first one saves a checkpoint."""


def stop_signals() -> tuple[signal.Signals, ...]:
    """The signals that ask a run to save and stop.

    SIGHUP, the end of the terminal, is among them unless nohup has it ignored; Windows has none.
    """
    hang_up = getattr(signal, "SIGHUP", None)
    asked = (signal.SIGINT, signal.SIGTERM)
    if hang_up is None or signal.getsignal(hang_up) is signal.SIG_IGN:
        return asked
    return (*asked, hang_up)


def terminals() -> list[int]:
    """Those of stdout and stderr that are a terminal; once it has gone, this cannot be told."""
    return [descriptor for descriptor in (1, 2) if os.isatty(descriptor)]


def discard(descriptors: Sequence[int]) -> None:
    """From now on drops what is written to a terminal that has gone, as it would fail."""
    for descriptor in descriptors:
        os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


def launch(command: Sequence[str], processes: int, *, grace_seconds: float = 5.0) -> None:
    """Runs `command` in `processes` processes that train together, until all have ended.

    Args:
        command: Program and arguments.
        processes: Their number.
        grace_seconds: How long they may outlive one that failed.

    Raises:
        NifbuildError: What the first process to fail raised, or how it died.
        InterruptedRun: If they were interrupted.
        SystemExit: With code 1, after its traceback was printed, where that was no NifbuildError.
    """
    with tempfile.TemporaryDirectory(prefix="nifbuild_") as folder:
        failures = [Path(folder) / f"{rank}.json" for rank in range(processes)]
        children: list[subprocess.Popen[bytes]] = []
        with _forwarding(children):
            common = _common_environment(processes)
            for rank, failure in enumerate(failures):
                environment = {
                    **common,
                    "RANK": str(rank),
                    "LOCAL_RANK": str(rank),
                    FAILURE_VARIABLE: str(failure),
                }
                quiet = None if rank == 0 else subprocess.DEVNULL
                # A session of its own: Ctrl-C reaches each once, through the launcher.
                children.append(
                    subprocess.Popen(
                        command,
                        env=environment,
                        stdout=quiet,
                        stderr=quiet,
                        start_new_session=True,
                    )
                )
            _wait(children, grace_seconds)
            codes = [child.poll() for child in children]
        _report(failures, codes)


def _common_environment(processes: int) -> dict[str, str]:
    environment = dict(os.environ)
    environment |= {
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
        PARENT_VARIABLE: str(os.getpid()),
    }
    environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    if sys.platform == "linux":
        # All are on this machine; the address of its host name need not lead to it.
        environment.setdefault("GLOO_SOCKET_IFNAME", "lo")
    return environment


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


@contextmanager
def _forwarding(children: list[subprocess.Popen[bytes]]) -> Iterator[None]:
    """Passes the signals that ask to stop on to the children while entered."""
    shown_on = terminals()

    def forward(number: int, frame: FrameType | None) -> None:
        if number not in (signal.SIGINT, signal.SIGTERM):
            discard(shown_on)
        for child in children:
            if child.poll() is None:
                child.send_signal(number)

    previous = {n: signal.signal(n, forward) for n in stop_signals()}
    try:
        yield
    finally:
        for child in children:
            if child.poll() is None:
                child.kill()
                child.wait()
        for number, handler in previous.items():
            signal.signal(number, handler)


def _wait(children: Sequence[subprocess.Popen[bytes]], grace_seconds: float) -> None:
    """Waits until all have ended, or one has failed and the others had time to follow."""
    deadline = float("inf")
    while None in (codes := [child.poll() for child in children]):
        if time.monotonic() > deadline:
            return
        if deadline == float("inf") and any(codes):
            interrupted = all(not code or code - 128 in stop_signals() for code in codes)
            deadline = time.monotonic() + (_SAVING_SECONDS if interrupted else grace_seconds)
        time.sleep(0.02)


def _report(failures: Sequence[Path], codes: Sequence[int | None]) -> None:
    """Raises the failure that is the cause of the others, where there is one.

    Processes that lose touch with another one raise errors of their own, or abort. So what a
    process has to say to people comes first, then a death by signal, then other exceptions; the
    earliest of each.
    """
    written = [json.loads(path.read_text()) for path in failures if path.exists()]
    written.sort(key=lambda failure: failure["time"])
    if said := next((f for f in written if f["problems"]), None):
        raise _as_error([_as_problem(p) for p in said["problems"]], said["exit_code"])
    died = [(rank, number) for rank, code in enumerate(codes) if (number := _signal(code))]
    died.sort(key=lambda death: death[1] == signal.SIGABRT)
    if died and not (died[0][1] == signal.SIGABRT and written):
        raise _death(*died[0])
    if written:
        sys.stderr.write(written[0]["traceback"])
        raise SystemExit(1)
    for rank, code in enumerate(codes):
        if code:
            raise RunError(Problem(f"process {rank} ended with exit code {code}", code="process"))


def _signal(code: int | None) -> int:
    """The signal that an exit code tells of; 0 where there is none."""
    if code is not None and code - 128 in stop_signals():
        return code - 128
    return -code if code is not None and code < 0 else 0


def _as_problem(document: dict[str, Any]) -> Problem:
    place = document["where"]
    return Problem(**{**document, "where": None if place is None else Mark(**place)})


def _as_error(problems: Sequence[Problem], code: int) -> NifbuildError:
    if code > 128:
        return InterruptedRun(problems[0], code - 128)
    return (SpecError if code == 2 else RunError)(problems)


def _death(rank: int, number: int) -> NifbuildError:
    name = signal.Signals(number).name
    if number in stop_signals():
        return InterruptedRun(Problem(f"interrupted by {name}", code="interrupted"), number)
    hint = fix = ""
    if number == signal.SIGKILL:
        hint = ": perhaps the machine ran out of memory"
        fix = "`nifbuild inspect SPEC --batch-size N` predicts what so many images take"
    return RunError(Problem(f"process {rank} was ended by {name}{hint}", fix=fix, code="process"))


def require_processes(processes: int | None) -> None:
    """Raises SpecError where another launcher has started another number of processes."""
    started = world_size()
    if processes is not None and processes != started:
        raise SpecError(
            f"--processes {processes}, but a launcher has started {started}",
            fix="leave --processes to the launcher",
        )


@contextmanager
def reporting_failure(
    *, watch_seconds: float = 0.5, saving_seconds: float = _SAVING_SECONDS
) -> Iterator[None]:
    """In a process of the launcher: writes what is raised to its file and exits quietly.

    Where the launcher ends without it, as when it is killed, the process is asked to save and stop.

    Args:
        watch_seconds: How often it looks whether the launcher is still there.
        saving_seconds: How long it may then take to save, before it is ended.
    """
    path = os.environ.get(FAILURE_VARIABLE)
    if not path:
        yield
        return
    launcher = os.environ.get(PARENT_VARIABLE, "")
    if not launcher.isdecimal():
        what = f"environment variable {FAILURE_VARIABLE} is set, and {PARENT_VARIABLE} is no number"
        raise SpecError(Problem(what, fix="unset it", code="launcher"))
    watch = (int(launcher), watch_seconds, saving_seconds)
    threading.Thread(target=_end_with, args=watch, daemon=True).start()
    try:
        yield
    except NifbuildError as error:
        _write_failure(path, error.problems, error.exit_code)
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:
        problem = Problem("interrupted", code="interrupted")
        _write_failure(path, [problem], 128 + signal.SIGINT)
        raise SystemExit(128 + signal.SIGINT) from None
    except Exception:
        _write_failure(path, None, 1)
        raise SystemExit(1) from None


def _end_with(launcher: int, watch_seconds: float, saving_seconds: float) -> None:
    """Sends this process SIGTERM once the launcher has gone; one that cannot heed it is ended.

    It may wait for another process that is no longer there, or that was never started.
    """
    while os.getppid() == launcher:
        time.sleep(watch_seconds)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(saving_seconds)
    os._exit(128 + signal.SIGTERM)


def _write_failure(path: str, problems: Sequence[Problem] | None, exit_code: int) -> None:
    document: dict[str, Any] = {
        "time": time.time(),
        "exit_code": exit_code,
        "problems": None,
        "traceback": traceback.format_exc(),
    }
    if problems is not None:
        document["problems"] = [asdict(problem) for problem in problems]
    try:
        write_atomically(Path(path), json.dumps(document).encode())
    except OSError:  # the full disk that is to be told of may be that of temporary files, too
        sys.stderr.write("\n".join(map(str, problems or (document["traceback"],))) + "\n")
