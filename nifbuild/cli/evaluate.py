"""`nifbuild evaluate`."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from nifbuild.cli.loading import loading
from nifbuild.cli.options import CheckpointOption, JsonOption, OverwriteOption, Which
from nifbuild.cli.output import print_document
from nifbuild.errors import SpecError
from nifbuild.machine.processes import is_first, is_launched

ConfusionOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--confusion",
        metavar="FILE",
        show_default=False,
        help="Write the confusion matrix: .csv, or a picture as .png, .svg or .pdf. Repeatable.",
    ),
]
ProcessesOption = Annotated[
    int | None,
    typer.Option(min=1, help="Evaluate in so many processes on this machine, one for each GPU."),
]


def evaluate(
    run: Annotated[Path, typer.Argument(help="A run directory.", show_default=False)],
    split: Annotated[
        str | None,
        typer.Option(
            help="train, validation or test.", show_default="that of the run's final figures"
        ),
    ] = None,
    checkpoint: CheckpointOption = Which.SELECTED,
    data: Annotated[
        Path | None,
        typer.Option(
            help="A file whose `data` section takes the place of the run's; classes are matched by "
            "name."
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            metavar="PIXELS",
            help="Sizes to bring the images to, such as 32,48,64 or 32x48 (height x width).",
            show_default="as --data wants, or as in the run",
        ),
    ] = None,
    confusion: ConfusionOption = None,
    overwrite: OverwriteOption = False,
    device: Annotated[
        str | None,
        typer.Option(help="auto, cpu, cuda, cuda:1 or mps.", show_default="as in the run"),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            min=1, help="Images at once, over all processes.", show_default="as in the run"
        ),
    ] = None,
    processes: ProcessesOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show warnings only.")] = False,
    json_output: JsonOption = False,
) -> None:
    """Evaluate a trained run: its final figures again, or those on other images.

    On the device that the run was trained on, its figures are the same to the
    last digit; on a processor with other instructions (AVX2, AVX-512) a few
    predictions may differ. With --size, the table has a row for each size, and --json gives
    a list.
    """
    with loading():
        from nifbuild.machine.launch import launch, require_processes
        from nifbuild.report.confusion import require_writable

    options = {
        "split": split,
        "checkpoint": checkpoint.value,
        "data": data,
        "size": size,
        "device": device,
        "batch_size": batch_size,
    }
    files = confusion or []
    if is_launched():
        require_processes(processes)
    else:
        require_writable(files, overwrite=overwrite)
        if processes is not None and processes > 1:
            command = [sys.executable, "-m", "nifbuild", "evaluate", str(run)]
            given = {name: value for name, value in options.items() if value is not None}
            command += [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
            command += [f"--confusion={file}" for file in files]
            flags = {"overwrite": overwrite, "quiet": quiet, "json": json_output}
            command += [f"--{name}" for name, wanted in flags.items() if wanted]
            launch(command, processes)
            return
    _evaluate_here(run, options, files, overwrite, quiet, json_output)


def _evaluate_here(
    run: Path,
    options: dict[str, Any],
    confusion: list[Path],
    overwrite: bool,
    quiet: bool,
    json_output: bool,
) -> None:
    from nifbuild.machine.launch import reporting_failure

    with reporting_failure():
        with loading():
            from nifbuild.evaluate.evaluate import evaluate_at_sizes
            from nifbuild.evaluate.sizes import parse_sizes
            from nifbuild.machine.progress import reporter
            from nifbuild.report.confusion import save_confusion
            from nifbuild.report.summary import print_sizes, print_summary

        size = options.pop("size")
        sizes = None if size is None else parse_sizes(size)
        if confusion and sizes is not None and len(sizes) > 1:
            raise SpecError("--confusion is for one size", fix="name one alone: --size 64")
        first = is_first()
        report = reporter(quiet) if first else None
        results = evaluate_at_sizes(run, sizes, **options, report=report)
        if not first:
            return
        try:
            for file in confusion:
                save_confusion(results[0], file, overwrite=overwrite)
        finally:  # what was computed is told even where it cannot be written
            if json_output:
                print_document(results[0] if sizes is None else results)
            elif sizes is None:
                print_summary(results[0])
            else:
                print_sizes(results)
