"""Runs as tables for people."""

import json
import os
from collections.abc import Sequence
from typing import Any

from nifbuild.machine.terminal import Console
from nifbuild.report.show.tables import NARROW, framed_table, legend, open_table
from nifbuild.report.show.units import count_text, duration_text, percent_text
from nifbuild.report.side_by_side.recorded import OPS, Recorded, SideBySide

_NONE = "-"


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
        ("top-1 in training", [_percent(line.get("train_top1")) for line in last]),
        ("loss in training", [_loss(line.get("train_loss")) for line in last]),
        ("parameters", [_NONE if n is None else count_text(n) for n in params]),
        ("time", [_NONE if run.seconds is None else duration_text(run.seconds) for run in runs]),
    ]
    if any("miou" in each for each in figures):
        rows.insert(2, (f"mean IoU{on}", [_percent(each.get("miou")) for each in figures]))
    if not on and splits:
        rows.insert(2, ("split", [str(each["split"] or _NONE) for each in figures]))
    return rows


def difference_rows(made: SideBySide) -> list[tuple[str, list[str]]]:
    """The settings in which runs differ: a name, and a text for each run."""
    return [(key, list(map(value_text, values))) for key, values in made.differences.items()]


def print_runs(made: SideBySide) -> None:
    """A line for each run, with the settings in which it differs from others."""
    console = Console()
    rows = {name.split(" on ")[0]: cells for name, cells in figure_rows(made.runs)}
    names = ("epochs", "top-1", "mean IoU", "loss", "parameters", "time")
    shown = {name: rows[name] for name in names if name in rows}
    headings = ["run", *shown]
    short = _short_keys(list(made.differences))
    last = len(headings) if short else 0
    table = open_table(
        "",
        [*headings, "what differs"] if short else headings,
        folded=(0, last),
        gap=2 if console.width >= NARROW else 1,
    )
    for place, label in enumerate(labels(made.runs)):
        settings = [
            _setting(key, name, values[place])
            for (key, name), values in zip(short.items(), made.differences.values(), strict=True)
            if values[place] is not None
        ]
        cells = [texts[place] for texts in shown.values()]
        table.add_row(label, *cells, *([", ".join(settings)] if short else []))
    console.print(table)
    damaged = [f"{run.path}: {run.problem}" for run in made.runs if run.state == "damaged"]
    if damaged:
        console.print(legend(*damaged))


def _setting(key: str, name: str, value: Any) -> str:
    return f"{value} {name}" if key.startswith(OPS) else f"{name}={value_text(value)}"


def _short_keys(keys: Sequence[str]) -> dict[str, str]:
    """The last words of each key that no other one ends in."""
    found = {}
    for key in keys:
        words = key.removeprefix(OPS).split(".")
        ends = [".".join(words[-n:]) for n in range(1, len(words) + 1)]
        others = [other for other in keys if other != key]
        found[key] = next(
            (end for end in ends if not any(o == end or o.endswith(f".{end}") for o in others)), key
        )
    return found


def print_comparison(made: SideBySide) -> None:
    """A column for each run: figures, then the settings in which they differ."""
    console = Console()
    for title, rows in (
        ("", figure_rows(made.runs)),
        ("Settings that differ" if made.differences else "", difference_rows(made)),
    ):
        if rows:
            table = framed_table(title, ["", *labels(made.runs)])
            for name, cells in rows:
                table.add_row(name, *cells)
            console.print(table)
    if not made.differences and len(made.runs) > 1:
        console.print("their specs are the same, written out")
    for run in made.runs:
        if run.state == "damaged":
            console.print(f"{run.path}: {run.problem}")


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
    return _NONE if loss is None else f"{loss:.4f}"
