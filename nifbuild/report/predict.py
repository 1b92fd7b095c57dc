"""The classes of image files by a run's model, and the same as a table in a file."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nifbuild.errors import keeping
from nifbuild.machine.loading import loading
from nifbuild.machine.options import (
    AnyPath,
    CheckpointOption,
    OverwriteOption,
    RunArgument,
    RunDeviceOption,
    checked,
)
from nifbuild.spec.image_size import Pixels

if TYPE_CHECKING:
    from nifbuild.evaluate.predict import Predictions
    from nifbuild.machine.progress import Reporter

ImagesArgument = Annotated[
    AnyPath | Sequence[AnyPath],
    typer.Argument(help="Image files, and folders to search for them.", show_default=False),
]
TopOption = Annotated[int, typer.Option(min=1, help="Classes to name for each image.")]
SizeOption = Annotated[
    Pixels | None,
    typer.Option(
        metavar="PIXELS",
        help="Size to bring the images to, such as 64 or 64x48 (height x width).",
        show_default="as in the run",
    ),
]
BatchSizeOption = Annotated[
    int | None, typer.Option(min=1, help="Images at once.", show_default="as in the run")
]
CsvOption = Annotated[
    AnyPath | None,
    typer.Option("--csv", metavar="FILE", help="Write a table to this file, too."),
]


@checked
def predict(
    run: RunArgument,
    images: ImagesArgument,
    *,
    top: TopOption = 1,
    checkpoint: CheckpointOption = "selected",
    size: SizeOption = None,
    device: RunDeviceOption = None,
    batch_size: BatchSizeOption = None,
    csv: CsvOption = None,
    overwrite: OverwriteOption = False,
    report: "Reporter | None" = None,
) -> "Predictions":
    """Name the classes of images, by the model of a run.

    Images are decoded, resized and normalised as in the evaluation of the run.
    One that cannot be read is named, and the exit code is then 1; the others are
    predicted nevertheless.

    Returns:
        One for each file; those that cannot be read say why.

    Raises:
        SpecError: If `run` is no run, the model cannot take the size, there is no file at all, or
            the table cannot be written.
        RunError: If a file of the run is missing or damaged.
    """
    with loading():
        from nifbuild.evaluate.predict import Predictions, predict_images
        from nifbuild.evaluate.sizes import parse_one_size
        from nifbuild.report.predictions import require_writable, save_predictions

    table = None if csv is None else Path(csv)
    if table is not None:
        require_writable(table, overwrite=overwrite)
    given = [images] if isinstance(images, str | os.PathLike) else images
    predicted = predict_images(
        run,
        given,
        top=top,
        checkpoint=checkpoint,
        size=None if size is None else parse_one_size(size),
        device=device,
        batch_size=batch_size,
        report=report,
    )
    found = Predictions(Path(run), tuple(predicted))
    if table is not None:
        with keeping(found):
            save_predictions(predicted, table, overwrite=overwrite)
    return found
