"""`nifbuild ablate plan`."""

import sys

from nifbuild.cli.ablate.options import DirectoryOption, StudyArgument, open_study
from nifbuild.cli.output import print_document, print_problems, say
from nifbuild.machine.loading import loading
from nifbuild.machine.options import JsonOption


def plan(
    study: StudyArgument, directory: DirectoryOption = None, json_output: JsonOption = False
) -> None:
    """Resolve, check and inspect all variants of a study; nothing runs.

    Says also how many seeds give a power of 80 % to show what each gate asks for. Exit code 3 if a
    variant exceeds the budget of its spec.
    """
    with loading():
        from nifbuild.ablate.interim_looks import note_look
        from nifbuild.ablate.plan import make_plan
        from nifbuild.ablate.power import powers
        from nifbuild.ablate.study_tables import plan_grid, plan_notes
        from nifbuild.errors import BudgetError
        from nifbuild.report.show.tables import print_grids

    opened, store = open_study(study, directory)
    found = make_plan(opened, store)
    told = powers(found.collected)
    if any(power.pilot_seeds is not None for power in told):
        # A number of seeds that is chosen by these results is one that is chosen after them.
        note_look(store, opened.spec.seeds, found.collected.keys_done)
    if json_output:
        print_document({**found.document(), "gates": [power.document() for power in told]})
    else:
        print_grids([plan_grid(found)])
        for note in plan_notes(found):
            say(note)
        print_problems(found.exceeded)
    if found.exceeded:
        sys.exit(BudgetError.exit_code)
