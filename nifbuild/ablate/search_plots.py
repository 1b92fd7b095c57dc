"""What the trials of a search came to: over the trials, and against what was drawn."""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from nifbuild.ablate.trials import TrialResult, metric_name
from nifbuild.report.show.plots import (
    BLUE,
    GREY,
    SCREEN,
    VERMILION,
    common_legend,
    fitting,
    guides,
    in_plot,
    new_figure,
    panels,
    plain_log_axis,
)
from nifbuild.spec.search import Choices, SearchSpec
from nifbuild.spec.study import label_of
from nifbuild.spec.training import gain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LETTERS = 34  # of a path, below a panel


def ended_trials(trials: Sequence[TrialResult]) -> list[TrialResult]:
    """Those that have a figure."""
    return [trial for trial in trials if trial.ended is not None]


@SCREEN.applied()
def plot_trials(search: SearchSpec, trials: Sequence[TrialResult]) -> "Figure":
    """The figure of each trial that has ended, and the best one so far."""
    figure = new_figure(7, 4)
    axes = figure.subplots()
    _scatter(axes, search, trials, lambda trial: float(trial.number))
    best: float | None = None
    steps = []
    for trial in ended_trials(trials):
        assert trial.ended is not None
        value = trial.ended.value
        if trial.state == "done" and (best is None or gain(search.metric, value, best) > 0):
            best = value
        if best is not None:
            steps.append((trial.number, _shown(search, best)))
    if steps:
        axes.step(*zip(*steps, strict=True), where="post", color=BLUE, label="best so far")
    axes.set_title("Trials")
    axes.set_xlabel("number of the trial")
    _whole_ticks(axes)
    axes.set_ylabel(_axis_label(search))
    guides(axes)
    axes.legend()
    return figure


@SCREEN.applied()
def plot_parameters(search: SearchSpec, trials: Sequence[TrialResult]) -> "Figure":
    """The figure of each trial against each value that was drawn, one panel for each of them."""
    columns = min(2, len(search.space))
    rows = math.ceil(len(search.space) / columns)
    figure = new_figure(1.2 + 3.2 * columns, 0.6 + 2.8 * rows)
    every = panels(figure, len(search.space), columns)
    for index, (path, axes) in enumerate(zip(search.space, every, strict=True)):
        _panel(axes, search, path, trials)
        if index % columns == 0:
            axes.set_ylabel(_axis_label(search))
    common_legend(figure, every[0])
    return figure


def _panel(axes: "Axes", search: SearchSpec, path: str, trials: Sequence[TrialResult]) -> None:
    parameter = search.space[path]
    if isinstance(parameter, Choices):
        choices = parameter
        labels = [fitting(label_of(choice), 12) for choice in choices.choices]
        axes.set_xticks(range(len(labels)), [in_plot(label) for label in labels])
        axes.set_xlim(-0.5, len(labels) - 0.5)
        _scatter(axes, search, trials, lambda trial: float(choices.place(trial.values[path])))
    else:
        if parameter.log:
            axes.set_xscale("log")
        elif parameter.is_whole:
            _whole_ticks(axes)
        _scatter(axes, search, trials, lambda trial: float(trial.values[path]))
        if parameter.log:
            plain_log_axis(axes.xaxis)
    axes.set_xlabel(in_plot(fitting(path, _LETTERS)))
    guides(axes)


def _whole_ticks(axes: "Axes") -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(7, integer=True))


def _scatter(
    axes: "Axes",
    search: SearchSpec,
    trials: Sequence[TrialResult],
    place: Callable[[TrialResult], float],
) -> None:
    """Trials that were trained to the end, and those that were pruned where they were."""
    for state, marker, color, label in (
        ("done", "o", VERMILION, "to the end"),
        ("pruned", "x", GREY, "pruned, at its last epoch"),
    ):
        shown = [trial for trial in ended_trials(trials) if trial.state == state]
        heights = [_shown(search, t.ended.value) for t in shown if t.ended is not None]
        if shown:
            xs = [place(trial) for trial in shown]
            axes.scatter(xs, heights, marker=marker, color=color, s=28, label=label, zorder=3)


def _shown(search: SearchSpec, value: float) -> float:
    return value if search.metric == "loss" else value * 100


def _axis_label(search: SearchSpec) -> str:
    unit = "" if search.metric == "loss" else " (%)"
    return f"validation {metric_name(search.metric)}{unit}"
