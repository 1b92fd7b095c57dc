"""What people see while a study runs: on stderr, so that stdout stays for results."""

import sys
from collections.abc import Sequence

from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.text import Text

from nifbuild.ablate.cells import Task
from nifbuild.ablate.process import Outcome
from nifbuild.errors import shown
from nifbuild.machine.terminal import Console, Table
from nifbuild.report.show.units import percent_text

_SHOWN = 12


class Progress:
    """Hears what happens to cells. This one says nothing."""

    def begin(self, total: int, done: int) -> None:
        """So many cells, of which so many were done before."""

    def started(self, task: Task) -> None:
        """A cell is run from now on."""

    def ended(self, task: Task, outcome: Outcome) -> None:
        """An attempt ended."""

    def show(self, running: Sequence[Task]) -> None:
        """A moment has passed, and these cells run."""

    def close(self) -> None:
        """Nothing more comes."""


class _Lines(Progress):
    """A line for each cell that has ended: for logs."""

    def begin(self, total: int, done: int) -> None:
        self._total, self._ended = total, done
        if done:
            print(f"{done} of {total} cells are done already", file=sys.stderr, flush=True)  # noqa: T201

    def ended(self, task: Task, outcome: Outcome) -> None:
        self._ended += outcome.state == "done"
        text = f"{self._ended}/{self._total} {task.cell.name}: {outcome_text(task, outcome)}"
        print(shown(text), file=sys.stderr, flush=True)  # noqa: T201


class _Screen(Progress):
    """A bar for the study and a line for each cell that runs: for terminals."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._failed = 0

    def begin(self, total: int, done: int) -> None:
        self._total, self._ended = total, done
        self._live.start()

    def ended(self, task: Task, outcome: Outcome) -> None:
        self._ended += outcome.state == "done"
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
