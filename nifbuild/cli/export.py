"""`nifbuild export`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from nifbuild.cli.loading import loading
from nifbuild.cli.options import CheckpointOption, JsonOption, Which
from nifbuild.cli.output import print_document


def export(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="RUN",
            help="A run directory, or a spec, with the weights that training would start from.",
            show_default=False,
        ),
    ],
    format: Annotated[
        Literal["onnx", "torch", "safetensors"],
        typer.Option(
            "--format",
            help="torch: a program of torch.export. safetensors: weights and spec, for "
            "nifbuild.load.",
        ),
    ] = "onnx",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="The file.",
            show_default="<name>.onnx, .pt2 or .safetensors",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the file that is there.")
    ] = False,
    size: Annotated[
        str | None,
        typer.Option(
            metavar="PIXELS",
            help="Of the images, such as 224 or 224x192.",
            show_default="the spec's",
        ),
    ] = None,
    batch: Annotated[
        str | None,
        typer.Option(
            metavar="N|dynamic", help="Images at once, or any number.", show_default="dynamic"
        ),
    ] = None,
    filters: Annotated[
        Literal["auto", "dft", "conv"] | None,
        typer.Option(
            help="How filters as large as the image are written. dft: transforms as products with "
            "constant matrices. conv: padding and a convolution as large as the image. auto: for "
            "each layer the faster one.",
            show_default="auto",
        ),
    ] = None,
    checkpoint: CheckpointOption = Which.SELECTED,
    data: Annotated[
        Path | None,
        typer.Option(help="A file whose `data` section takes the place of the run's."),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show warnings only.")] = False,
    json_output: JsonOption = False,
) -> None:
    """Write a model to a file for other programs, and check what was written.

    The file is read back, with onnxruntime for ONNX, and its outputs on images
    of the run's data are compared with the model's. Where they differ, the
    command fails and there is no file.
    """
    with loading():
        from nifbuild.machine.progress import reporter
        from nifbuild.report.export.export import export as export_model
        from nifbuild.report.export.export import read_request

    request = read_request(
        source,
        format=format,
        output=output,
        overwrite=overwrite,
        size=size,
        batch=batch,
        filters=filters,
        checkpoint=checkpoint.value,
        data=data,
    )
    exported = export_model(request, reporter(quiet))
    print_document(exported.document()) if json_output else typer.echo(str(exported))
