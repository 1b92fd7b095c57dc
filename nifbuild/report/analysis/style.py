"""How all plots look: one column of a paper wide, and legible at that width.

Colours are those of Okabe and Ito ("Color Universal Design", 2008) and viridis, which colour-blind
readers can tell apart; lines differ by their dashes, too.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

COLUMN_INCHES = 3.3
DPI = 300
GREY = "#666666"

NAMES = {"trained": "trained", "initial": "at initialisation", "against": "other run"}
COLORS = {"trained": "#0072B2", "initial": "#D55E00", "against": "#009E73"}
MARKERS = {"trained": "o", "initial": "s", "against": "^"}
DASHES = {"trained": "-", "initial": "--", "against": "-."}

_STYLE: Any = {  # matplotlib types the keys as literals, all three hundred
    "font.size": 7,
    "axes.titlesize": 7,
    "axes.labelsize": 7,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.1,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "legend.handlelength": 1.8,
    "figure.constrained_layout.h_pad": 0.03,
    "figure.constrained_layout.w_pad": 0.03,
}


@contextmanager
def paper_style() -> Iterator[None]:
    """While entered, figures are drawn and saved in this style."""
    with rc_context(_STYLE):
        yield


def column_figure(height: float) -> Figure:
    """A figure as wide as a column, so many inches high."""
    return Figure(figsize=(COLUMN_INCHES, height), layout="constrained")


def panels(figure: Figure, number: int, columns: int = 2) -> list[Axes]:
    """So many panels that share their y axis, in rows of `columns`."""
    columns = min(columns, number)
    grid = figure.subplots(-(-number // columns), columns, squeeze=False, sharey=True)
    every = list(grid.flat)
    for spare in every[number:]:
        spare.remove()
    return every[:number]


def window_axis(axes: Axes, largest: int, direction: Literal["x", "y"] = "x") -> None:
    """A logarithmic axis of odd windows, in pixels."""
    axes.set(**{f"{direction}scale": "log"})
    axis: Axis = axes.xaxis if direction == "x" else axes.yaxis
    sizes = (1, 3, 7, 15, 31, 63, 127, 255, 511) if largest < 100 else (1, 3, 9, 27, 81, 243)
    ticks = [size for size in sizes if size <= largest]
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(lambda value, _: f"{value:g}")


def common_legend(figure: Figure, axes: Axes) -> None:
    """One legend above all panels, from what one of them shows."""
    handles, labels = axes.get_legend_handles_labels()
    distinct = dict(zip(labels, handles, strict=True))
    figure.legend(
        distinct.values(),
        distinct.keys(),
        loc="outside upper center",
        ncols=min(len(distinct), 3),
        columnspacing=1.0,
    )


def fitting(name: str, letters: int) -> str:
    """The name, or its end where it has more letters than there is room for."""
    return name if len(name) <= letters else "…" + name[1 - letters :]


def short_names(paths: Sequence[str]) -> list[str]:
    """The paths without the levels that all of them share."""
    parts = [path.split(".") for path in paths]
    while all(len(p) > 1 for p in parts) and len({p[0] for p in parts}) == 1:
        parts = [p[1:] for p in parts]
    return [".".join(p) for p in parts]
