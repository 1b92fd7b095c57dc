"""How all plots look: one palette, one set of lines and letters, in two sizes.

Colours are those of Okabe and Ito ("Color Universal Design", 2008), and colour maps are viridis and
cividis, which colour-blind readers can tell apart; lines differ by dashes and marks, too.
Matplotlib is loaded by what draws, not by this module.
"""

import io
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

from nifbuild.errors import shown
from nifbuild.machine import MAKER

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

BLUE, VERMILION, GREEN = "#0072B2", "#D55E00", "#009E73"
COLORS = (BLUE, VERMILION, GREEN, "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""In the order in which they are used; the yellow one is too pale for thin marks."""
MARKERS = "os^DvPX"
"""One for each of `COLORS`."""

INK = "#24292f"
"""Letters and frames that are to be seen first."""
GREY = "#6e7781"
"""Letters that are not."""
GUIDE = "0.9"
"""Lines of a grid."""
BOUNDARY = "0.82"
"""Lines that mean something, and are not what the plot is about."""

AMOUNTS, SHARES, SIGNED = "viridis", "cividis", "RdBu_r"
"""Colour maps: of amounts, of shares with numbers in them, of what is below and above zero."""

_LOG_TICKS: tuple[tuple[float, tuple[int, ...]], ...] = (
    (4, ()),
    (10, (1, 2, 3, 5, 7)),
    (500, (1, 2, 5)),
    (math.inf, (1,)),
)
"""Of a logarithmic axis whose largest value is less than so many times its smallest: the digits
that have ticks, neither too few nor too many. The shortest has ticks as a linear one has."""

COLUMN_INCHES = 3.3
"""Width of a column of a paper."""


_LETTERS = (
    "font.size",
    "axes.titlesize",
    "axes.labelsize",
    "xtick.labelsize",
    "ytick.labelsize",
    "legend.fontsize",
)


@dataclass(frozen=True)
class PlotStyle:
    """A size of letters, with all lines in proportion.

    Attributes:
        points: Size of all letters.
        dpi: Pixels per inch of the file.
    """

    points: float
    dpi: int

    @contextmanager
    def applied(self) -> Iterator[None]:
        """While entered, figures are drawn in this style; also a decorator of what draws them."""
        from matplotlib import rc_context

        with rc_context(self._parameters()):
            yield

    def save(self, figure: "Figure", file: Path | IO[bytes], **options: Any) -> None:
        """Writes a figure; options as of matplotlib's `savefig`."""
        with self.applied():
            figure.savefig(file, dpi=self.dpi, **options)

    def png(self, figure: "Figure") -> bytes:
        """A figure as a PNG file that says what has made it."""
        buffer = io.BytesIO()
        self.save(figure, buffer, format="png", metadata={"Software": MAKER})
        return buffer.getvalue()

    def _parameters(self) -> Any:  # matplotlib types the keys as literals, all three hundred
        line = self.points / 11.5
        return {
            **dict.fromkeys(_LETTERS, self.points),
            "axes.linewidth": line,
            "xtick.major.width": line,
            "ytick.major.width": line,
            "xtick.major.size": 4 * line,
            "ytick.major.size": 4 * line,
            "lines.linewidth": 1.8 * line,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.axisbelow": True,
            "grid.color": GUIDE,
            "grid.linewidth": line,
            "legend.frameon": False,
            "legend.handlelength": 1.8,
            "figure.constrained_layout.h_pad": line / 20,
            "figure.constrained_layout.w_pad": line / 20,
        }


PAPER = PlotStyle(7, 300)
"""For figures as wide as a column of a paper, legible at that width."""
SCREEN = PlotStyle(10, 200)
"""For figures that stand alone, as in a README."""


def new_figure(width: float, height: float) -> "Figure":
    """A figure of so many inches whose parts keep clear of each other."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def panels(figure: "Figure", number: int, columns: int = 2) -> list["Axes"]:
    """So many panels that share their y axis, in rows of `columns`."""
    columns = min(columns, number)
    grid = figure.subplots(-(-number // columns), columns, squeeze=False, sharey=True)
    every = list(grid.flat)
    for spare in every[number:]:
        spare.remove()
    return every[:number]


def guides(axes: "Axes", axis: Literal["x", "y", "both"] = "both") -> None:
    """Faint lines at the ticks of an axis, behind all else."""
    axes.grid(axis=axis)


def window_axis(axes: "Axes", largest: int, direction: Literal["x", "y"] = "x") -> None:
    """A logarithmic axis of odd windows, in pixels."""
    from matplotlib.ticker import FixedLocator, NullLocator

    axes.set(**{f"{direction}scale": "log"})
    axis = axes.xaxis if direction == "x" else axes.yaxis
    sizes = (1, 3, 7, 15, 31, 63, 127, 255, 511) if largest < 100 else (1, 3, 9, 27, 81, 243)
    axis.set_major_locator(FixedLocator([size for size in sizes if size <= largest]))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(lambda value, _: f"{value:g}")


def plain_log_axis(axis: "Axis", write: Callable[[float], str] = "{:g}".format) -> None:
    """A logarithmic axis with plain numbers at its ticks, so many as have room.

    Args:
        axis: With its limits.
        write: What a number is written as.
    """
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

    low, high = axis.get_view_interval()
    digits = next(digits for most, digits in _LOG_TICKS if high / low < most)
    axis.set_major_locator(
        LogLocator(subs=digits) if digits else MaxNLocator(5, steps=(1, 2, 5, 10))
    )
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(lambda value, _: write(value))


def common_legend(figure: "Figure", axes: "Axes", columns: int = 3) -> None:
    """One legend above all panels, from what one of them shows, in as many columns as fit."""
    handles, labels = axes.get_legend_handles_labels()
    distinct = dict(zip(labels, handles, strict=True))
    for count in range(min(len(distinct), columns), 0, -1):
        legend = figure.legend(
            distinct.values(),
            distinct.keys(),
            loc="outside upper center",
            ncols=count,
            columnspacing=1.0,
        )
        if count == 1 or legend.get_window_extent().width <= figure.bbox.width:
            break
        legend.remove()


def in_plot(text: str) -> str:
    """A name on one line of a plot of matplotlib, in which a dollar starts no mathematics."""
    return shown(text).replace("$", r"\$")


def fitting(name: str, letters: int) -> str:
    """The name, or its end where it has more letters than there is room for."""
    return name if len(name) <= letters else "…" + name[1 - letters :]


def short_names(paths: Sequence[str]) -> list[str]:
    """The paths without the levels that all of them share."""
    parts = [path.split(".") for path in paths]
    while all(len(p) > 1 for p in parts) and len({p[0] for p in parts}) == 1:
        parts = [p[1:] for p in parts]
    return [".".join(p) for p in parts]
