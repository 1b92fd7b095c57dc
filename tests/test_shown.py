"""Names from outside are shown as they are, and obeyed by nobody."""

import csv
import io
import os
import re
from xml.etree import ElementTree

import pytest

from nifbuild.cli.output import as_annotation
from nifbuild.errors import Mark, Problem, RunError, shown
from nifbuild.evaluate.predict import Prediction
from nifbuild.machine.progress import reporter
from nifbuild.machine.terminal import Console
from nifbuild.report.drawing.picture import Picture, Text
from nifbuild.report.drawing.render import svg
from nifbuild.report.predictions import print_predictions, save_predictions
from nifbuild.report.show.markdown import markdown
from nifbuild.report.show.tables import Grid, print_grids
from nifbuild.report.summary import print_summary

HOSTILE = "[red]x[/y] :boom: \x1b[31m\x07\x9b1m\r\n::error::\u202e" + os.fsdecode(b"\xff")
SHOWN = r"[red]x[/y] :boom: \x1b[31m\x07\x9b1m\r\n::error::\u202e\xff"
OBEYED = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\ud800-\udfff]")


def test_such_characters_are_written_as_in_python():
    assert shown(HOSTILE) == SHOWN
    assert shown("a\n\tb\r", lines=True) == "a\n\tb\\r"
    for name in ("größe 10 µm", "猫", "👩‍💻", "a\\nb", "50 % [x] {y} <z> & 'w' \"v\""):
        assert shown(name) == name


def summary(name):
    figures = {"top1": 0.5, "top5": 0.9, "loss": 1.0, "calibration_error": 0.1, "num_samples": 4}
    rest = {"name": "n", "split": "test", "images_per_second": 3.0, "selected": "best"}
    classes = [{"name": name, "accuracy": 0.5, "num_samples": 4}]
    return figures | rest | {"per_class": classes, "checkpoint": name, "directory": name}


def predictions(name):
    failed = Prediction(name, [], name)
    return [Prediction(name, [(name, 0.5)], ""), failed]


PRINTED = {
    "summary": lambda: print_summary(summary(HOSTILE)),
    "predictions": lambda: print_predictions(predictions(HOSTILE)),
    "grid": lambda: print_grids([Grid("", ("a",), 1, ((HOSTILE,),))]),
    "warning": lambda: reporter(quiet=True).warning(HOSTILE),
    "note": lambda: reporter(quiet=False).note(HOSTILE),
}


@pytest.mark.parametrize("name", PRINTED)
def test_in_tables_and_progress(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    PRINTED[name]()
    said = "".join(capsys.readouterr())
    assert not OBEYED.search(said)
    assert SHOWN.partition(r"\n")[0] in said
    if name not in ("warning", "note"):  # in which lines of their own are allowed
        assert SHOWN in said


def test_on_a_terminal(monkeypatch):
    """The only escape sequences are those of the console itself."""
    monkeypatch.setenv("TERM", "xterm-256color")
    screen = io.StringIO()
    monkeypatch.setattr("sys.stderr", screen)
    screen.isatty = lambda: True
    live = reporter(quiet=False)
    live.loading(1, 2)
    live.begin(1, 10, 0)
    live.evaluating(HOSTILE, 2)
    live.note(HOSTILE)
    live.close()
    said = screen.getvalue()
    assert "\x1b[" in said and "\x07" not in said
    assert r"[red]x[/y] :boom: \x1b[31m\x07\x9b1m\r" in said and r"\xff" in said
    Console(stderr=True).print(HOSTILE)


def test_in_errors():
    problem = Problem(HOSTILE, Mark(HOSTILE, 1, 2), HOSTILE, fix=HOSTILE)
    text = str(RunError(problem))
    head, *fix = text.split("\n")
    assert head == f"{SHOWN}:1:2: {SHOWN}: {SHOWN}"
    assert not OBEYED.search(text) and all(line.startswith("  ") for line in fix)
    annotation = as_annotation(problem)
    assert "\n" not in annotation and not OBEYED.search(annotation)


def test_in_csv_files(tmp_path):
    save_predictions(predictions(HOSTILE), tmp_path / "a.csv")
    text = (tmp_path / "a.csv").read_text(encoding="utf-8")
    assert not OBEYED.search(text)
    first, second = list(csv.reader(io.StringIO(text)))[1:]
    name = SHOWN.replace(r"\n", "\n")
    assert first == [name, name, "0.5", ""] and second == [name, "", "", name]


def test_in_markdown_and_drawings():
    name = HOSTILE + "|`</b>[x](http://y)"
    rows = markdown([Grid(name, (name,), 1, ((name,),))]).splitlines()
    assert len(rows) == 5 and not OBEYED.search("".join(rows))
    cell = rows[-1].removeprefix("| ").removesuffix(" |")
    assert not re.search(r"(?<!\\)[|`]|<|\]\(", cell)
    picture = Picture(10, 10, texts=[Text(1, 1, name)])
    (text,) = ElementTree.fromstring(svg(picture)).iter("{http://www.w3.org/2000/svg}text")
    assert text.text == shown(name)
