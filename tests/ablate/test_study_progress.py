"""The time that a study has left, against a clock that is set by hand."""

import io
import re
import time
from pathlib import Path

import pytest
from rich.console import Console

from nifbuild.ablate.cells import Cell, CellDirectory, Task
from nifbuild.ablate.process import Outcome
from nifbuild.ablate.study_progress import TimeLeft, progress_on_stderr
from nifbuild.spec.ablation import load_study
from tests.ablate.conftest import STUDY, write_study

DONE, FAILED = Outcome("done"), Outcome("failed", "no memory")


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 1000.0

    monkeypatch.setattr(time, "monotonic", lambda: Clock.now)
    return Clock


@pytest.fixture
def tasks(tmp_path):
    study = load_study(write_study(tmp_path, STUDY.replace("[0, 1]", "[0, 1, 2]")))
    cells = [Cell(v, s) for v in study.variants for s in (0, 1, 2)]
    return [Task(c, CellDirectory(Path(tmp_path / str(i)))) for i, c in enumerate(cells)]


def test_time_left_by_hand(clock, tasks):
    left = TimeLeft(6, 2)
    left.started(tasks[0])
    left.started(tasks[1])
    clock.now += 30
    assert left.seconds is None and left.text == ""  # nothing is done that it could be judged by
    left.ended(tasks[0], DONE)
    # Five cells of 30 s, of which one has had 30 s already, two at once.
    assert left.seconds == (5 * 30 - 30) / 2
    left.started(tasks[2])
    clock.now += 20
    left.ended(tasks[1], DONE)
    # The mean of 30 s and 50 s is 40 s; four are left, one of which has had 20 s.
    assert left.seconds == (4 * 40 - 20) / 2 and left.text == "about 1 min 10 s left"
    left.ended(tasks[2], FAILED)  # it is over; how long it took says nothing of the others
    assert left.seconds == 3 * 40 / 2
    left.started(tasks[3])
    left.ended(tasks[3], Outcome("interrupted"))
    assert left.seconds == 3 * 40 / 2
    left.started(tasks[3])
    clock.now += 1000  # longer than any before: no less than nothing is left of it
    assert left.seconds == 2 * 40 / 2
    for task in tasks[3:]:
        left.ended(task, DONE)
    assert left.seconds is None and left.text == ""


def test_where_nobody_knows_how_many_run_at_once_nothing_is_said(clock, tasks):
    left = TimeLeft(2, None)
    left.started(tasks[0])
    clock.now += 5
    left.ended(tasks[0], DONE)
    assert left.seconds is None


def test_cells_that_others_have_run_say_nothing(clock, tasks):
    left = TimeLeft(2, 1)
    left.ended(tasks[0], DONE)
    assert left.seconds is None


def shown(progress, clock, tasks):
    progress.begin(6, 1, 1)
    progress.started(tasks[0])
    progress.show([tasks[0]])
    clock.now += 30
    progress.ended(tasks[0], DONE)
    progress.show([])
    progress.close()


def test_both_forms_tell_it_once_a_cell_is_done(clock, tasks, capsys):
    shown(progress_on_stderr(False), clock, tasks)
    before, line = capsys.readouterr().err.splitlines()
    assert before == "1 of 6 cells are done already"
    assert line.startswith("2/6 ") and line.endswith("(about 2 min 00 s left)")
    console = Console(file=io.StringIO(), force_terminal=True, width=160, highlight=False)
    shown(progress_on_stderr(False, console), clock, tasks)
    heads = re.findall(r"\d of 6 cells done[^━]*", console.file.getvalue())
    assert "left" not in heads[0] and "2 of 6 cells done, about 2 min 00 s left" in heads[-1]
