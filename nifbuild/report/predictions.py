"""The classes of image files for people, and as CSV."""

from collections.abc import Sequence
from pathlib import Path

from nifbuild.errors import shown
from nifbuild.evaluate.predict import Prediction
from nifbuild.machine.terminal import Console
from nifbuild.report.output_file import require_files, write_table, written_file
from nifbuild.report.show.tables import framed_table
from nifbuild.report.show.units import percent_text

_OPTION = "--csv"


def print_predictions(found: Sequence[Prediction]) -> None:
    """Prints a row for each class of an image on stdout; what could not be read, on stderr."""
    table = framed_table(headings=("image", "class", "probability"), num_text=2)
    for prediction in found:
        for index, (name, share) in enumerate(prediction.classes):
            table.add_row("" if index else prediction.image, name, percent_text(share))
    if table.rows:
        Console().print(table)
    failed = [prediction for prediction in found if prediction.error]
    errors = Console(stderr=True, soft_wrap=True)
    for prediction in failed:
        errors.print(shown(f"error: {prediction.image}: {prediction.error}"))
    if failed:
        errors.print(f"{len(failed)} of {len(found)} images could not be predicted")


def require_writable(path: Path, *, overwrite: bool = False) -> None:
    """Raises SpecError unless a table can be written to the file."""
    require_files(_OPTION, [path], (".csv",), overwrite=overwrite)


def save_predictions(found: Sequence[Prediction], path: Path, *, overwrite: bool = False) -> None:
    """Writes a row for each image: its path, classes with probabilities, and the error.

    Raises:
        RunError: If the file cannot be written.
    """
    top = max(len(prediction.classes) for prediction in found)
    ranks = [name for i in range(1, top + 1) for name in (f"class_{i}", f"probability_{i}")]
    rows: list[Sequence[object]] = [["image", *ranks, "error"]]
    for prediction in found:
        cells = [cell for ranked in prediction.classes for cell in ranked]
        empty = [""] * (len(ranks) - len(cells))
        rows.append([prediction.image, *cells, *empty, prediction.error])
    with written_file(_OPTION, path, overwrite=overwrite) as file:
        write_table(file, rows)
