"""`nifbuild shrink`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from nifbuild.cli.loading import loading
from nifbuild.cli.options import CheckpointOption, JsonOption, Which
from nifbuild.cli.output import print_document


def shrink(
    run: Annotated[Path, typer.Argument(help="A run directory.", show_default=False)],
    mass: Annotated[
        float | None,
        typer.Option(
            help="Share of each layer's filters, as a sum of magnitudes, that its window keeps.",
            show_default="0.95",
        ),
    ] = None,
    kernel_size: Annotated[
        int | None,
        typer.Option(
            help="The window of every layer, in pixels; the whole grid where that is smaller."
        ),
    ] = None,
    max_drop: Annotated[
        str | None,
        typer.Option(
            metavar="POINTS",
            help="Find the smallest windows that lose so little top-1 on validation: 0.5pp.",
        ),
    ] = None,
    boundary: Annotated[
        Literal["circular", "zeros", "reflect", "replicate"] | None,
        typer.Option(help="What lies beyond the border.", show_default="as in each layer"),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            metavar="PIXELS",
            help="Of the images that the result is for, such as 224 or 224x192.",
            show_default="the run's",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="The run directory to write.", show_default="runs/<name>_shrunk"),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Delete the run that is there.")
    ] = False,
    finetune_epochs: Annotated[
        int,
        typer.Option(min=0, help="Then train for so many epochs, as the run was: OUT/finetuned."),
    ] = 0,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="For that training, such as train.optimizer.lr=1e-4. Repeatable.",
        ),
    ] = None,
    checkpoint: CheckpointOption = Which.SELECTED,
    data: Annotated[
        Path | None,
        typer.Option(help="A file whose `data` section takes the place of the run's."),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(help="auto, cpu, cuda, cuda:1 or mps.", show_default="as in the run"),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(min=1, help="Images to evaluate at once.", show_default="as in the run"),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show warnings only.")] = False,
    json_output: JsonOption = False,
) -> None:
    """Turn a run's learned filters into small ordinary convolutions.

    Each layer's filters are cut to their smallest odd window. What that changes
    is bounded, measured on real images, and shown beside accuracy, parameters
    and speed, before and after. The result is a run directory, with a spec and
    weights of plain PyTorch convolutions.
    """
    with loading():
        from nifbuild.machine.progress import reporter
        from nifbuild.report.shrink.request import read_request
        from nifbuild.report.shrink.result import print_result
        from nifbuild.report.shrink.shrink import shrink_run

    request = read_request(
        run,
        mass=mass,
        kernel_size=kernel_size,
        max_drop=max_drop,
        boundary=boundary,
        size=size,
        out=out,
        overwrite=overwrite,
        finetune_epochs=finetune_epochs,
        overrides=overrides or (),
        checkpoint=checkpoint.value,
        data=data,
        device=device,
        batch_size=batch_size,
    )
    result = shrink_run(request, reporter(quiet))
    print_document(result.document()) if json_output else print_result(result)
