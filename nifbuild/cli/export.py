"""`nifbuild export`."""

from typing import TYPE_CHECKING

import typer

from nifbuild.cli.command import command
from nifbuild.report.export import export as _export

if TYPE_CHECKING:
    from nifbuild.report.export.exported import Exported


def _show(exported: "Exported") -> None:
    typer.echo(str(exported))


export = command(_export, _show)
