"""A spec becomes a run: what is asked, checked before any work."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nifbuild.errors import Mark, Problem, SpecError
from nifbuild.machine.loading import loading
from nifbuild.machine.options import AnyPath, DataOption, SetOption, SpecArgument, checked

if TYPE_CHECKING:
    from nifbuild.machine.progress import Reporter
    from nifbuild.spec.resolve import Resolved
    from nifbuild.train.finished import Finished
    from nifbuild.train.run import Trained

OutOption = Annotated[
    AnyPath | None,
    typer.Option(
        "--out",
        "-o",
        help="The run directory.",
        show_default="runs/<name of the spec>",
        parser=str,  # a path would make the working directory of nothing
        metavar="PATH",
    ),
]
ResumeOption = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Continue the run where it stopped, if it was ever started; with more --epochs, "
        "beyond its end.",
    ),
]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Delete the run that is there, and start anew.")
]
EpochsOption = Annotated[int | None, typer.Option(help="Short for --set train.epochs=N.")]
BatchSizeOption = Annotated[int | None, typer.Option(help="Short for --set train.batch_size=N.")]
DeviceOption = Annotated[
    str | None, typer.Option(help="auto, cpu, cuda, cuda:1 or mps: --set train.device=D.")
]
PrecisionOption = Annotated[
    str | None, typer.Option(help="fp32, bf16 or fp16: --set train.precision=P.")
]
SeedOption = Annotated[int | None, typer.Option(help="Short for --set train.seed=N.")]


@checked
def train_spec(
    spec: SpecArgument,
    *,
    data: DataOption = None,
    overrides: SetOption = (),
    out: OutOption = None,
    resume: ResumeOption = False,
    overwrite: OverwriteOption = False,
    epochs: EpochsOption = None,
    batch_size: BatchSizeOption = None,
    device: DeviceOption = None,
    precision: PrecisionOption = None,
    seed: SeedOption = None,
    report: "Reporter | None" = None,
) -> "Trained":
    """Train a spec, and evaluate the result on its test images.

    The run directory holds all there is to know about it: `nifbuild evaluate` needs that, and
    the data, whose paths count from the working directory.
    At its end it has a model card, README.md, and report.html, with curves and images.
    Ctrl-C saves a checkpoint first; the same command with --resume continues exactly there.

    Returns:
        What the run's `metrics.json` says. In a process of a launcher, this is one of several that
        train together.

    Raises:
        SpecError: If an option or the spec is wrong, or the spec does not suit the data, the
            machine, or the run to be resumed.
        RunError: If another process writes to the run, or something fails on the way: data,
            disk, memory, a loss that is not finite.
        InterruptedRun: If a signal stopped it, after a checkpoint was saved.
    """
    short = {
        "epochs": epochs,
        "batch_size": batch_size,
        "device": device,
        "precision": precision,
        "seed": seed,
    }
    resolved, directory = _planned(spec, data, overrides, out, resume, overwrite, short)
    with resolved.placing():
        with loading():
            from nifbuild.machine.memory import OutOfMemory
            from nifbuild.train.run import train_run

        try:
            trained = train_run(
                resolved,
                directory,
                resume=resume,
                overwrite=overwrite,
                report=report,
                telling=_describe,
            )
        except OutOfMemory as error:
            from nifbuild.report.inspect.shortage import explain_shortage

            raise explain_shortage(error) from error
    _require_card(directory, report)
    return trained


def _describe(finished: "Finished") -> None:
    # Once the run is complete, as it takes longer to load than much else.
    from nifbuild.report.run_page import describe_run

    describe_run(finished)


def _require_card(directory: Path, report: "Reporter | None") -> None:
    """Writes the model card where a kill came before or in it, or the run is of an old version."""
    from nifbuild.machine.processes import is_first
    from nifbuild.machine.progress import Reporter
    from nifbuild.report.model_card import write_run_card
    from nifbuild.runs.directory import RunDirectory
    from nifbuild.runs.ownership import CARD, unfinished

    run = RunDirectory(directory)
    if is_first() and (not (directory / CARD).exists() or any(unfinished(directory))):
        with run.locked():
            run.remove_unfinished()
            write_run_card(run, report or Reporter())


def require_startable(
    spec: AnyPath,
    *,
    data: AnyPath | None = None,
    overrides: Sequence[str] = (),
    out: AnyPath | None = None,
    resume: bool = False,
    overwrite: bool = False,
    **short: object,
) -> None:
    """Raises SpecError where `train_spec` with these options would, before it loads anything."""
    from nifbuild.runs.directory import RunDirectory

    _, directory = _planned(spec, data, overrides, out, resume, overwrite, short)
    RunDirectory(directory).require_free(overwrite=overwrite, resume=resume)


def _planned(
    spec: AnyPath,
    data: AnyPath | None,
    overrides: Sequence[str],
    out: AnyPath | None,
    resume: bool,
    overwrite: bool,
    short: Mapping[str, object],
) -> "tuple[Resolved, Path]":
    """The spec, and where the run is to be."""
    with loading():
        from nifbuild.spec.resolve import load_spec

    if out is not None and not str(out).strip():
        # An empty variable in a script would mean the working directory, and --overwrite delete
        # there.
        fix = "or leave --out away"
        raise SpecError(Problem("it is empty: name a directory", Mark("--out"), fix=fix))
    if resume and overwrite:
        raise SpecError("--resume and --overwrite exclude each other", fix="leave one out")
    named = [f"train.{name}={value}" for name, value in short.items() if value is not None]
    for short_way in named:
        key = short_way.partition("=")[0]
        for override in overrides:
            if override.partition("=")[0].strip() == key and override.strip() != short_way:
                what = f"{override} and {short_way} (by a flag of its own) exclude each other"
                raise SpecError(Problem(what, Mark("--set"), fix="leave one out", code="option"))
    resolved = load_spec(spec, data=data, overrides=[*overrides, *named])
    directory = _usual_directory(Path(spec), resume, resolved.name) if out is None else Path(out)
    _require_apart(directory, resolved)
    return resolved, directory


def _usual_directory(spec: Path, resume: bool, name: str) -> Path:
    """Where a run goes that names no place; a run's own spec goes on with that run."""
    from nifbuild.spec.file_text import is_run

    if resume and spec.name == "spec.yaml" and is_run(spec.parent):
        return spec.parent
    return Path("runs") / name


def _require_apart(directory: Path, resolved: "Resolved") -> None:
    """Raises SpecError where a run would lie among the folders of images that it is trained on."""
    images = getattr(resolved.spec.data, "path", None)  # only folders of files have one
    if images is not None and _real(directory) == _real(images):
        what = "the images are there, and the run's folders would be taken for some of theirs"
        raise SpecError(Problem(what, Mark(f"--out {directory}"), fix="write elsewhere"))


def _real(path: AnyPath) -> str:
    return os.path.realpath(os.path.expanduser(path))  # noqa: PTH111 (`Path` refuses an unknown user)
