"""Accuracy against what a variant costs and how large its filters are."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nifbuild.ablate.results import Results, VariantResults
from nifbuild.ablate.statistics import Summary, summarize
from nifbuild.report.show.plots import (
    COLORS,
    MARKERS,
    SCREEN,
    guides,
    in_plot,
    new_figure,
    plain_log_axis,
)
from nifbuild.report.show.point_labels import place_labels, place_on_lines

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDE = 6
_ODD_STEPS = 6
_BESIDE = 0.2
"""Pixels of a filter's size that are seen beside the ticks next to the data."""

_APART = 9.0
_SPREAD = 27.0
"""Between the marks of two variants with the same value, and of all at most, in typographic points.
"""

_SHIFTED = "marks of equal value are drawn side by side"


@dataclass(frozen=True)
class Question:
    """What accuracy is drawn against.

    Attributes:
        file: Name of the picture.
        title: The question.
        label: Of the axis, with its unit.
        value: Of a variant; None where it has none.
        odd: Whether it is about odd windows, the only ones that there are.
    """

    file: str
    title: str
    label: str
    value: Callable[[VariantResults], Summary | None]
    odd: bool = False


def _cost(metric: str, unit: float) -> Callable[[VariantResults], Summary | None]:
    return lambda variant: Summary(variant.costs[metric] / unit, None, 1)


def _size(variant: VariantResults) -> Summary | None:
    return summarize(list(variant.values("effective_size").values()))


QUESTIONS = (
    Question("top1_params.png", "Accuracy and parameters", "parameters", _cost("params", 1)),
    Question(
        "top1_train_memory.png",
        "Accuracy and training memory",
        "predicted peak of a training step (MiB)",
        _cost("train_peak_bytes", 2**20),
    ),
    Question(
        "top1_filter_size.png",
        "Accuracy and filter size",
        "effective filter size (pixels): odd window with 95 % of the mass, median over layers",
        _size,
        odd=True,
    ),
)


def drawn(results: Results) -> dict[str, bytes]:
    """The questions that the results have an answer to, as PNG files by name."""
    found = {}
    for question in QUESTIONS:
        points = [p for v in results.variants if (p := _point(question, v)) is not None]
        if not points:
            continue
        found[question.file] = SCREEN.png(plot(results, question))
    return found


def _point(question: Question, variant: VariantResults) -> tuple[Summary, Summary] | None:
    x, y = question.value(variant), summarize(list(variant.values("top1").values()))
    return None if x is None or y is None else (x, y)


@SCREEN.applied()
def plot(results: Results, question: Question) -> "Figure":
    """Mean and standard deviation over seeds of each variant, with its name beside it.

    Variants that the question does not apply to are lines across.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = new_figure(7, 4.6)
    FigureCanvasAgg(figure)  # to measure texts with
    axes = figure.subplots()
    names: list[str] = []
    places, colors = [], []
    points = [p for v in results.variants if (p := _point(question, v)) is not None]
    shifts = _shifts([x.mean for x, _ in points])
    for variant in results.variants:
        color, marker = _style(results, variant)
        point = _point(question, variant)
        if point is not None:
            x, y = point
            _draw(axes, x, y, color, marker, shifts[len(names)])
            names.append(short_name(variant))
            places.append((x.mean, y.mean * 100))
            colors.append(color)
    across = [v for v in results.variants if question.value(v) is None]
    lines = _lines_across(axes, results, across)
    _scale(axes, [x for x, _ in places])
    axes.set_title(question.title)
    axes.set_xlabel(f"{question.label}\n{_SHIFTED}" if any(shifts) else question.label)
    seeds = max((len(v.results) for v in results.variants), default=0)
    spread = f", mean ± std, up to {seeds} seeds" if seeds > 1 else ", one seed"
    axes.set_ylabel(f"top-1 accuracy (%){spread}")
    guides(axes)
    axes.margins(0.18, 0.15)
    axes.set_xlim(axes.get_xlim())
    if question.odd:
        _tick_odd_sizes(axes, [x for x, _ in places])
    place_on_lines(axes, *lines)
    pixels = [shift * figure.dpi / 72 for shift in shifts]
    place_labels(axes, names, _shifted(axes, places, pixels), colors)
    return figure


def _shifts(values: Sequence[float]) -> list[float]:
    """How far to the right of its place each point is drawn, lest bars lie on each other.

    In typographic points.
    """
    shifts = []
    for number, value in enumerate(values):
        others = values.count(value) - 1
        apart = min(_APART, _SPREAD / max(1, others))
        shifts.append(apart * (values[:number].count(value) - others / 2))
    return shifts


def _shifted(
    axes: "Axes", places: Sequence[tuple[float, float]], pixels: Sequence[float]
) -> list[tuple[float, float]]:
    """Places that are moved to the right by so many pixels, in data coordinates."""
    found = []
    for place, shift in zip(places, pixels, strict=True):
        x, y = axes.transData.transform(place)
        moved = axes.transData.inverted().transform((x + shift, y))
        found.append((float(moved[0]), float(moved[1])))
    return found


def _draw(axes: "Axes", x: Summary, y: Summary, color: str, marker: str, shift: float) -> None:
    from matplotlib.transforms import offset_copy

    bars = axes.errorbar(
        x.mean,
        y.mean * 100,
        xerr=x.std or None,
        yerr=None if y.std is None else y.std * 100,
        fmt=marker,
        color=color,
        markersize=7,
        markeredgecolor="white",
        capsize=3,
    )
    if shift:  # only now: the limits of the axes are those of the data
        figure = axes.get_figure(root=True)
        for artist in bars.get_children():
            artist.set_transform(offset_copy(axes.transData, figure, x=shift, units="points"))


def _lines_across(
    axes: "Axes", results: Results, variants: Sequence[VariantResults]
) -> tuple[list[str], list[float], list[str]]:
    """Draws a line for each variant; gives their names, heights and colours."""
    names, heights, colors = [], [], []
    for variant in variants:
        found = summarize(list(variant.values("top1").values()))
        if found is not None:
            names.append(short_name(variant))
            heights.append(found.mean * 100)
            colors.append(_style(results, variant)[0])
            axes.axhline(heights[-1], color=colors[-1], linestyle="--", linewidth=1.2)
    return names, heights, colors


def _scale(axes: "Axes", values: Sequence[float]) -> None:
    """A logarithmic axis where values differ so much that they would crowd on another one."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    if min(values) > 0 and max(values) / min(values) > _WIDE:
        axes.set_xscale("log")
        plain_log_axis(axes.xaxis, _number)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(7))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _number(value)))


def _tick_odd_sizes(axes: "Axes", sizes: Sequence[float]) -> None:
    """Ticks at whole odd sizes; those next to all sizes are seen."""
    low, high = axes.get_xlim()
    below, above = _odd_below(min(sizes)), -_odd_below(-max(sizes))
    low, high = min(low, below - _BESIDE), max(high, above + _BESIDE)
    axes.set_xlim(low, high)
    first, last = max(1, -_odd_below(-low)), _odd_below(high)
    if axes.get_xscale() == "log":
        ticks = {-_odd_below(-round(tick)) for tick in axes.get_xticks()}
    else:
        step = 2 * math.ceil((last - first) / 2 / _ODD_STEPS)
        ticks = set(range(first, last + 1, max(2, step)))
    axes.set_xticks([tick for tick in sorted(ticks) if first <= tick <= last])


def _odd_below(value: float) -> int:
    """The largest odd number that is not above it."""
    return (math.floor(value) - 1) // 2 * 2 + 1


def _number(value: float) -> str:
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:g} {unit}"
    return f"{value:g}"


def _style(results: Results, variant: VariantResults) -> tuple[str, str]:
    """A colour for each label of the first axis, a mark for each of the second."""
    choices = []
    for axis, styles in zip(results.axes, (COLORS, MARKERS), strict=False):
        labels = list(dict.fromkeys(v.labels[axis] for v in results.variants))
        choices.append(styles[labels.index(variant.labels[axis]) % len(styles)])
    color, marker = (*choices, "o")[:2]
    return color, marker


def short_name(variant: VariantResults) -> str:
    """`early, width 32`: labels, with the last word of their axis where that is a path."""
    words = []
    for axis, label in variant.labels.items():
        section, dot, _ = axis.rpartition(".")
        words.append(f"{axis[len(section) + 1 :]} {label}" if dot else label)
    return in_plot(", ".join(words))
