"""`nifbuild evaluate`."""

from typing import TYPE_CHECKING, Annotated

import typer

from nifbuild.cli.command import InProcesses, command
from nifbuild.machine.loading import loading
from nifbuild.report.evaluate_run import evaluate_run, require_writable

if TYPE_CHECKING:
    from nifbuild.evaluate.result import Evaluations

ProcessesOption = Annotated[
    int | None,
    typer.Option(min=1, help="Evaluate in so many processes on this machine, one for each GPU."),
]


def _show(found: "Evaluations") -> None:
    with loading():
        from nifbuild.report.summary import print_sizes, print_summary

    if found.sizes_given:
        print_sizes([result.document() for result in found.results])
    else:
        print_summary(found.only.document())


evaluate = command(
    evaluate_run,
    _show,
    name="evaluate",
    processes=InProcesses(ProcessesOption, require_writable),
)
