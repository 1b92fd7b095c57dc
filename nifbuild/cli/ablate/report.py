"""`nifbuild ablate report`."""

from pathlib import Path
from typing import Annotated

import typer

from nifbuild.cli.ablate.options import DirectoryOption, MainOption, StudyArgument, open_study
from nifbuild.cli.loading import loading
from nifbuild.cli.options import JsonOption
from nifbuild.cli.output import print_document


def report(
    study: StudyArgument,
    directory: DirectoryOption = None,
    main: MainOption = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Where it is written.", show_default="report/ beside the cells"),
    ] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the Markdown on stdout.")
    ] = False,
    json_output: JsonOption = False,
) -> None:
    """Show what is done of a study, and write it down.

    Writes report.md (fit for a comment on a pull request), report.json, junit.xml and plots.
    """
    with loading():
        from nifbuild.ablate.report import make_report, write_report
        from nifbuild.ablate.tables import print_report
        from nifbuild.errors import RunError

    found, store = open_study(study, directory)
    made = make_report(found, store, main)
    try:
        written = write_report(made, out or store.path / "report")
    except RunError as error:
        if out is not None:
            raise
        written = []  # a copy that may only be read can still be shown
        typer.echo(f"warning: not written down: {error}; name a folder with --out", err=True)
    if json_output:
        print_document(made.document())
    elif markdown:
        typer.echo(made.markdown(), nl=False)
    else:
        print_report(made.results, made.gates)
        if written:
            typer.echo(f"written to {written[0].parent}: {', '.join(p.name for p in written)}")
