"""`nifbuild ablate plan`."""

import sys
from typing import TYPE_CHECKING

from nifbuild.cli.ablate.options import DirectoryOption, StudyArgument, open_study
from nifbuild.cli.output import print_document, print_problems, say
from nifbuild.machine.loading import loading
from nifbuild.machine.options import JsonOption

if TYPE_CHECKING:
    from nifbuild.ablate.cells import Store
    from nifbuild.spec.study import Study


def plan(
    study: StudyArgument, directory: DirectoryOption = None, json_output: JsonOption = False
) -> None:
    """Resolve, check and inspect all variants of a study; nothing runs.

    Says also how many seeds give a power of 80 % to show what each gate asks for. Exit code 3 if a
    variant exceeds the budget of its spec. Of a search, it shows what values are drawn from, the
    ends of the ranges, and some trials such as may be drawn.
    """
    with loading():
        from nifbuild.ablate.interim_looks import note_look
        from nifbuild.ablate.plan import make_plan
        from nifbuild.ablate.power import powers
        from nifbuild.ablate.study_tables import plan_grid, plan_notes
        from nifbuild.errors import BudgetError
        from nifbuild.report.show.tables import print_grids

    opened, store = open_study(study, directory)
    if opened.space is not None:
        _plan_search(opened, store, json_output=json_output)
        return
    found = make_plan(opened, store)
    told = powers(found)
    if any(power.pilot_seeds is not None for power in told):
        # A number of seeds that is chosen by these results is one that is chosen after them.
        note_look(store, opened.spec.seeds, found.collected.keys_done(opened.variants))
    if json_output:
        print_document({**found.document(), "gates": [power.document() for power in told]})
    else:
        print_grids([plan_grid(found)])
        for note in plan_notes(found):
            say(note)
        print_problems(found.exceeded)
    if found.exceeded:
        sys.exit(BudgetError.exit_code)


def _plan_search(study: "Study", store: "Store", *, json_output: bool) -> None:
    from nifbuild.ablate.search_plan import make_search_plan, search_plan_grids, search_plan_notes
    from nifbuild.errors import BudgetError
    from nifbuild.report.show.tables import print_grids

    found = make_search_plan(study, store)
    if json_output:
        print_document(found.document())
    else:
        print_grids(search_plan_grids(found))
        for note in search_plan_notes(found):
            say(note)
        print_problems(found.plan.exceeded)
    if found.plan.exceeded:
        sys.exit(BudgetError.exit_code)
