"""The result of shrinking as tables for people."""

import shlex

from rich.console import Group, RenderableType

from nifbuild.machine.terminal import Console, Table
from nifbuild.report.show.tables import framed_table
from nifbuild.report.show.units import count_text, percent_text, shape_text
from nifbuild.report.shrink.result import ShrinkResult


def print_result(result: ShrinkResult) -> None:
    """Prints it on stdout."""
    Console().print(tables(result))


def tables(result: ShrinkResult) -> RenderableType:
    """Each layer, then the model before and after, then where it lies."""
    parts: list[RenderableType] = [_layers(result), _model(result)]
    if result.trials:
        tried = len(result.trials)
        text = f"the search tried {tried} shares of the filters on validation: "
        parts.append(
            text
            + ", ".join(
                f"{percent_text(t.mass, 1)} gave {percent_text(t.top1)}" for t in result.trials
            )
        )
    directory = shlex.quote(str(result.out))
    parts.append(f"run: {result.out}\nevaluate it again: nifbuild evaluate {directory}")
    if result.finetuned is not None:
        parts.append(f"trained on: {result.finetuned.directory}")
    return Group(*parts)


def _layers(result: ShrinkResult) -> Table:
    headings = ("layer", "grid", "window", "kept mass", "bound", "change", "rms")
    table = framed_table(f"{result.name}: filters in windows", headings)
    for layer in result.layers:
        table.add_row(
            layer.path,
            shape_text(layer.grid),
            shape_text(layer.kernel_size),
            percent_text(layer.kept_mass),
            *map(_percent, (layer.bound, layer.change, layer.rms_change)),
        )
    table.caption = (
        "bound, change: at most, over the largest output, for the worst of "
        f"{result.speed.batch} images; rms: of all"
    )
    table.caption_justify = "left"
    return table


def _model(result: ShrinkResult) -> Table:
    sides, speed, tuned = (result.before, result.after), result.speed, result.finetuned
    times = (speed.before_ms, speed.after_ms)
    rows = {
        "top-1": [percent_text(side.figures.top1) for side in sides],
        "loss": [f"{side.figures.loss:.4f}" for side in sides],
        "parameters": [count_text(side.params) for side in sides],
        f"ms for {speed.batch} images": [f"{quartiles.median:.2f}" for quartiles in times],
        "speed": ["1", f"{speed.ratio.median:.2f}"],
    }
    columns = ["before", "after"]
    if tuned is not None:
        columns.append("trained on")
        rows["top-1"].append(percent_text(tuned.top1))
        rows["loss"].append(f"{tuned.loss:.4f}")
    images = f"{result.split}, {result.before.figures.num_samples:,} images"
    table = framed_table(headings=(images, *columns))
    for label, cells in rows.items():
        table.add_row(label, *cells)
    return table


def _percent(share: float) -> str:
    return percent_text(share) if share < 1 else f"{share:,.0%}"
