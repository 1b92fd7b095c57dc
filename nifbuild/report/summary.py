"""The figures of a run as a table for people."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType

from nifbuild.machine.sealed_text import is_sealed, kept
from nifbuild.machine.terminal import Console, Table
from nifbuild.report.show.tables import Grid, framed_table
from nifbuild.report.show.units import duration_text, percent_text, speed_text
from nifbuild.runs.ownership import PAGE
from nifbuild.spec.image_size import size_text
from nifbuild.spec.splits import ALL_SPLITS

_SHOWN_CLASSES = 20
"""Of more classes, the table folds to half as many."""


def print_summary(result: dict[str, Any]) -> None:
    """Prints what `train_run` or `evaluate_run` gave, on stdout."""
    Console().print(summary(result))


def print_sizes(results: Sequence[dict[str, Any]]) -> None:
    """Prints what `evaluate_at_sizes` gave, on stdout: a row for each size."""
    first = results[0]
    headings = ["size", _accuracy(first), "mean IoU", "top-5", "loss", "calibration error", "img/s"]
    if not _has_top5(first):
        headings.remove("top-5")
    if not is_per_pixel(first):
        headings.remove("mean IoU")
    table = framed_table(_title(first), headings, num_text=0)
    for result in results:
        table.add_row(
            size_text(tuple(result["size"])),
            percent_text(result["top1"]),
            *([percent_text(result["miou"])] if is_per_pixel(result) else []),
            *([percent_text(result["top5"])] if _has_top5(result) else []),
            f"{result['loss']:.4f}",
            percent_text(result["calibration_error"]),
            f"{result['images_per_second']:,.0f}",
        )
    images = f"{first['num_samples']:,} images, {first['checkpoint']} ({_kind(first)})"
    Console().print(Group(table, images, f"run: {first['directory']}"))


def summary(result: dict[str, Any]) -> RenderableType:
    """The table: overall figures, then the classes, then where the run lies."""
    table = framed_table(_title(result), ("figure", "value"))
    for row in (*figure_rows(result), *speed_rows(result)):
        table.add_row(*row)
    parts: list[RenderableType] = [table]
    parts.append(_classes(result))
    if "left_out" in result:
        parts.append(f"left out: {result['left_out']}")
    directory = result["directory"]
    parts.append(f"run: {directory}")
    if "selected" in result:
        if (page := Path(directory, PAGE)).exists():
            own = is_sealed(page)  # else it tells of whatever people have made of it
            parts.append(f"report: {page}" if own else f"no report of this training: {kept(page)}")
        parts.append(f"evaluate it again: nifbuild evaluate {shlex.quote(directory)}")
    return Group(*parts)


def figure_rows(result: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The overall figures: a name, and a text."""
    yield _accuracy(result), percent_text(result["top1"])
    if is_per_pixel(result):
        yield "mean IoU", percent_text(result["miou"])
    if _has_top5(result):
        yield "top-5", percent_text(result["top5"])
    yield "loss", f"{result['loss']:.4f}"
    yield "calibration error", percent_text(result["calibration_error"])
    yield "images", f"{result['num_samples']:,}"
    if "size" in result:
        yield "image size", size_text(tuple(result["size"]))
    yield "checkpoint", f"{result['checkpoint']} ({_kind(result)})"
    if result.get("stopped_early"):
        yield "stopped early", f"after epoch {result['epochs']}"


def speed_rows(result: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What it took, in the same form."""
    if result.get("train_images_per_second"):
        yield "training speed, last epoch", speed_text(result["train_images_per_second"])
    if result.get("data_wait_share") is not None:
        yield "of that, waiting for data", percent_text(result["data_wait_share"], 1)
    yield "evaluation speed", speed_text(result["images_per_second"])
    if "seconds" in result:
        yield "time", duration_text(result["seconds"])


def _has_top5(result: dict[str, Any]) -> bool:
    """Whether the figure says something: of five classes, all are among the five."""
    return len(result["per_class"]) > 5


def _title(result: dict[str, Any]) -> str:
    data = f" of {result['data']}" if result.get("data") else ""
    split = "all images" if result["split"] == ALL_SPLITS else result["split"]
    return f"{result['name']} on {split}{data}"


def _kind(result: dict[str, Any]) -> str:
    return str(result["selected"]) if "selected" in result else f"step {result['step']}"


def _classes(result: dict[str, Any]) -> Table:
    grid = class_grid(result)
    table = framed_table(grid.title, headings=grid.headings)
    for row in grid.rows:
        table.add_row(*row)
    return table


def class_grid(result: dict[str, Any]) -> Grid:
    """The figures of each class; of many, of those with the lowest, of equals with most images."""
    shares = {"accuracy": _accuracy(result)}
    if is_per_pixel(result):
        shares["iou"] = "IoU"
    counted = "pixels" if is_per_pixel(result) else "images"
    entries = result["per_class"]
    folded = len(entries) > _SHOWN_CLASSES
    if folded:
        *_, key = shares
        known = [entry for entry in entries if entry[key] is not None]
        known.sort(key=lambda entry: (entry[key], -entry["num_samples"]))
        shown = known[: _SHOWN_CLASSES // 2]
    rows = []
    for entry in shown if folded else entries:
        values = (entry[name] for name in shares)
        cells = ("-" if value is None else percent_text(value, 1) for value in values)
        rows.append((entry["name"], *cells, f"{entry['num_samples']:,}"))
    if folded:
        more = f"and {len(entries) - len(shown):,} more: --json has all"
        rows.append((more, *[""] * (len(shares) + 1)))
    title = f"the lowest of {len(entries):,} classes" if folded else ""
    return Grid(title, ("class", *shares.values(), counted), 1, tuple(rows))


def is_per_pixel(result: Mapping[str, Any]) -> bool:
    """Whether these are figures of data with a class for each pixel."""
    return result.get("miou") is not None


def _accuracy(result: dict[str, Any]) -> str:
    """What `top1` is called."""
    return "pixel accuracy" if is_per_pixel(result) else "top-1"
