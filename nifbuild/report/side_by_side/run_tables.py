"""Runs as tables for people."""

import json
import os
from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.padding import Padding
from rich.text import Text

from nifbuild.machine.terminal import Console
from nifbuild.report.show.tables import NARROW, framed_table, legend, open_table
from nifbuild.report.show.units import count_text, duration_text, percent_text
from nifbuild.report.side_by_side.recorded import OPS, RAN_ON, Recorded, SideBySide

_NONE = "-"
_SETTINGS_WIDTH = 40
"""Of the column of settings, in letters; where there is less room they are told below."""


def labels(runs: Sequence[Recorded]) -> list[str]:
    """What tells runs apart: their directories, without what all of them begin with, or end in."""
    paths = [run.path.absolute() for run in runs]
    if len(paths) > 1 and len({path.name for path in paths}) == 1:
        paths = [path.parent for path in paths]  # such as `run` in each cell of a study
    shared = os.path.commonpath([path.parent for path in paths])
    return [str(path.relative_to(shared)) for path in paths]


def value_text(value: Any) -> str:
    """A setting as YAML has it; nothing where a run has none."""
    if value is None:
        return _NONE
    return value if isinstance(value, str) else json.dumps(value).replace('"', "")


def figure_rows(runs: Sequence[Recorded]) -> list[tuple[str, list[str]]]:
    """What runs have reached: a name, and a text for each of them."""
    figures = [run.figures for run in runs]
    last = [run.epochs[-1] if run.epochs else {} for run in runs]
    splits = {each["split"] for each in figures if each["split"]}
    on = f" on {splits.pop()}" if len(splits) == 1 else ""
    params: list[int | None] = [
        None if run.result is None else run.result.get("params") for run in runs
    ]
    rows: list[tuple[str, list[str]]] = [
        ("epochs", [_epochs(run) for run in runs]),
        (f"top-1{on}", [_percent(each["top1"]) for each in figures]),
        (f"loss{on}", [_loss(each["loss"]) for each in figures]),
        ("weights of epoch", [_figures_epoch(run) for run in runs]),
        ("top-1 in training, last epoch", [_percent(line.get("train_top1")) for line in last]),
        ("loss in training, last epoch", [_loss(line.get("train_loss")) for line in last]),
        ("parameters", [_NONE if n is None else count_text(n) for n in params]),
        ("time", [_NONE if run.seconds is None else duration_text(run.seconds) for run in runs]),
    ]
    if any("miou" in each for each in figures):
        rows.insert(2, (f"mean IoU{on}", [_percent(each.get("miou")) for each in figures]))
    if not on and splits:
        rows.insert(2, ("split", [str(each["split"] or _NONE) for each in figures]))
    return rows


def difference_rows(made: SideBySide) -> list[tuple[str, list[str]]]:
    """In what runs differ: a name, and a text for each of them."""
    return [(key, list(map(value_text, values))) for key, values in made.differences.items()]


def print_runs(made: SideBySide) -> None:
    """A line for each run, with the settings in which it differs from others."""
    console = Console()
    rows = {name.split(" on ")[0]: cells for name, cells in figure_rows(made.runs)}
    wanted = ("epochs", "split", "top-1", "mean IoU", "loss", "parameters", "time")
    shown = {name: rows[name] for name in wanted if name in rows}
    if console.width < NARROW and "split" in shown:
        del shown["time"]  # lest nothing is left for names
    headings = ["run", *shown]
    names, (settings, usual) = labels(made.runs), told_by_run(made)
    lines = [", ".join(told) for told in settings]
    gap = 2 if console.width >= NARROW else 1
    table = open_table("", headings, folded=(0,), gap=gap)
    for row in zip(names, *shown.values(), strict=True):
        table.add_row(*row)
    is_beside = console.width - console.measure(table).maximum >= _SETTINGS_WIDTH
    if any(lines) and is_beside:
        table = open_table("", [*headings, "what differs"], folded=(0, len(headings)), gap=gap)
        for row in zip(names, *shown.values(), lines, strict=True):
            table.add_row(*row)
    console.print(table)
    if any(lines) and not is_beside:
        console.print("what differs:")
        for name, line in zip(names, lines, strict=True):
            console.print(Padding(Text(f"{name}: {line}"), (0, 0, 0, 2))) if line else None
    if usual:
        console.print(legend(f"where a run says nothing else: {', '.join(usual)}"))
    damaged = [f"{run.path}: {run.problem}" for run in made.runs if run.state == "damaged"]
    if damaged:
        console.print(legend(*damaged))


def told_by_run(made: SideBySide) -> tuple[list[list[str]], list[str]]:
    """For each run the settings in which it differs from most, and those that most have."""
    told: list[list[str]] = [[] for _ in made.runs]
    usual = []
    readable = [place for place, run in enumerate(made.runs) if run.state != "damaged"]
    for key, values in made.differences.items():
        texts = [None if value is None else _setting(key, value) for value in values]
        text, count = Counter(texts[place] for place in readable).most_common(1)[0]
        most = text if 2 * count > len(readable) else None
        others = [p for p in readable if texts[p] not in (None, most)]
        for place in others:
            told[place].append(texts[place] or "")
        if others and most:
            usual.append(most)
    return told, usual


def _setting(key: str, value: Any) -> str:
    if key.startswith(OPS):
        return f"{value} {key.removeprefix(OPS)}"
    name = key.removeprefix("train.").removeprefix(RAN_ON)  # most begin so: else lines would break
    return f"{name}={value_text(value)}"


def print_comparison(made: SideBySide) -> None:
    """A column for each run: figures, then the settings in which they differ."""
    console = Console()
    for title, rows in (
        ("", figure_rows(made.runs)),
        ("What differs" if made.differences else "", difference_rows(made)),
    ):
        if rows:
            table = framed_table(title, ["", *labels(made.runs)])
            for name, cells in rows:
                table.add_row(name, *cells)
            console.print(table)
    if not made.differences and sum(run.state != "damaged" for run in made.runs) > 1:
        console.print("their specs are the same, written out")
    for run in made.runs:
        if run.state == "damaged":
            console.print(f"{run.path}: {run.problem}")


def _figures_epoch(run: Recorded) -> str:
    """Of the weights that the figures are of: those that validation chose, or the last."""
    found = run.figures["epoch"]
    return _NONE if found is None else str(found)


def _epochs(run: Recorded) -> str:
    if run.state == "damaged":
        return "damaged"
    asked = run.settings.get("train.epochs")
    if run.state == "complete":
        return str(run.num_epochs) if run.num_epochs else _NONE
    return f"{run.num_epochs}/{asked} {'...' if run.state == 'running' else 'stopped'}"


def _percent(share: float | None) -> str:
    return _NONE if share is None else percent_text(share)


def _loss(loss: float | None) -> str:
    return _NONE if loss is None else f"{loss:.4f}" if loss < 1e4 else f"{loss:.1e}"
