"""`nifbuild ablate run`."""

import re
import sys
from typing import Annotated, Literal

import typer

from nifbuild.cli.ablate.options import DirectoryOption, StudyArgument, open_study
from nifbuild.cli.output import print_document, say
from nifbuild.machine.loading import loading
from nifbuild.machine.options import JsonOption

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(s|m|h|)")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600}


def _seconds(text: str) -> float:
    found = _DURATION.fullmatch(text.strip())
    if found is None or not float(found[1]):
        raise typer.BadParameter(f"expected a time such as 90s, 30m or 2h, got '{text}'")
    return float(found[1]) * _SECONDS[found[2]]


def run(
    study: StudyArgument,
    directory: DirectoryOption = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Cells at once on this machine; they share its cores, and take turns at its GPUs.",
            show_default="1",
        ),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N", help="Run the I-th of N parts, for as many machines.", show_default="all"
        ),
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(
            parser=_seconds,
            metavar="TIME",
            help="A cell that takes longer at a stretch has failed, as in 30m.",
            show_default="none",
        ),
    ] = None,
    engine: Annotated[
        Literal["local", "ray"],
        typer.Option(help="What runs the cells: processes of this machine, or Ray."),
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option(help="Of a Ray cluster, or auto.", show_default="Ray on this machine"),
    ] = None,
    cpus_per_cell: Annotated[
        float | None, typer.Option(min=0.1, help="With Ray.", show_default="1")
    ] = None,
    gpus_per_cell: Annotated[
        float | None, typer.Option(min=0, help="With Ray; may be a fraction.", show_default="0")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    json_output: JsonOption = False,
) -> None:
    """Train all cells of a study that are not done yet.

    Interrupt it at any time: the same command goes on where it stopped. A cell that fails keeps its
    log, the others go on, and the next run tries it again. Cells whose figures are damaged, or of
    other data, code or versions than those here, are run again. Several runs may share one
    directory, but not of a search, whose trials depend on each other: the same command with the
    same --workers gives the same trials, however often it is interrupted. Exit code 1 if a cell
    failed.
    """
    with loading():
        from nifbuild.ablate.local import LocalEngine
        from nifbuild.ablate.plan import make_plan
        from nifbuild.ablate.run import (
            Summary,
            chosen_engine,
            interruptions_told,
            parse_shard,
            prepare,
            run_tasks,
        )
        from nifbuild.ablate.search_plan import ends_plan
        from nifbuild.ablate.search_run import require_one_machine, run_search
        from nifbuild.ablate.study_progress import progress_on_stderr
        from nifbuild.errors import BudgetError, RunError

    start_engine = chosen_engine(
        engine, workers, address=address, cpus=cpus_per_cell, gpus=gpus_per_cell, timeout=timeout
    )
    part = (1, 1) if shard is None else parse_shard(shard)
    found, store = open_study(study, directory)
    if found.space is not None:
        require_one_machine(engine, shard)
    progress = progress_on_stderr(quiet)
    with interruptions_told():
        plan = make_plan(found, store) if found.space is None else ends_plan(found, store)
        if plan.exceeded:
            raise BudgetError(plan.exceeded)
        if found.space is not None:
            local = start_engine()
            assert isinstance(local, LocalEngine)  # no other one was asked for
            summary: Summary = run_search(found, store, local, progress)
        else:
            for warning in plan.collected.warnings():
                typer.echo(f"warning: {warning}, and run again", err=True)
            if plan.changed_seeds:
                typer.echo(f"warning: {plan.changed_seeds}", err=True)
            tasks = prepare(found, store, part, plan.collected.origins)
            summary = run_tasks(tasks, start_engine(), progress)
    if json_output:
        print_document(summary.document(str(store.path)))
    else:
        for line in summary.lines():
            say(line)
        say(f"results: nifbuild ablate report {study}" + _where(directory))
    if summary.failed:
        sys.exit(RunError.exit_code)


def _where(directory: object) -> str:
    return "" if directory is None else f" --dir {directory}"
