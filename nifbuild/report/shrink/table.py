"""The result of shrinking as tables for people."""

import shlex

from rich.console import Group, RenderableType

from nifbuild.machine.terminal import Console, Table
from nifbuild.report.inspect.units import count_text
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
        parts.append(text + ", ".join(f"{t.mass:.1%} gave {t.top1:.2%}" for t in result.trials))
    directory = shlex.quote(str(result.out))
    parts.append(f"run: {result.out}\nevaluate it again: nifbuild evaluate {directory}")
    if result.finetuned is not None:
        parts.append(f"trained on: {result.finetuned.directory}")
    return Group(*parts)


def _layers(result: ShrinkResult) -> Table:
    table = Table(title=f"{result.name}: filters in windows", title_justify="left")
    table.add_column("layer")
    for name in ("grid", "window", "kept mass", "bound", "change", "rms"):
        table.add_column(name, justify="right")
    for layer in result.layers:
        table.add_row(
            layer.path,
            "x".join(map(str, layer.grid)),
            "x".join(map(str, layer.kernel_size)),
            f"{layer.kept_mass:.2%}",
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
        "top-1": [f"{side.figures.top1:.2%}" for side in sides],
        "loss": [f"{side.figures.loss:.4f}" for side in sides],
        "parameters": [count_text(side.params) for side in sides],
        f"ms for {speed.batch} images": [f"{quartiles.median:.2f}" for quartiles in times],
        "speed": ["1", f"{speed.ratio.median:.2f}"],
    }
    columns = ["before", "after"]
    if tuned is not None:
        columns.append("trained on")
        rows["top-1"].append(f"{tuned.top1:.2%}")
        rows["loss"].append(f"{tuned.loss:.4f}")
    table = Table()
    table.add_column(f"{result.split}, {result.before.figures.num_samples:,} images")
    for name in columns:
        table.add_column(name, justify="right")
    for label, cells in rows.items():
        table.add_row(label, *cells)
    return table


def _percent(share: float) -> str:
    return f"{share:.2%}" if share < 1 else f"{share:,.0%}"
