"""`nifbuild ablate report`."""

from pathlib import Path
from typing import Annotated

import typer

from nifbuild.cli.ablate.options import DirectoryOption, MainOption, StudyArgument, open_study
from nifbuild.cli.output import print_document, say
from nifbuild.machine.loading import loading
from nifbuild.machine.options import JsonOption, OverwriteOption


def report(
    study: StudyArgument,
    directory: DirectoryOption = None,
    main: MainOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="Where it is written.", show_default="report/ beside the cells"
        ),
    ] = None,
    overwrite: OverwriteOption = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the Markdown on stdout.")
    ] = False,
    json_output: JsonOption = False,
) -> None:
    """Show what is done of a study, and write it down.

    Writes report.md (fit for a comment on a pull request), report.html (one page with all plots in
    it), report.json, junit.xml and plots. Of a search, it names the best trial. Texts that you have
    changed since stay as they are without --overwrite.
    """
    with loading():
        from nifbuild.ablate.report import (
            Report,
            changed_texts,
            make_report,
            require_writable,
            write_report,
        )
        from nifbuild.ablate.search_report import SearchReport, make_search_report
        from nifbuild.errors import SpecError
        from nifbuild.machine.sealed_text import kept

    found, store = open_study(study, directory, read=True)
    if found.space is not None and main is not None:
        raise SpecError("--main is for gates, which a search has none of", fix="leave it out")
    folder = out or store.report
    changed = [] if overwrite else changed_texts(folder)
    overwrite = overwrite or out is None
    unwritable = None
    try:
        require_writable(folder, overwrite=overwrite)
    except SpecError as error:
        # Where cells lie that can only be read, the figures can nevertheless be seen.
        unwritable = error.problems[0]
        if out is not None or unwritable.code != "write":
            raise
    made: Report | SearchReport
    if found.space is None:
        made = make_report(found, store, main)
    else:
        made = make_search_report(found, store)
    written = []
    try:
        if unwritable is None:
            written = write_report(made, folder, overwrite=overwrite, kept=changed)
    finally:  # what was computed is told even where it cannot be written
        if json_output:
            print_document(made.document())
        elif markdown:
            typer.echo(made.markdown(), nl=False)
        else:
            made.show()
    if unwritable is not None:
        say(f"warning: {unwritable.what}", err=True)
        return
    for path in changed:
        say(f"warning: {kept(path)}; --overwrite replaces it", err=True)
    if not json_output and not markdown:
        say(f"written to {folder}: {', '.join(p.name for p in written)}")
