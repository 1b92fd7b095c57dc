"""`nifbuild schema`."""

from typing import Annotated

import typer

from nifbuild.cli.output import print_document
from nifbuild.machine.loading import loading


def schema(
    study: Annotated[
        bool, typer.Option("--study", help="That of the studies of `nifbuild ablate`.")
    ] = False,
) -> None:
    """Print the JSON Schema of specs, for completion and checks in an editor.

    Save it as nifbuild.schema.json, and start a spec with the comment
    `# yaml-language-server: $schema=nifbuild.schema.json`.
    """
    with loading():
        from nifbuild.spec.schema import json_schema, study_schema

    print_document(study_schema() if study else json_schema())
