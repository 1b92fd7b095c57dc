"""The confusion matrix of an evaluation, as a picture and as a table."""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nifbuild.report.output_file import require_files, write_table, written_file
from nifbuild.report.show.plots import SCREEN, SHARES, in_plot, new_figure
from nifbuild.report.show.units import percent_text, shape_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from torch import Tensor

    from nifbuild.evaluate.result import Evaluation

_OPTION = "--confusion"
_ENDINGS = (".png", ".svg", ".pdf", ".csv")
_COUNTED_CLASSES = 20
"""Up to so many classes each cell shows its count."""
_MOST_CELLS = 1000
"""So many beside each other a picture has; of more classes neighbours share one."""
_MAX_LABEL = 24
"""Characters of a class name; the middle of a longer one is left out."""
_LABEL_POINTS = 8.0
_LABEL_PITCH = 0.15
"""Inches from one class name to the next that keep them apart."""
_NO_SHARE = "0.85"
"""Grey of the row of a class without images."""


def require_writable(paths: Sequence[Path], *, overwrite: bool = False) -> None:
    """Raises SpecError for each file whose ending is unknown, or which cannot be written."""
    require_files(_OPTION, paths, _ENDINGS, overwrite=overwrite)


def save_confusion(result: "Evaluation", path: Path, *, overwrite: bool = False) -> None:
    """Writes the confusion matrix to a file: .csv is a table of counts, others are pictures.

    Of more than 1,000 classes the table has a row for each pair of them that occurs.

    Args:
        result: What `evaluate_run` gave.
        path: The file.
        overwrite: Replace the one that is there.

    Raises:
        RunError: If it cannot be written.
    """
    with written_file(_OPTION, path, overwrite=overwrite) as file:
        if path.suffix.lower() == ".csv":
            write_table(file, _rows(result))
        else:
            # Beside few classes the layout leaves too little room for what is around them.
            SCREEN.save(plot_confusion(result), file, bbox_inches="tight")


def _rows(result: "Evaluation") -> Iterator[Sequence[object]]:
    names, matrix = [entry.name for entry in result.per_class], _matrix(result)
    if not matrix.is_sparse:
        yield ["true \\ predicted", *names]
        for name, counts in zip(names, matrix.tolist(), strict=True):
            yield [name, *counts]
        return
    yield ["true", "predicted", f"{_counted(result)}s"]
    pairs = zip(*matrix.indices().tolist(), matrix.values().tolist(), strict=True)
    for true, predicted, count in pairs:
        yield [names[true], names[predicted], count]


def _matrix(result: "Evaluation") -> "Tensor":
    assert result.confusion_matrix is not None  # it was evaluated here and now
    return result.confusion_matrix


@SCREEN.applied()
def plot_confusion(result: "Evaluation") -> "Figure":
    """Draws true classes as rows, predicted ones as columns.

    A cell's colour is its share of the row, so that classes with few images are seen alike, on a
    square-root scale, so that a confusion of one in a hundred is seen at all. The row of a class
    without images is grey. Up to 20 classes, cells show their counts; where there are more classes
    than fit, only every second, fifth or so is named. Of more than 1,000, as many neighbours share
    a row and a column as it takes.
    """
    from matplotlib import colormaps
    from matplotlib.colors import PowerNorm

    together = -(-len(result.per_class) // _MOST_CELLS)
    counts = _together(_matrix(result), together)
    names = [_label(entry.name) for entry in result.per_class[::together]]
    side = min(max(0.42 * len(names), 2.8), 9.0)
    margin = max(map(_inches, names))
    figure = new_figure(side + margin + 1.9, side + margin + 1.2)
    axes = figure.subplots()
    axes.spines[:].set_visible(True)
    colours = colormaps[SHARES].with_extremes(bad=_NO_SHARE)
    scale = PowerNorm(0.5, vmin=0, vmax=1)
    shares = (counts.double() / counts.sum(1, keepdim=True)).numpy()
    image = axes.imshow(shares, cmap=colours, norm=scale)
    bar = figure.colorbar(image, ax=axes, fraction=0.046, pad=0.03)
    bar.set_ticks([0, 0.01, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1], minor=False)
    bar.ax.yaxis.set_major_formatter(lambda share, _: percent_text(share, 0))
    of = "the true class's" if together == 1 else "the row's"
    bar.set_label(f"share of {of} {_counted(result)}s (square-root scale)")
    _name_classes(axes, names, side / len(names), together)
    if len(names) <= _COUNTED_CLASSES:
        _write_counts(axes, counts.tolist(), shares.tolist(), 72 * side / len(names))
    axes.set_title(_title(result))
    return figure


def _together(matrix: "Tensor", number: int) -> "Tensor":
    """The counts [rows, columns] where so many neighbouring classes share a row and a column."""
    if number == 1:
        return matrix.to_dense()
    import torch

    pairs = matrix if matrix.is_sparse else matrix.to_sparse()
    cells = -(-len(matrix) // number)
    rows, columns = pairs.indices() // number
    counts = torch.zeros(cells * cells, dtype=torch.int64)
    return counts.index_add(0, rows * cells + columns, pairs.values()).view(cells, cells)


def _title(result: "Evaluation") -> str:
    size = shape_text(result.size)
    data = f" of {_label(result.data)}" if result.data else ""
    count = result.num_samples if result.num_pixels is None else result.num_pixels
    counted = f"{count:,} {_counted(result)}" + ("s" if count > 1 else "")
    return (
        f"{_label(result.name)} on {result.split}{data} at {size}\n"
        f"accuracy {percent_text(result.top1)} of {counted}"
    )


def _counted(result: "Evaluation") -> str:
    return "image" if result.num_pixels is None else "pixel"


def _label(text: str) -> str:
    """A name as matplotlib draws it, on one short line."""
    text = " ".join(text.split())
    if len(text) > _MAX_LABEL:
        half = _MAX_LABEL // 2
        text = f"{text[:half]}…{text[-half:]}"
    return in_plot(text)


def _inches(label: str) -> float:
    return 0.6 * len(label) * _LABEL_POINTS / 72


def _name_classes(axes: "Axes", names: Sequence[str], cell: float, together: int) -> None:
    """Names as many rows as fit beside cells of so many inches, by the first class of each."""
    steps = (m * 10**e for e in itertools.count() for m in (1, 2, 5))
    step = next(step for step in steps if step * cell >= _LABEL_PITCH)
    places = range(0, len(names), step)
    shown = [names[place] for place in places]
    upright = max(map(_inches, shown)) > 0.9 * step * cell
    axes.set_xticks(places, shown, rotation=90 if upright else 0, fontsize=_LABEL_POINTS)
    axes.set_yticks(places, shown, fontsize=_LABEL_POINTS)
    share_one = "" if together == 1 else f"; a cell is {together} classes wide"
    left_out = "" if step == 1 else f" (1 of {step * together} is named{share_one})"
    axes.set_xlabel(f"predicted class{left_out}")
    axes.set_ylabel(f"true class{left_out}")


def _write_counts(
    axes: "Axes",
    counts: Sequence[Sequence[int]],
    shares: Sequence[Sequence[float]],
    cell_points: float,
) -> None:
    longest = max(len(f"{count:,}") for row in counts for count in row)
    size = min(10.0, 0.85 * cell_points / (0.6 * longest))
    for row, line in enumerate(counts):
        for column, (count, share) in enumerate(zip(line, shares[row], strict=True)):
            dark = share < 0.25  # not so where there is no share, and the cell is pale grey
            colour = "white" if dark else "black"
            axes.text(
                column, row, f"{count:,}", ha="center", va="center", color=colour, fontsize=size
            )
