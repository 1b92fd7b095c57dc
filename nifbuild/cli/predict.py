"""`nifbuild predict`."""

from pathlib import Path
from typing import Annotated

import typer

from nifbuild.cli.loading import loading
from nifbuild.cli.options import CheckpointOption, JsonOption, OverwriteOption, Which
from nifbuild.cli.output import print_document
from nifbuild.errors import RunError


def predict(
    run: Annotated[Path, typer.Argument(help="A run directory.", show_default=False)],
    images: Annotated[
        list[Path],
        typer.Argument(help="Image files, and folders to search for them.", show_default=False),
    ],
    top: Annotated[int, typer.Option(min=1, help="Classes to name for each image.")] = 1,
    checkpoint: CheckpointOption = Which.SELECTED,
    size: Annotated[
        str | None,
        typer.Option(
            metavar="PIXELS",
            help="Size to bring the images to, such as 64 or 64x48 (height x width).",
            show_default="as in the run",
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(help="auto, cpu, cuda, cuda:1 or mps.", show_default="as in the run"),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Images at once.", show_default="as in the run")
    ] = None,
    csv: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="Write a table to this file, too.")
    ] = None,
    overwrite: OverwriteOption = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
    json_output: JsonOption = False,
) -> None:
    """Name the classes of images, by the model of a run.

    Images are decoded, resized and normalised as in the evaluation of the run.
    One that cannot be read is named, and the exit code is then 1; the others are
    predicted nevertheless.
    """
    with loading():
        from nifbuild.evaluate.predict import predict_images
        from nifbuild.evaluate.sizes import parse_one_size
        from nifbuild.machine.progress import reporter
        from nifbuild.report.predictions import (
            as_document,
            print_predictions,
            require_writable,
            save_predictions,
        )

    if csv is not None:
        require_writable(csv, overwrite=overwrite)
    found = predict_images(
        run,
        images,
        top=top,
        checkpoint=checkpoint.value,
        size=None if size is None else parse_one_size(size),
        device=device,
        batch_size=batch_size,
        report=reporter(quiet),
    )
    try:
        if csv is not None:
            save_predictions(found, csv, overwrite=overwrite)
    finally:  # what was computed is told even where it cannot be written
        print_document(as_document(found, run)) if json_output else print_predictions(found)
    if any(prediction.error for prediction in found):
        raise typer.Exit(RunError.exit_code)
