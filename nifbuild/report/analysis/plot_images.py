"""Figures with pictures: principal components, kernels, receptive fields."""

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from torch import Tensor

from nifbuild.report.analysis.analysis import NAMES, Analysis
from nifbuild.report.analysis.components import (
    NUM_COMPONENTS,
    NUM_SAMPLES,
    Components,
    Sample,
    crop,
)
from nifbuild.report.analysis.receptive_field import ReceptiveField
from nifbuild.report.filter_windows import effective_size, window_shares
from nifbuild.report.show.plots import (
    AMOUNTS,
    BOUNDARY,
    COLUMN_INCHES,
    INK,
    SIGNED,
    fitting,
    new_figure,
    short_names,
)
from nifbuild.report.show.units import percent_text, shape_text

_ROWS = 16
_MAX_STAGES = 5
_SHOWN_ENERGY = 0.95
_MIN_SHOWN = 5
_DECADES = 3
_MAX_LETTERS = 24
_LETTER_INCHES = 0.062
_SQUARES = ("-", "--")
"""Lines of the windows in a receptive field, by share."""


def plot_components(analysis: Analysis) -> Figure:
    """What do the filters have in common? Principal components, a row for each grid."""
    sets = [found for found in analysis.trained.components if found.explained]
    figure = new_figure(COLUMN_INCHES, 0.35 + 0.66 * max(len(sets), 1))
    grid = figure.subplots(max(len(sets), 1), NUM_COMPONENTS, squeeze=False)
    for row, found in zip(grid, sets, strict=False):
        images = _shown(found)
        for axes in row[len(images) :]:
            axes.set_axis_off()
        for axes, image, share in zip(row, images, found.explained, strict=False):
            _kernel(axes, image)
            axes.set_title(percent_text(share, 0) if share >= 0.005 else "<1%", pad=2)
        _row_label(row[0], f"{shape_text(found.grid)} pixels\n{_shown_text(images[0], found.grid)}")
    if not sets:
        for axes in grid.flat:
            axes.set_axis_off()
        figure.suptitle("all filters of a grid are alike")
    return figure


def _shown(found: Components) -> Tensor:
    """The window in which the components lie, weighted by what they explain."""
    energy = (found.images.square() * torch.tensor(found.explained)[:, None, None]).sum(0)
    window = int(effective_size(window_shares(energy[None], "mass"), _SHOWN_ENERGY))
    return crop(found.images, max(window, _MIN_SHOWN))


def plot_gallery(analysis: Analysis) -> list[Figure]:
    """What do the filters look like? Some of each layer, from small to large; 16 rows a figure."""
    samples = analysis.trained.samples
    names = short_names([sample.path for sample in samples])
    figures = []
    for start in range(0, len(samples), _ROWS):
        part = slice(start, start + _ROWS)
        figures.append(_gallery_page(samples[part], names[part]))
    return figures


def _gallery_page(samples: tuple[Sample, ...], names: list[str]) -> Figure:
    figure = new_figure(COLUMN_INCHES, 0.06 + 0.46 * len(samples))
    grid = figure.subplots(len(samples), NUM_SAMPLES, squeeze=False)
    for row, sample, name in zip(grid, samples, names, strict=True):
        for axes in row[len(sample.kernels) :]:
            axes.set_axis_off()
        for axes, kernel in zip(row, sample.kernels, strict=False):
            _kernel(axes, kernel)
        shown = fitting(name, _MAX_LETTERS)
        cut = _shown_text(sample.kernels[0], sample.grid)
        _row_label(row[0], f"{shown}\n{shape_text(sample.grid)}, {cut}")
    return figure


def plot_receptive_fields(analysis: Analysis) -> Figure:
    """What does the centre of each stage depend on? A column for each stage, at most five."""
    fields = analysis.trained.receptive_fields
    chosen = np.unique(np.linspace(0, len(fields) - 1, min(len(fields), _MAX_STAGES)).round())
    stages = [fields[int(index)] for index in chosen]
    letters = int(COLUMN_INCHES / max(len(stages), 3) / _LETTER_INCHES)
    # By the block that a stage ends in: its last module is most often a ReLU.
    blocks = [field.path.rpartition(".")[0] or field.path for field in stages]
    names = [fitting(name, letters) for name in short_names(blocks)]
    models = {name: m for name, m in analysis.models.items() if m.receptive_fields}
    shares = analysis.shares[: len(_SQUARES)]
    width = COLUMN_INCHES / max(len(stages), 3)
    figure = new_figure(COLUMN_INCHES, 1.2 + len(models) * (width + 0.12))
    grid = figure.subplots(len(models), len(stages), squeeze=False)
    for place, (name, model) in enumerate(models.items()):
        for axes, stage, short in zip(grid[place], stages, names, strict=True):
            axes.set_xticks([])
            axes.set_yticks([])
            found = model.receptive_field(stage.path)
            if found is None:
                axes.set_axis_off()
                continue
            picture = _field(axes, found, shares)
            if place == 0:
                axes.set_title(f"{short}\n{shape_text(stage.stage_size)}", pad=3)
        grid[place, 0].set_ylabel(NAMES[name])
    bar = figure.colorbar(picture, ax=grid, location="bottom", aspect=40, pad=0.02, fraction=0.06)
    bar.set_label("gradient over its largest value")
    _key_of_squares(figure, shares)
    return figure


def _key_of_squares(figure: Figure, shares: tuple[float, ...]) -> None:
    """What the squares are, and the numbers below them."""
    lines = [Line2D([], [], color=INK, ls=dashes, lw=0.8) for dashes in _SQUARES[: len(shares)]]
    sizes = [f"{percent_text(share, 0)} of its energy" for share in shares]
    figure.legend(
        lines,
        sizes,
        loc="outside upper center",
        ncols=len(lines),
        title="squares: smallest odd windows of the gradient with these shares;\n"
        "below: their sides in pixels",
    )


def _field(axes: Axes, field: ReceptiveField, shares: tuple[float, ...]) -> AxesImage:
    """The gradient on a logarithmic scale, and the windows with these shares of its energy."""
    gradient = field.gradient
    largest = gradient.max().clamp_min(torch.finfo(gradient.dtype).tiny)
    norm = LogNorm(10.0**-_DECADES, 1)
    shown = (gradient / largest).clamp_min(10.0**-_DECADES)
    picture = axes.imshow(shown.numpy(), cmap=AMOUNTS, norm=norm, interpolation="nearest")
    height, width = gradient.shape
    for share, dashes in zip(shares, _SQUARES, strict=False):
        size = field.energy_sizes[share]
        corner = (width // 2 - size / 2, height // 2 - size / 2)
        axes.add_patch(Rectangle(corner, size, size, fill=False, ec="white", ls=dashes, lw=0.8))
    axes.set_xlim(-0.5, width - 0.5)
    axes.set_ylim(height - 0.5, -0.5)
    axes.set_xlabel(" / ".join(str(field.energy_sizes[share]) for share in shares), labelpad=2)
    return picture


def _kernel(axes: Axes, kernel: Tensor) -> None:
    """A kernel, zero in white; each by its own largest value."""
    limit = max(kernel.abs().max().item(), 1e-30)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set(visible=True, color=BOUNDARY, linewidth=0.4)
    axes.imshow(kernel.numpy(), cmap=SIGNED, vmin=-limit, vmax=limit, interpolation="nearest")


def _row_label(axes: Axes, text: str) -> None:
    axes.text(-0.15, 0.5, text, transform=axes.transAxes, ha="right", va="center", linespacing=1.15)


def _shown_text(image: Tensor, grid: tuple[int, int]) -> str:
    shape = (image.shape[-2], image.shape[-1])
    return "all shown" if shape == grid else f"{shape_text(shape)} shown"
