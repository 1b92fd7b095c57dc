"""`nifbuild analyze`."""

from pathlib import Path
from typing import Annotated

import typer

from nifbuild.cli.loading import loading
from nifbuild.cli.options import CheckpointOption, JsonOption, OverwriteOption, Which
from nifbuild.cli.output import print_document


def analyze(
    run: Annotated[Path, typer.Argument(help="A run directory.", show_default=False)],
    against: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Set another run beside it.", show_default=False),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            metavar="PIXELS",
            help="Size of the images, such as 224 or 224x192.",
            show_default="as in the run",
        ),
    ] = None,
    shares: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help="Of a kernel, for which to give the smallest window.",
            show_default="0.5,0.9,0.95",
        ),
    ] = None,
    images: Annotated[
        int, typer.Option(min=0, help="Images for the receptive field; 0: leave it out.")
    ] = 32,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where to write.", show_default="RUN/analysis"),
    ] = None,
    overwrite: OverwriteOption = False,
    checkpoint: CheckpointOption = Which.SELECTED,
    data: Annotated[
        Path | None,
        typer.Option(help="A file whose `data` section takes the place of the run's."),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(help="auto, cpu, cuda, cuda:1 or mps.", show_default="as in the run"),
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """See how large the filters are that a run has learned, layer by layer.

    Kernel mass and energy in odd windows, spectra, principal components, kernels and effective
    receptive fields, on the grid that each layer sees, beside the same before training. Writes
    analysis.json, plots and report.html.
    """
    with loading():
        from nifbuild.machine.terminal import StatusLine
        from nifbuild.report.analysis import analyze_run, read_request
        from nifbuild.report.analysis.layer_table import print_analysis
        from nifbuild.report.analysis.write import require_writable, write_analysis

    request = read_request(
        run,
        against=against,
        size=size,
        shares=shares,
        num_images=images,
        checkpoint=checkpoint.value,
        data=data,
        device=device,
        out=out,
        overwrite=overwrite,
    )
    require_writable(request.out, overwrite=request.overwrite)
    with StatusLine() as status:
        analysis = analyze_run(request, status.show)
        status.show("drawing")
        page = None
        try:
            page = write_analysis(analysis, request.out, overwrite=request.overwrite)
        finally:  # what was computed is told even where it cannot be written
            status.clear()
            print_document(analysis.as_document()) if json_output else print_analysis(
                analysis, page
            )
