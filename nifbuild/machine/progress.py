"""What people see while a run goes on: on stderr, so that stdout stays for results."""

import sys
import time
from collections.abc import Callable
from typing import Any

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column

from nifbuild.errors import shown
from nifbuild.machine.terminal import Console


class Reporter:
    """Hears what a run does. This one says nothing; others override what they show."""

    def loading(self, done: int, total: int) -> None:
        """So many images of so many are decoded."""

    def opening(self, text: str) -> None:
        """What is about to be trained, and on what: some lines."""

    def begin(self, epochs: int, steps_per_epoch: int, step: int) -> None:
        """Training starts, after `step` steps that were done before."""

    def step(
        self, step: int, loss: float, images_per_second: float, memory: Callable[[], int]
    ) -> None:
        """A step is done; `memory` gives the peak on the device in bytes, 0 where unknown."""

    def evaluating(self, split: str, num_batches: int) -> None:
        """An evaluation starts."""

    def batch(self) -> None:
        """A batch was evaluated."""

    def epoch(self, line: dict[str, Any]) -> None:
        """An epoch is done; the line is that of `metrics.jsonl`."""

    def note(self, text: str) -> None:
        """Something worth a line."""

    def warning(self, text: str) -> None:
        """Something that people must know, even where they want no progress."""

    def close(self) -> None:
        """Nothing more comes."""


class _Warnings(Reporter):
    """Nothing but warnings."""

    def warning(self, text: str) -> None:
        print(shown(f"warning: {text}", lines=True), file=sys.stderr, flush=True)  # noqa: T201


class _Lines(_Warnings):
    """One line for each epoch: for logs."""

    def opening(self, text: str) -> None:
        self._print(text)

    def begin(self, epochs: int, steps_per_epoch: int, step: int) -> None:
        self._epochs = epochs

    def epoch(self, line: dict[str, Any]) -> None:
        self._print(epoch_text(line, self._epochs))

    def note(self, text: str) -> None:
        self._print(text)

    def _print(self, text: str) -> None:
        print(shown(text, lines=True), file=sys.stderr, flush=True)  # noqa: T201


def _column(text: str, style: str = "none") -> TextColumn:
    return TextColumn(text, style=style, markup=False, table_column=Column(no_wrap=True))


class _Live(Reporter):
    """A bar for the whole run, with a line above it for each epoch: for terminals."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = Progress(
            _column("{task.fields[where]}"),
            _column("{task.fields[part]}", "dim"),
            BarColumn(bar_width=None),
            _column("{task.percentage:>3.0f}%"),
            _column("{task.fields[facts]}"),
            _column("left", "dim"),
            TimeRemainingColumn(compact=True),
            console=self._console,
            expand=True,
        )
        self._top1: float | None = None
        self._loading: TaskID | None = None
        self._evaluation: TaskID | None = None
        self._shown_at = 0.0

    def loading(self, done: int, total: int) -> None:
        if self._loading is None:
            self._bar.start()
            self._loading = self._bar.add_task("", where="decoding images", part="", facts="")
        facts = f"{done:,} of {total:,}"
        self._bar.update(self._loading, completed=done, total=total, facts=facts)

    def begin(self, epochs: int, steps_per_epoch: int, step: int) -> None:
        if self._loading is not None:
            self._bar.remove_task(self._loading)
        self._epochs, self._steps_per_epoch = epochs, steps_per_epoch
        total = epochs * steps_per_epoch
        self._task = self._bar.add_task(
            "", total=total, completed=step, where="", part="", facts=""
        )
        self._bar.start()
        self._place(step)

    def opening(self, text: str) -> None:
        self._console.print(text)

    def _place(self, step: int) -> None:
        # After its last step, an epoch is still the current one while it is evaluated.
        epoch = min(-(-max(step, 1) // self._steps_per_epoch), self._epochs)
        within = step - (epoch - 1) * self._steps_per_epoch
        where = f"epoch {epoch}/{self._epochs}"
        part = f"step {within}/{self._steps_per_epoch}"
        self._bar.update(self._task, completed=step, where=where, part=part)

    def step(
        self, step: int, loss: float, images_per_second: float, memory: Callable[[], int]
    ) -> None:
        now = time.monotonic()
        if now - self._shown_at < 0.1:  # the terminal is not refreshed more often
            return
        self._shown_at = now
        self._place(step)
        facts = [f"loss {loss:.3f}"]
        if self._top1 is not None:
            facts.append(f"top-1 {self._top1:.1%}")
        facts.append(f"{images_per_second:,.0f} img/s")
        if peak := memory():
            facts.append(f"{peak / 2**30:.1f} GiB")
        self._bar.update(self._task, facts="  ".join(facts))

    def evaluating(self, split: str, num_batches: int) -> None:
        self._bar.start()
        self._evaluation = self._bar.add_task(
            "", total=num_batches, where="evaluating", part=split, facts=""
        )

    def batch(self) -> None:
        if self._evaluation is not None:
            self._bar.advance(self._evaluation)
            if self._bar.tasks[-1].finished:
                self._bar.remove_task(self._evaluation)
                self._evaluation = None

    def epoch(self, line: dict[str, Any]) -> None:
        self._top1 = line.get("top1", self._top1)
        self._place(line["step"])
        self._console.print(epoch_text(line, self._epochs))

    def note(self, text: str) -> None:
        self._console.print(text)

    def warning(self, text: str) -> None:
        self._console.print(f"warning: {text}")

    def close(self) -> None:
        self._bar.stop()


def epoch_text(line: dict[str, Any], epochs: int) -> str:
    """An epoch's line of `metrics.jsonl` for people: accuracies, and losses in brackets."""
    parts = [f"epoch {line['epoch']}/{epochs}"]
    loss, top1 = f"loss {line['train_loss']:.3f}", line["train_top1"]
    parts.append(loss if top1 is None else f"train {top1:.1%} ({loss})")
    if "top1" in line:
        best = ", best" if line["best"] else ""
        iou = f", mIoU {line['miou']:.2%}" if "miou" in line else ""
        parts.append(f"{line['split']} {line['top1']:.2%}{iou} ({line['loss']:.3f}{best})")
    parts.append(f"{line['train_images_per_second']:,.0f} img/s")
    return "  ".join(parts)


def reporter(quiet: bool, console: Console | None = None) -> Reporter:
    """The form of report that suits where stderr goes; `quiet` leaves out all but warnings.

    A `console` takes the place of stderr.
    """
    if quiet:
        return _Warnings()
    console = console or Console(stderr=True)
    return _Live(console) if console.is_terminal else _Lines()
