"""What a search draws from, and what its trials cost, before anything runs."""

from dataclasses import dataclass
from typing import Any

from nifbuild.ablate.cells import Store
from nifbuild.ablate.forms import Document
from nifbuild.ablate.plan import Plan, Row, make_plan
from nifbuild.ablate.sampler import Drawing, Known
from nifbuild.ablate.trials import (
    TrialResult,
    read_trials,
    search_of,
    trial_results,
)
from nifbuild.errors import counted
from nifbuild.report.show.tables import Grid
from nifbuild.report.show.units import bytes_text, count_text
from nifbuild.spec.search import SearchSpec
from nifbuild.spec.study import Study

_EXAMPLES = 3


@dataclass(frozen=True)
class SearchPlan:
    """All that is known before a search runs.

    Attributes:
        study: Which.
        ends: Costs at the ends of the ranges, and of each choice.
        examples: Those of trials as they may be drawn next, with their numbers.
        trials: What was drawn before, of as many as the study asks for.
        plan: Of all of these as variants.
    """

    study: Study
    ends: tuple[Row, ...]
    examples: tuple[tuple[int, Row], ...]
    trials: tuple[TrialResult, ...]
    plan: Plan

    @property
    def ended(self) -> int:
        """Trials that need not be run."""
        return sum(trial.ended is not None for trial in self.trials)

    def document(self) -> Document:
        """As plain data."""
        search = search_of(self.study)
        return {
            "study": self.study.name,
            "search": search.model_dump(mode="json"),
            "trials": search.trials,
            "ended": self.ended,
            "ends": [_row_document(row) for row in self.ends],
            "examples": [{"number": number, **_row_document(row)} for number, row in self.examples],
            "exceeded": [str(problem) for problem in self.plan.exceeded],
            "warnings": self.plan.collected.warnings(),
        }


def _row_document(row: Row) -> Document:
    return {
        "labels": dict(row.variant.labels),
        "costs": row.costs.document(),
        "train_images": row.train_images,
        "train_macs": row.train_macs,
    }


def ends_plan(study: Study, store: Store) -> Plan:
    """The ends of a search's ranges as variants; needs no Optuna.

    Raises:
        SpecError: A batch is too small to be trained with, or the data does not suit.
    """
    corners = search_of(study).corners
    return make_plan(study.with_variants(study.trial(values) for values in corners), store)


def make_search_plan(study: Study, store: Store) -> SearchPlan:
    """Inspects the ends of the ranges and some trials, and looks up what is done.

    Raises:
        SpecError: Optuna is not installed; a drawn trial is no spec; or the data does not suit.
        RunError: What was drawn before is damaged, or may not be read.
    """
    search = search_of(study)
    drawn = read_trials(study, store)[: search.trials]
    values: list[dict[str, Any]] = []
    for _ in range(min(_EXAMPLES, search.trials - len(drawn))):
        # Nothing is known of those before: what comes of them would change what is drawn.
        before = [Known(trial.values, "running") for trial in drawn]
        before += [Known(each, "running") for each in values]
        values.append(Drawing(search, 1, before).values)
    corners = search.corners
    variants = [study.trial(each) for each in (*corners, *values)]
    plan = make_plan(study.with_variants(variants), store)
    ends, examples = plan.rows[: len(corners)], plan.rows[len(corners) :]
    return SearchPlan(
        study,
        ends,
        tuple(enumerate(examples, start=len(drawn))),
        tuple(trial_results(study, store, drawn)[0]),
        plan,
    )


def search_plan_grids(plan: SearchPlan) -> list[Grid]:
    """The space; then what it costs at its ends, and of trials such as may be drawn."""
    search = search_of(plan.study)
    space = [(path, str(parameter)) for path, parameter in search.space.items()]
    title = f"{plan.study.name}: {search.trials} trials, by {search.sampler}"
    rows = [("end of the ranges", *_cells(row)) for row in plan.ends]
    rows += [(f"such as trial {number}", *_cells(row)) for number, row in plan.examples]
    paths = tuple(search.space)
    headings = ("", *paths, "params", "MACs", "train peak", "MACs to train")
    return [
        Grid(title, ("drawn", "from"), 2, tuple(space), 2),
        Grid("", headings, 1 + len(paths), tuple(rows), 1 + len(paths)),
    ]


def _cells(row: Row) -> tuple[str, ...]:
    return (
        *row.variant.labels.values(),
        count_text(row.costs.params),
        count_text(row.costs.macs),
        bytes_text(row.costs.train_peak_bytes),
        "?" if row.train_macs is None else count_text(row.train_macs),
    )


def search_plan_notes(plan: SearchPlan) -> list[str]:
    """What the tables do not say."""
    search = search_of(plan.study)
    notes = [
        _early_end(search, max(row.variant.resolved.spec.train.epochs for row in plan.ends)),
        *plan.plan.collected.warnings(),
    ]
    left = search.trials - plan.ended
    if not left:
        return [*notes, "All trials have ended."]
    return [*notes, f"{left} of {search.trials} trials to run."]


def _early_end(search: SearchSpec, epochs: int) -> str:
    pruner = search.pruner
    if pruner.name == "none":
        return "No trial is ended early."
    if pruner.warmup_epochs + 1 >= epochs:
        warmup, training = counted(pruner.warmup_epochs, "epoch"), counted(epochs, "epoch")
        is_short = pruner.warmup_epochs < epochs
        why = "leaves but the last of" if is_short else "is no shorter than"
        return (
            f"No trial is ended early: the warm-up, {warmup}, {why} training, {training} at most."
        )
    if pruner.name == "hyperband":
        return f"Pruned by hyperband, after epoch {max(1, pruner.warmup_epochs)} at the earliest."
    if search.trials <= pruner.startup_trials:
        return f"No trial is ended early: that begins once {pruner.startup_trials} are done."
    return (
        f"Pruned after epoch {pruner.warmup_epochs + 1} at the earliest, where the median of the "
        f"trials before is better, once {pruner.startup_trials} are done."
    )
