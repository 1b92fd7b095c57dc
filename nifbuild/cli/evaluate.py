"""`nifbuild evaluate`."""

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from nifbuild.cli.loading import loading
from nifbuild.cli.options import JsonOption
from nifbuild.cli.output import print_document


class Which(StrEnum):
    """Checkpoints that people name."""

    BEST = "best"
    LAST = "last"


def evaluate(
    run: Annotated[Path, typer.Argument(help="A run directory.", show_default=False)],
    split: Annotated[
        str | None,
        typer.Option(
            help="train, validation or test.", show_default="that of the run's final figures"
        ),
    ] = None,
    checkpoint: Annotated[
        Which, typer.Option(help="The best on validation, or the last one.")
    ] = Which.BEST,
    data: Annotated[
        Path | None,
        typer.Option(help="A file whose `data` section takes the place of the run's."),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(help="auto, cpu, cuda, cuda:1 or mps.", show_default="as in the run"),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Images at once.", show_default="as in the run")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show warnings only.")] = False,
    json_output: JsonOption = False,
) -> None:
    """Evaluate a trained run: its final figures again, or those on other images.

    On the device that the run was trained on, its figures are the same to the last digit.
    """
    with loading():
        from nifbuild.train.progress import reporter
        from nifbuild.train.summary import print_summary
        from nifbuild.train.trained import evaluate_run

    is_first = int(os.environ.get("RANK", 0)) == 0
    result = evaluate_run(
        run,
        split=split,
        checkpoint=checkpoint.value,
        data=data,
        device=device,
        batch_size=batch_size,
        report=reporter(quiet) if is_first else None,
    )
    if is_first:
        print_document(result) if json_output else print_summary(result)
