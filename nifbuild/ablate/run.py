"""Runs the cells of a study that are not done yet."""

import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Protocol

from nifbuild.ablate.cells import UNKNOWN, Cell, CellDirectory, Origin, Store, Task, cells_of
from nifbuild.ablate.collect import set_damaged_aside
from nifbuild.ablate.forms import Document
from nifbuild.ablate.local import LocalEngine
from nifbuild.ablate.origins import origins
from nifbuild.ablate.process import Outcome
from nifbuild.ablate.study_progress import Progress
from nifbuild.errors import InterruptedRun, Problem, SpecError
from nifbuild.machine.launch import stop_signals
from nifbuild.runs.lock import is_locked
from nifbuild.spec.study import Study

_POLL_SECONDS = 0.2


class Engine(Protocol):
    """What runs cells."""

    @property
    def free(self) -> bool:
        """Whether another cell can be started."""

    @property
    def workers(self) -> int | None:
        """Cells at once; None: as many as there is room for, which nobody knows."""

    @property
    def running(self) -> list[CellDirectory]:
        """The cells that have been started and have not ended."""

    def start(self, cell: CellDirectory) -> None:
        """Starts a cell."""

    def ended(self, seconds: float) -> list[tuple[CellDirectory, Outcome]]:
        """Waits up to so long until a cell has ended; all that have, and how."""

    def stop(self) -> None:
        """Asks all cells to save a checkpoint and end."""

    def close(self) -> None:
        """Ends what still runs, at once."""


def chosen_engine(
    name: str,
    workers: int | None = None,
    *,
    address: str | None = None,
    cpus: float | None = None,
    gpus: float | None = None,
    timeout: float | None = None,
) -> Callable[[], Engine]:
    """Checks the options of `nifbuild ablate run`; what it returns starts the engine.

    Args:
        name: `local` or `ray`.
        workers: Cells at once, on this machine; None: one.
        address: Of a Ray cluster.
        cpus: Of each cell, with Ray; None: one.
        gpus: Of each cell, with Ray; None: none.
        timeout: Seconds that an attempt may take; None: any.

    Raises:
        SpecError: An option is one of the other engine's.
    """
    of_local = {"--workers": workers}
    of_ray = {"--address": address, "--cpus-per-cell": cpus, "--gpus-per-cell": gpus}
    other, foreign = ("local", of_local) if name == "ray" else ("ray", of_ray)
    for option, value in foreign.items():
        if value is not None:
            raise SpecError(
                f"{option} has no meaning with --engine {name}",
                fix=f"leave it out, or use --engine {other}",
            )

    def start() -> Engine:
        if name == "ray":
            from nifbuild.ablate.on_ray import RayEngine

            return RayEngine(address, cpus=cpus or 1, gpus=gpus or 0, timeout=timeout)
        return LocalEngine(workers or 1, timeout)

    return start


@dataclass
class Summary:
    """What a run of a study came to.

    Attributes:
        done: Cells that are done now.
        found: Those of them that were done before.
        failed: The others, and why.
        damaged: Cells that were run again as their figures were damaged, and how.
    """

    done: list[Task] = field(default_factory=list)
    found: list[Task] = field(default_factory=list)
    failed: list[tuple[Task, str]] = field(default_factory=list)
    damaged: list[tuple[Task, str]] = field(default_factory=list)

    def lines(self) -> list[str]:
        """For people: how many, and where to look."""
        lines = [f"{len(self.done)} cells done, {len(self.found)} of them before"]
        lines += [f"damaged, and run again: {task.cell.name}: {how}" for task, how in self.damaged]
        for task, reason in self.failed:
            lines += [*failure_lines(task.cell.name, reason), f"  log: {task.directory.log}"]
        return lines

    def document(self, directory: str) -> Document:
        """As plain data."""
        return {
            "directory": directory,
            "done": [task.cell.name for task in self.done],
            "found": [task.cell.name for task in self.found],
            "failed": [
                {"cell": task.cell.name, "reason": reason, "log": str(task.directory.log)}
                for task, reason in self.failed
            ],
            "damaged": [{"cell": task.cell.name, "reason": how} for task, how in self.damaged],
        }


def failure_lines(name: str, reason: str) -> list[str]:
    """What failed and why; each remedy is a line of its own, as in the message of an error."""
    first, *remedies = reason.splitlines() or ["unknown reason"]
    return [f"failed: {name}: {first}", *remedies]


def choose_shard(cells: Sequence[Cell], shard: tuple[int, int]) -> list[Cell]:
    """The cells of one of several machines: every n-th by the hash of the spec.

    Args:
        cells: All of them.
        shard: Number of the shard, from 1, and number of shards.
    """
    number, count = shard
    # Of cells with the same spec only one is run; they are in one shard.
    hashes = sorted({cell.spec_hash for cell in cells})
    mine = set(hashes[number - 1 :: count])
    return [cell for cell in cells if cell.spec_hash in mine]


def prepare(
    study: Study,
    store: Store,
    shard: tuple[int, int] = (1, 1),
    known: Mapping[str, Origin] | None = None,
) -> list[Task]:
    """Opens the data, checks every cell against it, and writes down what each cell is.

    Args:
        study: Which.
        store: Where its cells lie.
        shard: See `choose_shard`.
        known: What `collect` found of the data, which is not opened again where it was at hand.

    Raises:
        SpecError: A spec does not suit its data.
        RunError: The data is broken, or the directory cannot be written.
    """
    found = known or {}
    if not found or any(UNKNOWN in (origin.data, origin.init) for origin in found.values()):
        found = origins(study, fetch=True)
    tasks: dict[str, Task] = {}
    for cell in choose_shard(cells_of(study), shard):
        origin = found[cell.variant.name]
        key = origin.key(cell.spec_hash)
        if key not in tasks:
            tasks[key] = Task(cell, store.cell(key))
            tasks[key].directory.describe(cell, origin)
    return list(tasks.values())


def run_tasks(tasks: Sequence[Task], engine: Engine, progress: Progress) -> Summary:
    """Runs what is not done; several processes may do so with the same cells at once.

    A cell that failed before is tried again, once, and one whose figures are damaged is run again.
    One that another process runs is left to it, and waited for.

    Raises:
        RunError: A cell's file may not be read.
        InterruptedRun: A signal stopped it, after all cells had saved a checkpoint.
    """
    summary = Summary()
    for task in tasks:
        if not is_locked(task.directory.path) and (how := set_damaged_aside(task.directory)):
            summary.damaged.append((task, how))
    # Not by time: clocks of several machines differ.
    failures = {task.directory.path: task.directory.failure() for task in tasks}
    summary.found = [task for task in tasks if task.directory.result() is not None]
    waiting = [task for task in tasks if task not in summary.found]
    by_path = {task.directory.path: task for task in tasks}
    progress.begin(len(tasks), len(summary.found), engine.workers)
    try:
        with stop_requests() as received:
            while waiting or engine.running:
                if received and waiting:
                    waiting = []
                    engine.stop()
                waiting = _start(waiting, engine, failures, summary, progress)
                if received:
                    engine.stop()
                for directory, outcome in engine.ended(_POLL_SECONDS):
                    task = by_path[directory.path]
                    if outcome.state == "busy":
                        waiting.append(task)
                    else:
                        _note(task, outcome, summary, progress)
                progress.show([by_path[cell.path] for cell in engine.running])
            if received:
                raise InterruptedRun(interruption(received[0]), received[0])
    finally:
        engine.close()
        progress.close()
    summary.done = [task for task in tasks if task.directory.result() is not None]
    return summary


def _start(
    waiting: list[Task],
    engine: Engine,
    before: Mapping[Path, Document | None],
    summary: Summary,
    progress: Progress,
) -> list[Task]:
    """Starts what can be started, but for what failed since `before`; those that are left."""
    left = []
    for task in waiting:
        directory = task.directory
        if directory.result() is not None:  # by another process
            _note(task, Outcome("done"), summary, progress)
        elif (failure := directory.failure()) and failure != before[directory.path]:
            _note(task, Outcome("failed", failure["reason"]), summary, progress)
        elif engine.free and not is_locked(directory.path):
            engine.start(directory)
            progress.started(task)
        else:
            left.append(task)
    if left and not engine.running:
        time.sleep(_POLL_SECONDS)  # others run them
    return left


def _note(task: Task, outcome: Outcome, summary: Summary, progress: Progress) -> None:
    if outcome.state == "failed":
        summary.failed.append((task, outcome.reason))
    progress.ended(task, outcome)


@contextmanager
def stop_requests() -> Iterator[list[int]]:
    """Collects the signals that ask to stop; a second Ctrl-C ends the process at once."""
    received: list[int] = []

    def receive(number: int, frame: FrameType | None) -> None:
        received.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    previous = {number: signal.signal(number, receive) for number in stop_signals()}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def interruptions_told() -> Iterator[None]:
    """While entered, Ctrl-C is told as a signal is; before anything runs, nothing else hears it.

    Raises:
        InterruptedRun: In place of KeyboardInterrupt.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise InterruptedRun(interruption(signal.SIGINT), signal.SIGINT) from None


def interruption(number: int) -> Problem:
    """What to say of a signal that stopped a study."""
    name = signal.Signals(number).name
    fix = "the same command goes on where it stopped"
    return Problem(f"interrupted by {name}", fix=fix, code="interrupted")


def parse_shard(text: str) -> tuple[int, int]:
    """`2/8` as numbers.

    Raises:
        SpecError: It is no shard.
    """
    number, slash, count = text.partition("/")
    if slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count):
        return int(number), int(count)
    fix = "write --shard 1/4 on the first of four machines, and 4/4 on the last"
    raise SpecError(Problem(f"'{text}' is no shard", path="--shard", fix=fix, code="usage"))
