"""`nifbuild ablate gate`."""

import sys
from typing import Annotated

import typer

from nifbuild.cli.ablate.options import DirectoryOption, MainOption, StudyArgument, open_study
from nifbuild.cli.output import print_document
from nifbuild.machine.loading import loading
from nifbuild.machine.options import JsonOption


def gate(
    study: StudyArgument,
    directory: DirectoryOption = None,
    main: MainOption = None,
    allow_inconclusive: Annotated[
        bool,
        typer.Option("--allow-inconclusive", help="Only what is shown to be too bad is an error."),
    ] = False,
    json_output: JsonOption = False,
) -> None:
    """Check the gates of a study: exit code 3 unless all of them pass.

    A gate passes where it is shown to hold, fails where it is shown not to, and is inconclusive
    where there is too little data for either. Results that are damaged, or of other data, code or
    versions than those here, do not count; nor do seeds that were chosen after results were shown.
    """
    with loading():
        from nifbuild.ablate.gate import overall
        from nifbuild.ablate.report import make_report
        from nifbuild.ablate.study_tables import print_gates, print_warnings
        from nifbuild.errors import BudgetError, SpecError

    found, store = open_study(study, directory, read=True)
    if found.space is not None:
        fix = "compare its best values with others in a study with a `matrix`, over several seeds"
        raise SpecError(f"{study} is a search, which has no gates", fix=fix)
    if not found.spec.gates:
        raise SpecError(f"{study} has no gates", fix="write them under `gates:`")
    made = make_report(found, store, main)
    gates = made.gates
    verdict = overall(gates)
    if json_output:
        warnings = list(made.results.warnings)
        documents = [result.document() for result in gates]
        print_document({"verdict": verdict, "warnings": warnings, "gates": documents})
    else:
        print_warnings(made.results)
        print_gates(gates)
    if verdict in ("fail", "not comparable") or (
        verdict == "inconclusive" and not allow_inconclusive
    ):
        sys.exit(BudgetError.exit_code)
