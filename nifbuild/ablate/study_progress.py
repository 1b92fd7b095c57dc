"""What people see while a study runs: on stderr, so that stdout stays for results."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.text import Text

from nifbuild.ablate.cells import Task
from nifbuild.ablate.process import Outcome
from nifbuild.errors import shown
from nifbuild.machine.terminal import Console, Table
from nifbuild.report.show.units import duration_text, percent_text

_SHOWN = 12
_WHOLE = ("done", "pruned")
"""How an attempt ends that has taken as long as it takes."""


class Progress:
    """Hears what happens to cells. This one says nothing."""

    def begin(self, total: int, done: int, workers: int | None = None) -> None:
        """So many cells, of which so many were done before; so many run at once, where known."""

    def started(self, task: Task) -> None:
        """A cell is run from now on."""

    def ended(self, task: Task, outcome: Outcome) -> None:
        """An attempt ended."""

    def show(self, running: Sequence[Task]) -> None:
        """A moment has passed, and these cells run."""

    def close(self) -> None:
        """Nothing more comes."""


class TimeLeft:
    """How long the cells that are left take, judged by those that this run has done.

    Args:
        left: Cells that are not done.
        workers: Of them, so many run at once; None: nobody knows, and nothing can be said.
    """

    def __init__(self, left: int, workers: int | None) -> None:
        self._left, self._workers = left, workers
        self._started: dict[Path, float] = {}
        self._seconds: list[float] = []

    def started(self, task: Task) -> None:
        """A cell is run from now on."""
        self._started[task.directory.path] = time.monotonic()

    def ended(self, task: Task, outcome: Outcome) -> None:
        """An attempt ended; one that failed is over, but says nothing of how long others take."""
        began = self._started.pop(task.directory.path, None)
        self._left -= outcome.state != "interrupted"
        if outcome.state in _WHOLE and began is not None:
            self._seconds.append(time.monotonic() - began)

    @property
    def seconds(self) -> float | None:
        """About so many; None before a cell is done, and where none is left."""
        if not self._seconds or self._left <= 0 or self._workers is None:
            return None
        mean, now = sum(self._seconds) / len(self._seconds), time.monotonic()
        spent = sum(min(mean, now - began) for began in self._started.values())
        return max(0.0, mean * self._left - spent) / min(self._workers, self._left)

    @property
    def text(self) -> str:
        """`about 4 min 05 s left`, or nothing."""
        return "" if self.seconds is None else f"about {duration_text(self.seconds)} left"


class _Lines(Progress):
    """A line for each cell that has ended: for logs."""

    def begin(self, total: int, done: int, workers: int | None = None) -> None:
        self._total, self._ended = total, done
        self._time = TimeLeft(total - done, workers)
        if done:
            print(f"{done} of {total} cells are done already", file=sys.stderr, flush=True)  # noqa: T201

    def started(self, task: Task) -> None:
        self._time.started(task)

    def ended(self, task: Task, outcome: Outcome) -> None:
        self._ended += outcome.state in _WHOLE
        self._time.ended(task, outcome)
        text = f"{self._ended}/{self._total} {task.cell.name}: {outcome_text(task, outcome)}"
        text += f" ({self._time.text})" if self._time.text else ""
        print(shown(text), file=sys.stderr, flush=True)  # noqa: T201


class _Screen(Progress):
    """A bar for the study and a line for each cell that runs: for terminals."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._failed = 0

    def begin(self, total: int, done: int, workers: int | None = None) -> None:
        self._total, self._ended = total, done
        self._time = TimeLeft(total - done, workers)
        self._live.start()

    def started(self, task: Task) -> None:
        self._time.started(task)

    def ended(self, task: Task, outcome: Outcome) -> None:
        self._ended += outcome.state in _WHOLE
        self._time.ended(task, outcome)
        self._failed += outcome.state == "failed"
        line = Text(f"{task.cell.name}: ")
        style = {"done": "", "failed": "red"}.get(outcome.state, "dim")
        line.append(outcome_text(task, outcome), style=style)
        self._console.print(line)

    def show(self, running: Sequence[Task]) -> None:
        head = Table.grid(padding=(0, 1), expand=True)
        head.add_column(no_wrap=True)
        head.add_column(ratio=1)
        failed = f", {self._failed} failed" if self._failed else ""
        text = f"{self._ended} of {self._total} cells done{failed}"
        text += f", {self._time.text}" if self._time.text else ""
        head.add_row(text, ProgressBar(total=max(1, self._total), completed=self._ended))
        lines = [Text(f"  {_where(task)}", "dim", no_wrap=True) for task in running[:_SHOWN]]
        if len(running) > _SHOWN:
            lines.append(Text(f"  and {len(running) - _SHOWN} more", "dim"))
        for line in lines:
            line.truncate(self._console.width, overflow="ellipsis")
        self._live.update(Group(head, *lines), refresh=True)

    def close(self) -> None:
        self._live.stop()


def _where(task: Task) -> str:
    epochs = task.cell.variant.resolved.spec.train.epochs
    epoch = min(task.directory.epochs_done() + 1, epochs)
    return f"{task.cell.name}: epoch {epoch}/{epochs}"


def outcome_text(task: Task, outcome: Outcome) -> str:
    """`top-1 97.21%`, or what went wrong and where to read more."""
    if outcome.state in _WHOLE and outcome.reason:  # a search says what it has judged by
        return outcome.reason
    result = task.directory.result()
    if outcome.state == "done" and result is not None:
        return f"top-1 {percent_text(result['top1'])}"
    if outcome.state == "failed":
        reason = outcome.reason.splitlines()[0] if outcome.reason else "unknown reason"
        return f"failed: {reason} ({task.directory.log})"
    return "interrupted, to be continued"


def progress_on_stderr(quiet: bool, console: Console | None = None) -> Progress:
    """The form of progress that suits where stderr goes; a `console` takes its place."""
    if quiet:
        return Progress()
    console = console or Console(stderr=True)
    return _Screen(console) if console.is_terminal else _Lines()
