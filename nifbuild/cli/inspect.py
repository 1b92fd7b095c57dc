"""`nifbuild inspect`."""

from typing import TYPE_CHECKING, Annotated

import typer

from nifbuild.cli.command import command
from nifbuild.cli.output import print_problems
from nifbuild.errors import BudgetError
from nifbuild.report.inspect import inspect as _inspect

if TYPE_CHECKING:
    from nifbuild.report.inspect.several import Several

MarkdownOption = Annotated[bool, typer.Option("--markdown", help="Print the tables as Markdown.")]


def _show(found: "Several", markdown: bool) -> None:
    if markdown:
        typer.echo(found.markdown())
    else:
        found.print()
    if found.exceeded:
        print_problems(found.exceeded)


inspect = command(
    _inspect,
    _show,
    quiet=None,
    flags={"markdown": MarkdownOption},
    exit_code=lambda found: BudgetError.exit_code if found.exceeded else 0,
)
