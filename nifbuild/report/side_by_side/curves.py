"""Loss, accuracy and learning rate of runs, epoch by epoch."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nifbuild.report.show.plots import (
    COLORS,
    SCREEN,
    common_legend,
    fitting,
    guides,
    in_plot,
    new_figure,
)
from nifbuild.report.side_by_side.recorded import Recorded

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LETTERS = 40
_TRAINING = "training"
_LOOKS: dict[str, dict[str, Any]] = {
    "validation": {"linestyle": "-", "marker": "o"},
    "test": {"linestyle": ":", "marker": "s"},
    _TRAINING: {"linestyle": "--", "marker": "^", "markerfacecolor": "white"},
}
"""Of a curve, by the images that it is of."""
_MARKS = 8
"""Of a curve, about; of one epoch there is nothing else to see."""
_MARK_POINTS = 5
_LINE_POINTS, _RIM_POINTS, _MOST_RIMS = 1.5, 2.5, 3
_FEW_EPOCHS = 4


@SCREEN.applied()
def plot_curves(runs: Sequence[Recorded], names: Sequence[str]) -> "Figure":
    """Panels of loss, accuracy and rate over epochs.

    A run has one colour; lines and marks tell the images that a curve is of.

    Args:
        runs: Some of them may have no epochs yet.
        names: What the legend calls them.
    """
    figure = new_figure(11, 3.8)
    loss, top1, rate = figure.subplots(1, 3)
    colors = [COLORS[place % len(COLORS)] for place in range(len(runs))]
    for place, (run, color) in enumerate(zip(runs, colors, strict=True)):
        evaluated, training = ({"color": color, **_LOOKS[i]} for i in (_split(run), _TRAINING))
        _line(loss, run, "loss", **evaluated)
        _line(loss, run, "train_loss", **training)
        _line(top1, run, "top1", **evaluated, scale=100)
        _line(top1, run, "train_top1", **training, scale=100)
        # Rates are often the same: the line below stands out on both sides of the one above it.
        above = sum(_rates(other) == _rates(run) for other in runs[place + 1 :])
        width = _LINE_POINTS + _RIM_POINTS * min(above, _MOST_RIMS)
        _line(rate, run, "lr", color=color, marker=".", linewidth=width)
    for axes, title in ((loss, "loss"), (top1, "top-1 (%)"), (rate, "learning rate")):
        axes.set(title=title, xlabel="epoch")
        _whole_epochs(axes, max((run.num_epochs for run in runs), default=0))
        guides(axes)
    _key(loss, runs, names, colors)
    common_legend(figure, loss, columns=4)
    return figure


def _split(run: Recorded) -> str:
    """The images that it was evaluated on after its epochs."""
    return next((line["split"] for line in run.epochs if "split" in line), "validation")


def _rates(run: Recorded) -> list[Any]:
    return [line.get("lr") for line in run.epochs]


def _line(axes: "Axes", run: Recorded, key: str, *, scale: float = 1, **look: Any) -> None:
    found = [(line["epoch"], line[key]) for line in run.epochs if line.get(key) is not None]
    axes.plot(
        [epoch for epoch, _ in found],
        [value * scale for _, value in found],
        markevery=max(1, len(found) // _MARKS),
        markersize=_MARK_POINTS,
        **look,
    )


def _whole_epochs(axes: "Axes", last: int) -> None:
    """Whole numbers on the axis of epochs."""
    from matplotlib.ticker import MaxNLocator

    if last <= _FEW_EPOCHS:  # whose curves are so short that the axis would show fractions
        axes.set(xlim=(0.5, max(last, 1) + 0.5), xticks=range(1, max(last, 1) + 1))
    else:
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))


def _key(
    axes: "Axes", runs: Sequence[Recorded], names: Sequence[str], colors: Sequence[str]
) -> None:
    """What the legend shows: a colour for each run with curves, a look for each kind of images."""
    for run, name, color in zip(runs, names, colors, strict=True):
        label = in_plot(fitting(name, _LETTERS))
        if run.epochs:
            axes.plot([], [], color=color, label=label)
        else:
            axes.plot([], [], color="none", label=f"{label}: no epochs, so no curve")
    splits = {_split(run) for run in runs if run.epochs}
    for images, look in _LOOKS.items():
        if images in splits or (images == _TRAINING and splits):
            axes.plot([], [], color="0.4", markersize=_MARK_POINTS, label=images, **look)
