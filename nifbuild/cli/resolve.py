"""`nifbuild resolve`."""

from typing import Annotated

import typer

from nifbuild.cli.output import say
from nifbuild.machine.loading import loading
from nifbuild.machine.options import DataOption, SetOption, SpecArgument


def resolve(
    spec: SpecArgument,
    data: DataOption = None,
    overrides: SetOption = (),
    path: Annotated[
        str | None,
        typer.Option(
            "--explain",
            metavar="PATH",
            help="Show where a value was written instead: train.epochs, layer1.0.conv1.stride, a "
            "variable or block; or a whole section, module, or level of modules such as layer1.",
        ),
    ] = None,
) -> None:
    """Print the spec written out: nothing left to extend, substitute, repeat or patch."""
    with loading():
        from nifbuild.data.counted_classes import load_counted
        from nifbuild.spec.value_origins import value_origins

    resolved = load_counted(spec, data=data, overrides=overrides)
    if path is None:
        typer.echo(resolved.text, nl=False)
        return
    for origin in value_origins(resolved, path):
        for line in str(origin).splitlines():
            say(line)
