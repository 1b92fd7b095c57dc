"""Runs the trials of a search, one after another or several at once.

With `n` workers, a trial is drawn by the results of all trials but the last `n - 1` before it,
which may still run: of those only the values are known, whether they have ended or not. So which
trials there are does not depend on which one happens to end first, and the same number of workers
gives the same trials again; the price is that a trial waits for the one `n` places before it.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nifbuild.ablate.cells import Cell, Origin, Store, Task
from nifbuild.ablate.collect import set_damaged_aside
from nifbuild.ablate.forms import Document
from nifbuild.ablate.local import LocalEngine
from nifbuild.ablate.origins import origins
from nifbuild.ablate.process import Outcome
from nifbuild.ablate.run import Summary, failure_lines, interruption, stop_requests
from nifbuild.ablate.sampler import Drawing, Known
from nifbuild.ablate.study_progress import Progress
from nifbuild.ablate.trials import (
    Drawn,
    Ended,
    ended_of_result,
    read_ended,
    read_trials,
    run_figures,
    search_of,
    write_ended,
    write_trials,
)
from nifbuild.errors import InterruptedRun, Problem, RunError, SpecError
from nifbuild.runs.lock import is_locked, locked
from nifbuild.spec.study import Study

if TYPE_CHECKING:
    from nifbuild.data import Catalog

_POLL_SECONDS = 0.2


@dataclass
class SearchSummary(Summary):
    """What a run of a search came to.

    Attributes:
        pruned: Trials that were ended early; `found` holds some of them, and `done` none.
        refused: Trials whose values do not go together, and why.
    """

    pruned: list[Task] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)

    def lines(self) -> list[str]:
        """For people: how many, and where to look."""
        ended = f"{len(self.done)} trials trained to the end, {len(self.pruned)} pruned"
        lines = [f"{ended}; {len(self.found)} of them before", *super().lines()[1:]]
        for name, reason in self.refused:
            lines += failure_lines(name, reason)
        return lines

    def document(self, directory: str) -> Document:
        """As plain data."""
        pruned = [task.cell.name for task in self.pruned]
        refused = [{"cell": name, "reason": reason} for name, reason in self.refused]
        return {**super().document(directory), "pruned": pruned, "refused": refused}


def run_search(
    study: Study, store: Store, engine: LocalEngine, progress: Progress
) -> SearchSummary:
    """Draws and runs trials until there are as many as the study asks for.

    A trial that failed before is tried again, once, and one whose figures are damaged is run again.

    Raises:
        SpecError: Optuna is not installed, or what was drawn before is of another search.
        RunError: Another process runs the search, or a file may not be read or written.
        InterruptedRun: A signal stopped it, after all trials had saved a checkpoint.
    """
    with _alone(store):
        search = _Search(study, store, engine, progress)
        try:
            with stop_requests() as received:
                while not search.is_over(stopping=bool(received)):
                    if received:
                        engine.stop()
                    else:
                        search.start()
                    search.watch()
                    search.hear()
                if received:
                    raise InterruptedRun(interruption(received[0]), received[0])
        finally:
            engine.close()
            progress.close()
        return search.summary


def require_one_machine(engine: str, shard: str | None) -> None:
    """Raises SpecError where a search is to run elsewhere, too.

    Args:
        engine: `local` or `ray`.
        shard: As `--shard` has it.
    """
    if engine == "ray":
        what = "a search runs on this machine, where it sees how trials do while they run"
        fix = "leave --engine ray out; --workers 2 runs two trials at once"
        raise SpecError(Problem(what, path="--engine", fix=fix, code="usage"))
    if shard is not None:
        what = "a search has no parts: each trial is drawn by what others came to"
        fix = "leave --shard out; --workers 2 runs two trials at once"
        raise SpecError(Problem(what, path="--shard", fix=fix, code="usage"))


@contextmanager
def _alone(store: Store) -> Iterator[None]:
    try:
        with locked(store.path):
            yield
    except OSError as error:
        what = f"cannot write to {store.path}: {error.strerror or error}"
        raise RunError(what, fix="write elsewhere with --dir") from error
    except RunError as error:
        if error.problems[0].code != "run-in-use":
            raise
        fix = "wait until it has ended, or search elsewhere with --dir"
        problem = Problem(error.problems[0].what, fix=fix, code="run-in-use")
        raise RunError(problem) from None


class _Search:
    """A search that is run."""

    def __init__(self, study: Study, store: Store, engine: LocalEngine, progress: Progress) -> None:
        self._study, self._store = study, store
        self._engine, self._progress = engine, progress
        self._search = search_of(study)
        self._corners = [study.trial(values) for values in self._search.corners]
        self._epochs = max(v.resolved.spec.train.epochs for v in self._corners)
        self._opened: dict[str, Catalog | None] = {}
        origins(study.with_variants(self._corners), fetch=True, opened=self._opened)
        self._trials = read_trials(study, store)
        self._tasks: dict[int, Task] = {}
        self._known: dict[int, Known] = {}
        self._running: dict[int, Drawing] = {}
        self.summary = SearchSummary()
        self._find()
        self._progress.begin(self._search.trials, len(self._known), engine.workers)

    def _find(self) -> None:
        """Looks up which trials have ended before."""
        for number in range(min(len(self._trials), self._search.trials)):
            task = self._task(number)
            if task is None or is_locked(task.directory.path):
                continue
            if how := set_damaged_aside(task.directory):
                self.summary.damaged.append((task, how))
            if self._settle(number, task):
                self.summary.found.append(task)

    def is_over(self, *, stopping: bool) -> bool:
        """Whether nothing more is to be done."""
        if self._engine.running:
            return False
        return stopping or len(self._known) == self._search.trials

    # Starting

    def start(self) -> None:
        """Starts the trials that may start, the first ones first."""
        while self._engine.free:
            left = (n for n in range(self._search.trials) if n not in self._known)
            number = next((n for n in left if n not in self._running), None)
            if number is None or not self._is_drawn(number):
                break
            task = self._task(number)
            if task is None:
                continue
            if self._settle(number, task):  # its values are those of an earlier trial
                self._tell(task)
                continue
            running = [cell.path for cell in self._engine.running]
            if task.directory.path in running or is_locked(task.directory.path):
                break
            self._running[number] = self._drawing(number)
            self._engine.start(task.directory)
            self._progress.started(task)
        if not self._engine.running:
            time.sleep(_POLL_SECONDS)  # what an earlier process has started is ending

    def _is_drawn(self, number: int) -> bool:
        """Whether a trial has values, or can be given some now."""
        is_new = number == len(self._trials)
        behind = max(0, number - self._engine.workers + 1)
        known = behind if is_new else self._trials[number].known
        if any(n not in self._known for n in range(known)):
            return False
        if is_new:
            drawing = Drawing(self._search, self._epochs, self._before(number, known))
            self._trials.append(Drawn(known, drawing.values))
            write_trials(self._study, self._store, self._trials)
        return True

    def _before(self, number: int, known: int) -> list[Known]:
        """The trials before one, as far as it knows them."""
        return [
            self._known[n] if n < known else Known(self._trials[n].values, "running")
            for n in range(number)
        ]

    def _drawing(self, number: int) -> Drawing:
        drawn = self._trials[number]
        before = self._before(number, drawn.known)
        return Drawing(self._search, self._epochs, before, drawn.values)

    def _task(self, number: int) -> Task | None:
        """A trial and where it lies; None, which is noted, where its values do not go together."""
        if number in self._tasks or number in self._known:
            return self._tasks.get(number)
        values = self._trials[number].values
        try:
            variant = self._study.trial(values)
            alone = self._study.with_variants([variant])
            origin = origins(alone, fetch=True, opened=self._opened)[variant.name]
        except SpecError as error:
            name = ", ".join(f"{path}={value}" for path, value in values.items())
            self.summary.refused.append((f"trial {number}, {name}", str(error)))
            self._known[number] = Known(values, "failed")
            return None
        self._tasks[number] = self._described(Cell(variant, self._study.spec.seeds[0]), origin)
        return self._tasks[number]

    def _described(self, cell: Cell, origin: Origin) -> Task:
        task = Task(cell, self._store.cell(origin.key(cell.spec_hash)))
        task.directory.describe(cell, origin)
        return task

    # Watching

    def watch(self) -> None:
        """Ends the trials that are hopeless."""
        for number, drawing in self._running.items():
            task = self._tasks[number]
            if read_ended(task.directory, self._search.metric) is None:
                figures = run_figures(task.directory, self._search.metric)
                if self._judged(number, drawing, figures) is not None:
                    self._engine.stop_cell(task.directory)

    def hear(self) -> None:
        """Waits a moment, and notes which trials have ended."""
        numbers = {self._tasks[number].directory.path: number for number in self._running}
        for directory, outcome in self._engine.ended(_POLL_SECONDS):
            number = numbers[directory.path]
            task = self._tasks[number]
            drawing = self._running.pop(number)
            if self._settle(number, task, drawing):
                self._tell(task)
            elif outcome.state == "failed":
                self._known[number] = Known(self._trials[number].values, "failed")
                self.summary.failed.append((task, outcome.reason))
                self._progress.ended(task, outcome)
            elif outcome.state == "interrupted":
                self._progress.ended(task, outcome)
        self._progress.show([self._tasks[number] for number in self._running])

    def _tell(self, task: Task) -> None:
        ended = read_ended(task.directory, self._search.metric)
        assert ended is not None  # it is settled
        self._progress.ended(task, Outcome(ended.state, ended.text(self._search.metric)))

    def _judged(self, number: int, drawing: Drawing, figures: Mapping[int, float]) -> Ended | None:
        """That a trial is pruned, once that is written down; None where it is not."""
        epoch = drawing.prunes(figures)
        if epoch is None:
            return None
        seen = {e: figure for e, figure in figures.items() if e <= epoch}
        ended = Ended("pruned", epoch, figures[epoch], seen)
        write_ended(self._tasks[number].directory, self._search.metric, ended)
        return ended

    def _settle(self, number: int, task: Task, drawing: Drawing | None = None) -> bool:
        """Whether a trial has ended; if so, what it came to is known from now on.

        What its process has done since it was looked at is judged before it counts as done, so that
        what is pruned does not depend on when that was.
        """
        metric = self._search.metric
        ended = read_ended(task.directory, metric)
        if ended is None and (result := task.directory.result()) is not None:
            if not all(n in self._known for n in range(self._trials[number].known)):
                return False  # of an earlier process: its turn comes
            figures = run_figures(task.directory, metric)
            ended = self._judged(number, drawing or self._drawing(number), figures)
            if ended is None:
                ended = ended_of_result(task.directory, result, metric, figures)
                write_ended(task.directory, metric, ended)
        if ended is None:
            return False
        values = self._trials[number].values
        self._known[number] = Known(values, ended.state, ended.value, ended.figures)
        (self.summary.pruned if ended.state == "pruned" else self.summary.done).append(task)
        return True
