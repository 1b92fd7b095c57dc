"""`nifbuild diff`."""

from pathlib import Path
from typing import Annotated

import typer

from nifbuild.cli.output import print_document, say
from nifbuild.machine.loading import loading
from nifbuild.machine.options import JsonOption

_COLOURS = {"-": "red", "+": "green", "~": "yellow"}


def diff(
    a: Annotated[Path, typer.Argument(help="A YAML spec.", show_default=False)],
    b: Annotated[Path, typer.Argument(help="Another one.", show_default=False)],
    json_output: JsonOption = False,
) -> None:
    """Show how two specs differ once they are written out: modules, values, budgets.

    A run's spec is spec.yaml in its directory. Modules are compared by name. Budgets are those of
    `inspect` for each spec's own batch size, precision and optimizer.
    """
    with loading():
        from nifbuild.report.diff import difference_text, spec_difference
        from nifbuild.spec.resolve import load_spec

    difference = spec_difference(load_spec(a), load_spec(b))
    if json_output:
        print_document(difference.as_document())
        return
    for line in difference_text(difference).splitlines():
        say(line, fg=_COLOURS.get(line.lstrip()[:1]))
