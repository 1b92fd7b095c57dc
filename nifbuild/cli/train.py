"""`nifbuild train`."""

from typing import TYPE_CHECKING, Annotated

import typer

from nifbuild.cli.command import InProcesses, command
from nifbuild.machine.loading import loading
from nifbuild.report.train_spec import require_startable, train_spec

if TYPE_CHECKING:
    from nifbuild.train.run import Trained

ProcessesOption = Annotated[
    int | None,
    typer.Option(
        "--processes", min=1, help="Train in so many processes on this machine, one for each GPU."
    ),
]


def _show(trained: "Trained") -> None:
    with loading():
        from nifbuild.report.summary import print_summary

    print_summary(trained.document())


train = command(
    train_spec,
    _show,
    name="train",
    processes=InProcesses(ProcessesOption, require_startable, before="epochs"),
)
