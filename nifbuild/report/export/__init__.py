"""From a model to files that other programs load.

Reading order: `export` (what is asked), `exported` (what happens), `source` (run or spec), `plain`
(the filters as constants), `formats` (how each file is written and read back).
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from nifbuild.errors import SpecError, option_problem
from nifbuild.machine.loading import loading
from nifbuild.machine.options import AnyPath, CheckpointOption, RunDataOption, checked
from nifbuild.spec.image_size import Pixels

if TYPE_CHECKING:
    from nifbuild.machine.progress import Reporter
    from nifbuild.report.export.exported import Exported

SourceArgument = Annotated[
    AnyPath,
    typer.Argument(
        metavar="RUN",
        help="A run directory, or a spec, with the weights that training would start from.",
        show_default=False,
    ),
]
FormatOption = Annotated[
    Literal["onnx", "torch", "safetensors"] | None,
    typer.Option(
        "--format",
        help="torch: a program of torch.export. safetensors: weights and spec, for nifbuild.load.",
        show_default="as the file's name says; else onnx",
    ),
]
OutputOption = Annotated[
    AnyPath | None,
    typer.Option(
        "--output",
        "--out",  # as other commands call it
        "-o",
        metavar="PATH",
        help="The file, with a model card beside it; or a folder that is there, for both, as the "
        "Hugging Face hub wants them.",
        show_default="<name>.onnx, .pt2 or .safetensors",
    ),
]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace the file that is there.")
]
SizeOption = Annotated[
    Pixels | None,
    typer.Option(
        metavar="PIXELS",
        help="Of the images, such as 224 or 224x192.",
        show_default="the spec's",
    ),
]
BatchOption = Annotated[
    str | int | None,
    typer.Option(
        metavar="N|dynamic", help="Images at once, or any number.", show_default="dynamic"
    ),
]
FiltersOption = Annotated[
    Literal["auto", "dft", "conv"] | None,
    typer.Option(
        help="How filters as large as the image are written. dft: transforms as products with "
        "constant matrices. conv: padding and a convolution as large as the image. auto: for "
        "each layer the faster one.",
        show_default="auto",
    ),
]

EndToEndOption = Annotated[
    bool,
    typer.Option(
        "--end-to-end",
        help="From pixels (0 to 255) to probabilities: normalisation and softmax are in the file.",
    ),
]


@checked
def export(
    source: SourceArgument,
    *,
    format: FormatOption = None,
    output: OutputOption = None,
    overwrite: OverwriteOption = False,
    size: SizeOption = None,
    batch: BatchOption = None,
    filters: FiltersOption = None,
    end_to_end: EndToEndOption = False,
    checkpoint: CheckpointOption = "selected",
    data: RunDataOption = None,
    report: "Reporter | None" = None,
) -> "Exported":
    """Write a model to a file for other programs, and check what was written.

    The file is read back, with onnxruntime for ONNX, and its outputs on images
    of the run's data are compared with the model's. Where they differ, the
    command fails and there is no file. Beside it, a model card (FILE.md, or
    README.md in a folder that is named) says what it is and how to use it.

    Returns:
        What was written, and how far it is from the model.

    Raises:
        SpecError: The source, an option or an installed package is wrong, an option has no effect
            on the format, or the file exists.
        RunError: The file cannot be written, or computes something else; it is then not there.
    """
    with loading():
        from nifbuild.evaluate.sizes import parse_one_size
        from nifbuild.report.export.exported import chosen_format, write_source
        from nifbuild.report.export.formats import require_packages
        from nifbuild.report.export.source import open_source
        from nifbuild.spec.shipped import spec_path

    format = chosen_format(format, output)
    if format == "safetensors":
        given = {"--size": size, "--batch": batch, "--filters": filters}
        _require_none({**given, "--end-to-end": end_to_end or None})
    pixels = None if size is None else parse_one_size(size)
    count = None if batch in (None, "dynamic") else _batch(str(batch))
    if format == "onnx":
        require_packages()
    return write_source(
        open_source(spec_path(source), pixels, checkpoint, data),
        format,
        None if output is None else Path(output),
        overwrite=overwrite,
        batch=count,
        filters=filters or "auto",
        end_to_end=end_to_end,
        data=data,
        report=report,
    )


def _require_none(given: dict[str, object]) -> None:
    for flag, value in given.items():
        if value is not None:
            what = "it has no effect on --format safetensors, which has the weights alone"
            raise SpecError(option_problem(flag, what, f"leave {flag} out"))


def _batch(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        what, fix = f"'{text}' is no batch", "give a number of images, or dynamic"
        raise SpecError(option_problem(f"--batch {text}", what, fix))
    return int(text)
