"""`nifbuild new`."""

from pathlib import Path
from typing import Annotated

import typer

from nifbuild.cli.output import say
from nifbuild.machine.loading import loading
from nifbuild.machine.options import OverwriteOption


def new(
    name: Annotated[
        str,
        typer.Argument(help="Of the spec, and of its file: NAME.yaml.", show_default=False),
    ],
    base: Annotated[
        Path,
        typer.Option(
            "--from", help="What it builds on: a shipped spec (see `nifbuild specs`), or a file."
        ),
    ] = Path("resnet18_nif"),
    overwrite: OverwriteOption = False,
) -> None:
    """Write a spec to begin with.

    It can be trained as it is, and holds as comments what one may want to change: variables,
    images, training, the kind of convolutions.
    """
    with loading():
        from nifbuild.report.new_spec import write_spec

    path = write_spec(name, base, overwrite=overwrite)
    say(f"train it: nifbuild train {path}")
