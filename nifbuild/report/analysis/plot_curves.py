"""Figures with curves: sizes by depth, shares by window, spectra by frequency."""

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from nifbuild.report.analysis.analysis import NAMES, Analysis
from nifbuild.report.analysis.filters import LOW_FREQUENCY, FilterFigures, Spread
from nifbuild.report.show.plots import (
    BLUE,
    BOUNDARY,
    COLUMN_INCHES,
    GREEN,
    PAPER,
    VERMILION,
    common_legend,
    fitting,
    guides,
    new_figure,
    panels,
    short_names,
    window_axis,
)
from nifbuild.report.show.units import percent_text, shape_text

COLORS = {"trained": BLUE, "initial": VERMILION, "against": GREEN}
MARKERS = {"trained": "o", "initial": "s", "against": "^"}
DASHES = {"trained": "-", "initial": "--", "against": "-."}

_FEW_LAYERS = 16
_MAX_GROUPS = 12
_MAX_LETTERS = 16
_LABEL_INCHES = 0.12
_LETTER_INCHES = 0.06

Numbers = NDArray[np.float64] | Sequence[float]


def plot_sizes(analysis: Analysis) -> Figure:
    """How large are the filters of each layer? Effective size by depth, a panel for each share."""
    layers = analysis.trained.layers
    paths = [layer.paths[0] for layer in layers]
    few = len(layers) <= _FEW_LAYERS
    figure = new_figure(COLUMN_INCHES, 0.85 * len(analysis.shares) + (1.5 if few else 0.9))
    grid = figure.subplots(len(analysis.shares), 1, sharex=True, sharey=True, squeeze=False)
    rows = list(grid[:, 0])
    places = np.arange(1.0, len(layers) + 1)
    for axes, share in zip(rows, analysis.shares, strict=True):
        grids = [max(layer.grid) for layer in layers]
        edges = np.arange(0.5, len(layers) + 1)
        for name, model in analysis.models.items():
            found = [model.layer(path) for path in paths]
            sizes = [None if layer is None else layer.mass_sizes[share] for layer in found]
            _size_curve(axes, places, sizes, name, few=few)
        axes.stairs(
            grids, edges, color=BOUNDARY, baseline=None, zorder=0, label="grid of the layer"
        )
        window_axis(axes, max(grids), "y")
        axes.set_ylim(0.8, max(grids) * 1.3)
        axes.set_title(f"{percent_text(share, 0)} of the mass", loc="left", pad=2)
        guides(axes, "y")
    figure.supylabel("side of the smallest odd window (pixels)", fontsize=PAPER.points)
    _layer_axis(rows, paths, few=few)
    common_legend(figure, rows[0])
    return figure


def _size_curve(
    axes: Axes, places: NDArray[np.float64], sizes: list[Spread | None], name: str, *, few: bool
) -> None:
    def values(pick: Callable[[Spread], Tensor]) -> NDArray[np.float64]:
        return np.array([np.nan if s is None else pick(s).item() for s in sizes])

    mean = values(lambda s: s.mean)
    first, third = values(lambda s: s.first), values(lambda s: s.third)
    color = COLORS[name]
    if few:
        places = places + {"trained": 0.0, "initial": 0.22, "against": -0.22}[name]
        fill = color if name == "trained" else "white"
        axes.vlines(places, first, third, color=color, linewidth=0.8)
        axes.plot(places, mean, MARKERS[name], ms=3, color=color, mfc=fill, label=NAMES[name])
    else:
        axes.fill_between(places, first, third, color=color, alpha=0.2, linewidth=0)
        axes.plot(places, mean, DASHES[name], color=color, linewidth=0.9, label=NAMES[name])


def _layer_axis(rows: Sequence[Axes], paths: Sequence[str], *, few: bool) -> None:
    """Each layer's name where there is room, else the names of the stages that they stand in."""
    last = rows[-1]
    names = short_names(paths)
    last.set_xlim(0.4, len(paths) + 0.6)
    if few:
        shown = [fitting(name, _MAX_LETTERS) for name in names]
        last.set_xticks(range(1, len(paths) + 1), shown, rotation=90)
        return
    groups = [(key, len(list(g))) for key, g in groupby(n.split(".")[0] for n in names)]
    if len(groups) > _MAX_GROUPS:
        last.set_xlabel("layer, in the order in which they are applied")
        return
    inches = (COLUMN_INCHES - 0.4) / len(names)
    start, middles, labels, crowded = 0, [], [], False
    for key, number in groups:
        middles.append(start + (number + 1) / 2)
        # A few layers, such as a stem, are left without a name rather than over their neighbour's.
        labels.append(key if number * inches > _LABEL_INCHES else "")
        crowded |= len(labels[-1]) * _LETTER_INCHES > number * inches
        start += number
        for axes in rows if start < len(names) else ():
            axes.axvline(start + 0.5, color=BOUNDARY, linewidth=0.6, zorder=0)
    tilt: dict[str, Any] = {"rotation": 30, "ha": "right"} if crowded else {}
    last.set_xticks(middles, labels, **tilt)
    last.tick_params(axis="x", length=0)
    last.set_xlabel(f"{len(names)} layers, in the order in which they are applied")


def plot_windows(analysis: Analysis, measure: Literal["mass", "energy"]) -> Figure:
    """How much of a kernel lies within a window? A panel for each grid."""
    figure, axes = _grid_panels(analysis)
    letters = {"mass": "mass (sum of |k|)", "energy": "energy (sum of k²)"}
    for panel, grid in zip(axes, analysis.trained.grids, strict=True):
        for layer in analysis.trained.layers:
            if layer.grid == grid.grid:
                shares = getattr(layer, measure)
                line = (layer.windows, shares.mean.numpy())
                panel.plot(*line, color=COLORS["trained"], lw=0.4, alpha=0.35)
        _bands(panel, analysis, grid, lambda f: (f.windows, getattr(f, measure)))
        for share in analysis.shares:
            panel.axhline(share, color=BOUNDARY, linewidth=0.6, zorder=0)
        window_axis(panel, grid.windows[-1])
        panel.set_ylim(0, 1.02)
    figure.supxlabel("side of the odd window (pixels)", fontsize=PAPER.points)
    figure.supylabel(f"share of the kernel's {letters[measure]}", fontsize=PAPER.points)
    return figure


def plot_spectra(analysis: Analysis) -> Figure:
    """Which frequencies do the filters pass? A panel for each grid."""
    figure, axes = _grid_panels(analysis)
    for panel, grid in zip(axes, analysis.trained.grids, strict=True):
        panel.axhline(1, color=BOUNDARY, linewidth=0.6, zorder=0)
        panel.axvline(LOW_FREQUENCY, color=BOUNDARY, linewidth=0.6, zorder=0)
        for layer in analysis.trained.layers:
            if layer.grid == grid.grid:
                line = (layer.cycles_per_pixel, layer.magnitude.mean.numpy())
                panel.plot(*line, color=COLORS["trained"], lw=0.4, alpha=0.35)
        _bands(panel, analysis, grid, lambda f: (f.cycles_per_pixel, f.magnitude))
        panel.set_xlim(0, 0.72)
        panel.set_ylim(bottom=0)
        panel.set_xticks([0, 0.25, 0.5], ["0", "0.25", "0.5"])
    figure.supxlabel("distance from zero frequency (cycles per pixel)", fontsize=PAPER.points)
    figure.supylabel("|K| over its root mean square", fontsize=PAPER.points)
    return figure


def _grid_panels(analysis: Analysis) -> tuple[Figure, list[Axes]]:
    grids = analysis.trained.grids
    rows = -(-len(grids) // 2)
    figure = new_figure(COLUMN_INCHES, 1.25 * rows + 0.75 if len(grids) > 1 else 2.4)
    axes = panels(figure, len(grids))
    for panel, grid in zip(axes, grids, strict=True):
        layers = f"{len(grid.paths)} layer{'s' if len(grid.paths) > 1 else ''}"
        panel.set_title(f"{shape_text(grid.grid)} pixels, {layers}", loc="left", pad=2)
    for name in analysis.models:
        axes[0].plot([], [], DASHES[name], color=COLORS[name], label=NAMES[name])
    common_legend(figure, axes[0])
    return figure, axes


def _bands(
    panel: Axes,
    analysis: Analysis,
    grid: FilterFigures,
    pick: Callable[[FilterFigures], tuple[Numbers, Spread]],
) -> None:
    """Mean and quartiles of all filters that see a grid, for each model."""
    for name, model in reversed(analysis.models.items()):
        figures = model.grid(grid.grid)
        if figures is None:
            continue
        x, spread = pick(figures)
        color = COLORS[name]
        first, third = spread.first.numpy(), spread.third.numpy()
        panel.fill_between(x, first, third, color=color, alpha=0.18, linewidth=0)
        panel.plot(x, spread.mean.numpy(), DASHES[name], color=color)
