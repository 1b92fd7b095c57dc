"""`nifbuild train`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nifbuild.cli.loading import loading
from nifbuild.cli.options import DataOption, JsonOption, SetOption, SpecArgument
from nifbuild.cli.output import print_document
from nifbuild.machine.processes import is_first, is_launched

if TYPE_CHECKING:
    from nifbuild.spec.resolve import Resolved


def _named(directory: str) -> Path:
    # An empty variable in a script would mean the working directory, and --overwrite delete there.
    if not directory.strip():
        raise typer.BadParameter("it is empty: name a directory, or leave --out away")
    return Path(directory)


OutOption = Annotated[
    Path | None,
    typer.Option(
        "--out",
        help="The run directory.",
        show_default="runs/<name of the spec>",
        parser=_named,
        metavar="PATH",
    ),
]
ProcessesOption = Annotated[
    int | None,
    typer.Option(
        "--processes", min=1, help="Train in so many processes on this machine, one for each GPU."
    ),
]


def train(
    spec: SpecArgument,
    data: DataOption = None,
    overrides: SetOption = None,
    out: OutOption = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Continue the run where it stopped, if it was ever started; with more --epochs, "
            "beyond its end.",
        ),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Delete the run that is there, and start anew.")
    ] = False,
    processes: ProcessesOption = None,
    epochs: Annotated[int | None, typer.Option(help="Short for --set train.epochs=N.")] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Short for --set train.batch_size=N.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="auto, cpu, cuda, cuda:1 or mps: --set train.device=D.")
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="fp32, bf16 or fp16: --set train.precision=P.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Short for --set train.seed=N.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show warnings only.")] = False,
    json_output: JsonOption = False,
) -> None:
    """Train a spec, and evaluate the result on its test images.

    The run directory holds all there is to know about it: `nifbuild evaluate` needs nothing else.
    Ctrl-C saves a checkpoint first; the same command with --resume continues exactly there.
    """
    with loading():
        from nifbuild.errors import SpecError
        from nifbuild.machine.launch import launch, require_processes
        from nifbuild.spec.resolve import load_spec

    short = {
        "epochs": epochs,
        "batch_size": batch_size,
        "device": device,
        "precision": precision,
        "seed": seed,
    }
    settings = [*(overrides or ())]
    settings += [f"train.{name}={value}" for name, value in short.items() if value is not None]
    if resume and overwrite:
        raise SpecError("--resume and --overwrite exclude each other", fix="leave one out")
    resolved = load_spec(spec, data=data, overrides=settings)
    directory = out or Path("runs") / resolved.name

    if is_launched():
        require_processes(processes)
    elif processes is not None and processes > 1:
        from nifbuild.runs.directory import RunDirectory

        RunDirectory(directory).require_free(overwrite=overwrite, resume=resume)
        command = [sys.executable, "-m", "nifbuild", "train", str(spec), "--out", str(directory)]
        command += ["--data", str(data)] if data is not None else []
        command += [word for setting in settings for word in ("--set", setting)]
        flags = {"resume": resume, "overwrite": overwrite, "quiet": quiet, "json": json_output}
        launch([*command, *(f"--{name}" for name, given in flags.items() if given)], processes)
        return

    _train_here(resolved, directory, resume, overwrite, quiet, json_output)


def _train_here(
    resolved: "Resolved",
    directory: Path,
    resume: bool,
    overwrite: bool,
    quiet: bool,
    json_output: bool,
) -> None:
    from nifbuild.machine.launch import reporting_failure

    with reporting_failure(), resolved.placing():
        with loading():
            from nifbuild.machine.memory import OutOfMemory
            from nifbuild.machine.progress import reporter
            from nifbuild.report.summary import print_summary
            from nifbuild.train.run import train_run

        first = is_first()
        try:
            result = train_run(
                resolved,
                directory,
                resume=resume,
                overwrite=overwrite,
                report=reporter(quiet) if first else None,
            )
        except OutOfMemory as error:
            from nifbuild.report.inspect.shortage import explain_shortage

            raise explain_shortage(error) from error
        if first:
            print_document(result) if json_output else print_summary(result)
