"""What an evaluation found of each image: as a table, and the worst mistakes as a picture."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nifbuild.evaluate.per_image import ImageFigures, PerImage
from nifbuild.report.output_file import require_files, write_table, written_file
from nifbuild.report.show.plots import SCREEN, VERMILION, fitting, in_plot, new_figure
from nifbuild.report.show.units import percent_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_CSV, _MISTAKES = "--csv", "--mistakes"
_MOST = 24
_COLUMNS = 6
_LETTERS = 20
_INCHES = 11


def require_writable(csv: Path | None, mistakes: Path | None, *, overwrite: bool) -> None:
    """Raises SpecError unless these files can be written."""
    for option, path, endings in (
        (_CSV, csv, (".csv",)),
        (_MISTAKES, mistakes, (".png", ".svg", ".pdf")),
    ):
        if path is not None:
            require_files(option, [path], endings, overwrite=overwrite)


def save_image_figures(
    found: PerImage, csv: Path | None, mistakes: Path | None, *, overwrite: bool
) -> None:
    """Writes the files that are asked for.

    Args:
        found: By the evaluation.
        csv: A row for each image: its name, its class, the one predicted, that one's probability,
            and the loss.
        mistakes: A picture of the images of the largest loss.
        overwrite: Whether files that are there are replaced.

    Raises:
        RunError: A file cannot be written.
    """
    if csv is not None:
        with written_file(_CSV, csv, overwrite=overwrite) as file:
            write_table(file, _rows(found))
    if mistakes is not None:
        figure = plot_mistakes(found)
        with written_file(_MISTAKES, mistakes, overwrite=overwrite) as file:
            SCREEN.save(figure, file)


def _rows(found: PerImage) -> Iterator[Sequence[object]]:
    yield ["image", "class", "predicted", "probability", "loss", "right"]
    names = found.class_names
    for image in found.figures:
        classes = names[image.label], names[image.predicted]
        yield [found.name(image.place), *classes, image.confidence, image.loss, int(image.is_right)]


@SCREEN.applied()
def plot_mistakes(found: PerImage) -> "Figure":
    """The images of the largest loss among those that were taken for another class."""
    worst = found.worst(_MOST)
    rows = -(-len(worst) // _COLUMNS)
    height, width = found.pixels(worst[0].place).shape[1:] if worst else (1, 1)
    figure = new_figure(_INCHES, 0.5 + rows * (0.6 + _INCHES / _COLUMNS * height / width))
    figure.suptitle(_title(found, worst), x=0.01, ha="left", fontsize=SCREEN.points)
    if not rows:
        return figure
    grid = figure.subplots(rows, _COLUMNS, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for axes, image in zip(grid.flat, worst, strict=False):
        pixels = found.pixels(image.place).permute(1, 2, 0).squeeze(-1).numpy()
        axes.imshow(pixels, cmap="gray", vmin=0, vmax=255)
        label, predicted = (
            in_plot(fitting(found.class_names[index], _LETTERS))
            for index in (image.label, image.predicted)
        )
        axes.set_title(f"{label}", pad=14)
        text = f"{predicted} {percent_text(image.confidence, 0)}"
        axes.text(0.5, 1.02, text, transform=axes.transAxes, ha="center", color=VERMILION)
    return figure


def _title(found: PerImage, worst: Sequence[ImageFigures]) -> str:
    figures = found.figures
    mistakes = sum(not image.is_right for image in figures)
    if not mistakes:
        return f"no mistake in {len(figures):,} images"
    which = f"all {mistakes} mistakes"
    if mistakes > len(worst):
        which = f"the {len(worst)} of {mistakes:,} mistakes with the largest loss"
    meaning = "the class, and below it the one that was found"
    return f"{which}, in {len(figures):,} images: {meaning}"
