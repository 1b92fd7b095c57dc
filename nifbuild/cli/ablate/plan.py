"""`nifbuild ablate plan`."""

import sys

from nifbuild.cli.ablate.options import DirectoryOption, StudyArgument, open_study
from nifbuild.cli.loading import loading
from nifbuild.cli.options import JsonOption
from nifbuild.cli.output import print_document, print_problems, say


def plan(
    study: StudyArgument, directory: DirectoryOption = None, json_output: JsonOption = False
) -> None:
    """Resolve, check and inspect all variants of a study; nothing runs.

    Exit code 3 if a variant exceeds the budget of its spec.
    """
    with loading():
        from nifbuild.ablate.plan import make_plan
        from nifbuild.ablate.tables import plan_grid, plan_notes
        from nifbuild.errors import BudgetError
        from nifbuild.report.inspect.table import print_grids

    found = make_plan(*open_study(study, directory))
    if json_output:
        print_document(found.document())
    else:
        print_grids([plan_grid(found)])
        for note in plan_notes(found):
            say(note)
        print_problems(found.exceeded)
    if found.exceeded:
        sys.exit(BudgetError.exit_code)
