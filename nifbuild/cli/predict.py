"""`nifbuild predict`."""

from typing import TYPE_CHECKING, Annotated

import typer

from nifbuild.cli.command import command
from nifbuild.errors import RunError
from nifbuild.machine.loading import loading
from nifbuild.report.predict import predict as _predict

if TYPE_CHECKING:
    from nifbuild.evaluate.predict import Predictions

QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]


def _show(found: "Predictions") -> None:
    with loading():
        from nifbuild.report.predictions import print_predictions

    print_predictions(found.images)


predict = command(
    _predict,
    _show,
    quiet=QuietOption,
    exit_code=lambda found: RunError.exit_code if found.num_failed else 0,
)
