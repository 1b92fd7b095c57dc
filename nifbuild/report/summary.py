"""The figures of a run as a table for people."""

import shlex
from collections.abc import Sequence
from typing import Any

from rich.console import Group, RenderableType

from nifbuild.machine.terminal import Console, Table
from nifbuild.spec.image_size import size_text

_SHOWN_CLASSES = 20


def print_summary(result: dict[str, Any]) -> None:
    """Prints what `train_run` or `evaluate_run` gave, on stdout."""
    Console().print(summary(result))


def print_sizes(results: Sequence[dict[str, Any]]) -> None:
    """Prints what `evaluate_at_sizes` gave, on stdout: a row for each size."""
    first = results[0]
    table = Table(title=_title(first), title_justify="left")
    for name in ("size", "top-1", "top-5", "loss", "calibration error", "img/s"):
        table.add_column(name, justify="right")
    for result in results:
        table.add_row(
            size_text(tuple(result["size"])),
            f"{result['top1']:.2%}",
            f"{result['top5']:.2%}",
            f"{result['loss']:.4f}",
            f"{result['calibration_error']:.2%}",
            f"{result['images_per_second']:,.0f}",
        )
    images = f"{first['num_samples']:,} images, {first['checkpoint']} ({_kind(first)})"
    Console().print(Group(table, images, f"run: {first['directory']}"))


def summary(result: dict[str, Any]) -> RenderableType:
    """The table: overall figures, then each class where there are few, then where the run lies."""
    table = Table(title=_title(result), title_justify="left")
    table.add_column("figure")
    table.add_column("value", justify="right")
    table.add_row("top-1", f"{result['top1']:.2%}")
    table.add_row("top-5", f"{result['top5']:.2%}")
    table.add_row("loss", f"{result['loss']:.4f}")
    table.add_row("calibration error", f"{result['calibration_error']:.2%}")
    table.add_row("images", f"{result['num_samples']:,}")
    if "size" in result:
        table.add_row("image size", size_text(tuple(result["size"])))
    table.add_row("checkpoint", f"{result['checkpoint']} ({_kind(result)})")
    if result.get("stopped_early"):
        table.add_row("stopped early", f"after epoch {result['epochs']}")
    if result.get("train_images_per_second"):
        table.add_row("training speed", f"{result['train_images_per_second']:,.0f} img/s")
    if result.get("data_wait_share") is not None:
        table.add_row("of that, waiting for data", f"{result['data_wait_share']:.1%}")
    table.add_row("evaluation speed", f"{result['images_per_second']:,.0f} img/s")
    if "seconds" in result:
        table.add_row("time", duration_text(result["seconds"]))
    parts: list[RenderableType] = [table]
    if len(result["per_class"]) <= _SHOWN_CLASSES:
        parts.append(_classes(result["per_class"]))
    directory = result["directory"]
    parts.append(f"run: {directory}")
    if "selected" in result:
        parts.append(f"evaluate it again: nifbuild evaluate {shlex.quote(directory)}")
    return Group(*parts)


def _title(result: dict[str, Any]) -> str:
    data = f" of {result['data']}" if result.get("data") else ""
    return f"{result['name']} on {result['split']}{data}"


def _kind(result: dict[str, Any]) -> str:
    return str(result["selected"]) if "selected" in result else f"step {result['step']}"


def _classes(per_class: list[dict[str, Any]]) -> Table:
    table = Table()
    table.add_column("class")
    table.add_column("top-1", justify="right")
    table.add_column("images", justify="right")
    for entry in per_class:
        accuracy = entry["accuracy"]
        shown = "-" if accuracy is None else f"{accuracy:.1%}"
        table.add_row(entry["name"], shown, f"{entry['num_samples']:,}")
    return table


def duration_text(seconds: float) -> str:
    """`3 h 04 min`, `4 min 05 s` or `5.1 s`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{seconds:.1f} s"
