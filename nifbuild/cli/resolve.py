"""`nifbuild resolve`."""

import typer

from nifbuild.cli.loading import loading
from nifbuild.cli.options import DataOption, SetOption, SpecArgument


def resolve(spec: SpecArgument, data: DataOption = None, overrides: SetOption = None) -> None:
    """Print the spec written out: nothing left to extend, substitute, repeat or patch."""
    with loading():
        from nifbuild.spec.resolve import load_spec

    typer.echo(load_spec(spec, data=data, overrides=overrides or ()).text, nl=False)
