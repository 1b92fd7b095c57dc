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


@SCREEN.applied()
def plot_curves(runs: Sequence[Recorded], names: Sequence[str]) -> "Figure":
    """Panels of loss, accuracy and rate over epochs.

    A run has one colour; what is of its training images is dashed.

    Args:
        runs: Some of them may have no epochs yet.
        names: What the legend calls them.
    """
    figure = new_figure(11, 3.8)
    loss, top1, rate = figure.subplots(1, 3)
    for place, (run, name) in enumerate(zip(runs, names, strict=True)):
        color, label = COLORS[place % len(COLORS)], in_plot(fitting(name, _LETTERS))
        _line(loss, run, "loss", color=color, label=label)
        _line(loss, run, "train_loss", color=color, linestyle="--")
        _line(top1, run, "top1", color=color, label=label, scale=100)
        _line(top1, run, "train_top1", color=color, linestyle="--", scale=100)
        _line(rate, run, "lr", color=color, label=label)
    split = {line["split"] for run in runs for line in run.epochs if "split" in line}
    evaluated = " and ".join(sorted(split)) or "evaluation"
    for axes, title in ((loss, "loss"), (top1, "top-1 (%)"), (rate, "learning rate")):
        axes.set(title=title, xlabel="epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        guides(axes)
    loss.plot([], [], color="0.4", label=evaluated)
    loss.plot([], [], color="0.4", linestyle="--", label=_TRAINING)
    common_legend(figure, loss, columns=4)
    return figure


def _line(axes: "Axes", run: Recorded, key: str, *, scale: float = 1, **look: Any) -> None:
    found = [(line["epoch"], line[key]) for line in run.epochs if line.get(key) is not None]
    marker = "o" if len(found) == 1 else ""  # a line of one point cannot be seen
    axes.plot(
        [epoch for epoch, _ in found], [value * scale for _, value in found], marker=marker, **look
    )
