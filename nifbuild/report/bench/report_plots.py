"""Reports as figures, fit for a README."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from nifbuild.report.bench.contenders import THIS_LAYER
from nifbuild.report.bench.growth import GrowthReport
from nifbuild.report.bench.layers import Figures, LayersReport
from nifbuild.report.bench.report_tables import machine_text
from nifbuild.report.bench.step import StepReport
from nifbuild.report.measure import Quartiles
from nifbuild.report.output_file import written_file
from nifbuild.report.show.plots import (
    COLORS,
    GREY,
    INK,
    MARKERS,
    SCREEN,
    common_legend,
    guides,
    in_plot,
    new_figure,
    plain_log_axis,
)
from nifbuild.report.show.units import mebibytes, shape_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plot_report(
    report: LayersReport | GrowthReport | StepReport, path: Path, *, overwrite: bool = False
) -> None:
    """Draws a report to a file, in the format that its name ends in.

    Args:
        report: The measurements.
        path: The file.
        overwrite: Replace the one that is there.

    Raises:
        RunError: If the file cannot be written.
    """
    figure = _drawn(report)
    with written_file("--plot", path, overwrite=overwrite) as file:
        SCREEN.save(figure, file)


@SCREEN.applied()
def _drawn(report: LayersReport | GrowthReport | StepReport) -> "Figure":
    if isinstance(report, LayersReport):
        figure = plot_layers(report)
    elif isinstance(report, GrowthReport):
        figure = plot_growth(report)
    else:
        figure = plot_step(report)
    figure.supxlabel(in_plot(machine_text(report.environment)), fontsize="small", color=GREY)
    return figure


def plot_layers(report: LayersReport) -> "Figure":
    """Time and peak memory of the contenders over this layer's, a row for each shape."""
    figure = new_figure(10, max(3.2, 1.6 + 0.55 * len(report.shapes)))
    time, memory = figure.subplots(1, 2, sharey=True)
    _rows(time, report, lambda figures, _: figures.forward_backward_ratio)
    time.set_title("Forward + backward: time")
    time.set_xscale("log")
    plain_log_axis(time.xaxis)
    time.set_xlabel("time / time of this layer (median, interquartile range)\nmore than 1: slower")
    _rows(memory, report, lambda figures, layer: _exact(figures.peak_bytes / layer.peak_bytes))
    memory.set_title("Forward + backward: peak memory")
    memory.set_xlim(left=0)
    memory.set_xlabel("bytes / bytes of this layer\nmore than 1: needs more")
    time.set_yticks(range(len(report.shapes)), [str(shape.shape) for shape in report.shapes])
    time.set_ylabel("batch x channels x\nheight x width")  # one line is taller than a row
    time.invert_yaxis()
    common_legend(figure, time, columns=7)
    return figure


def _rows(
    axes: "Axes", report: LayersReport, ratio: Callable[[Figures, Figures], Quartiles]
) -> None:
    names = [name for name in report.overall_ratios() if name != THIS_LAYER]
    for row, shape in enumerate(report.shapes):
        layer = next(figures for figures in shape.contenders if figures.name == THIS_LAYER)
        for figures in shape.contenders:
            if figures is layer:
                continue
            index = names.index(figures.name)
            found = ratio(figures, layer)
            axes.errorbar(
                found.median,
                row + 0.7 * ((index + 0.5) / len(names) - 0.5),
                xerr=[[found.median - found.first], [found.third - found.median]],
                fmt=MARKERS[index % len(MARKERS)],
                color=COLORS[index % len(COLORS)],
                markersize=5,
                label=figures.name,
            )
        if row % 2:
            axes.axhspan(row - 0.5, row + 0.5, color="0.95", zorder=0)
    axes.axvline(1, color=INK, linewidth=1.5, zorder=1, label="this layer")
    axes.set_ylim(-0.5, len(report.shapes) - 0.5)
    guides(axes, "x")


def _exact(value: float) -> Quartiles:
    return Quartiles(value, value, value, 1)


def plot_growth(report: GrowthReport) -> "Figure":
    """Time for a fixed number of values against the size of the image."""
    figure = new_figure(6, 4)
    axes = figure.subplots()
    sizes = [figures.size for figures in report.sizes]
    medians = [figures.growth.median for figures in report.sizes]
    below = [figures.growth.median - figures.growth.first for figures in report.sizes]
    above = [figures.growth.third - figures.growth.median for figures in report.sizes]
    axes.errorbar(
        sizes,
        medians,
        yerr=[below, above],
        fmt="o-",
        capsize=3,
        color=COLORS[0],
        label="this layer (median, interquartile range)",
    )
    predicted = [figures.n_log_n_growth for figures in report.sizes]
    axes.plot(sizes, predicted, "s--", color=COLORS[1], label="N log N in the number of pixels")
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.set_ylim(bottom=0)
    axes.set_title("Forward + backward, the same number of values at each size")
    axes.set_xlabel("height and width of image and filter (pixels)")
    axes.set_ylabel(f"time / time at {min(sizes)} pixels")
    axes.legend()
    guides(axes, "y")
    return figure


def plot_step(report: StepReport) -> "Figure":
    """Time and peak memory of a training step of each spec."""
    figure = new_figure(9, 1.6 + 0.6 * len(report.specs))
    time, memory = figure.subplots(1, 2, sharey=True)
    rows = range(len(report.specs))
    for row, figures in enumerate(report.specs):
        step = figures.step_ms
        time.barh(row, step.median, color=COLORS[row % len(COLORS)], height=0.6)
        time.errorbar(
            step.median,
            row,
            xerr=[[step.median - step.first], [step.third - step.median]],
            color=INK,
            capsize=3,
        )
        memory.barh(row, mebibytes(figures.peak_bytes), color=COLORS[row % len(COLORS)], height=0.6)
        peak_ratio = figures.peak_bytes / report.specs[0].peak_bytes
        for axes, ratio in ((time, figures.ratio.median), (memory, peak_ratio)):
            place = {"va": "center", "color": "white", "weight": "bold"}
            axes.text(0.02, row, f"{ratio:.2f}x", transform=axes.get_yaxis_transform(), **place)
    time.set_yticks(rows, [in_plot(figures.spec) for figures in report.specs])
    time.invert_yaxis()
    shape = shape_text(report.specs[0].input_shape)
    time.set_title(f"Training step of {report.batch} images of {shape}")
    time.set_xlabel("ms (median, interquartile range)")
    memory.set_title("Peak memory beyond weights")
    memory.set_xlabel("MiB")
    return figure
