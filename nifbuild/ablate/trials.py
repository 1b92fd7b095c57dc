"""The trials of a search on disk: which values each has, and what it came to.

    ablations/<search>/
        trials.json             the values of all trials so far; each is written before it starts
        cells/<key>/trial.json  how a trial ended: its figures by epoch, and whether it was pruned

These files and the cells' own are all that a search goes on from. A trial is a cell as any other:
where code or data has changed since, it is run again with the same values.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from nifbuild.ablate.cells import Cell, CellDirectory, Origin, Store, write_file
from nifbuild.ablate.collect import Collected, collect
from nifbuild.ablate.forms import (
    Damaged,
    Document,
    State,
    TrialForm,
    TrialsForm,
    read_document,
)
from nifbuild.errors import Problem, RunError, SpecError
from nifbuild.report.show.units import number_text, percent_text
from nifbuild.runs.directory import RunDirectory
from nifbuild.runs.lock import is_locked
from nifbuild.spec.search import SearchSpec
from nifbuild.spec.study import Study, Variant

_TRIALS, _TRIAL = "trials.json", "trial.json"


@dataclass(frozen=True)
class Drawn:
    """A trial that has been drawn.

    Attributes:
        known: So many trials, the first ones, had ended for it: by them it was drawn, and is
            pruned.
        values: By path.
    """

    known: int
    values: Mapping[str, Any]


def search_of(study: Study) -> SearchSpec:
    """The `search` section of a study that has one."""
    assert study.spec.search is not None
    return study.spec.search


def read_trials(study: Study, store: Store) -> list[Drawn]:
    """All trials that have been drawn, in order.

    Raises:
        SpecError: They are those of another search: of another space, seed or spec.
        RunError: The file is damaged, or may not be read.
    """
    path = store.path / _TRIALS
    try:
        found = read_document(path, TrialsForm)
        if found is None:
            return []
        identity = _identity(study)
        if differing := [name for name in identity if found["of"].get(name) != identity[name]]:
            what = f"{path} is of another search: it differs in {', '.join(differing)}"
            fix = "name another folder with --dir, or give the study another name"
            raise SpecError(Problem(what, path="search", fix=fix, code="other-search"))
        return [_checked(search_of(study), n, drawn) for n, drawn in enumerate(found["trials"])]
    except Damaged as error:
        fix = "copy it back; without it, the search begins anew, and finds what it has run"
        raise RunError(Problem(f"{path} is damaged: {error}", fix=fix, code="load")) from error


def _checked(search: SearchSpec, number: int, drawn: Document) -> Drawn:
    values, space = drawn["values"], search.space
    fits = values.keys() == space.keys() and all(space[p].holds(v) for p, v in values.items())
    if not fits or drawn["known"] > number:
        raise Damaged(f"trial {number} is none of this space")
    return Drawn(drawn["known"], {path: values[path] for path in space})


def write_trials(study: Study, store: Store, trials: Sequence[Drawn]) -> None:
    """Writes down which trials have been drawn.

    Raises:
        RunError: The file cannot be written.
    """
    document = {"of": _identity(study), "trials": [vars(drawn) for drawn in trials]}
    write_file(store.path / _TRIALS, json.dumps(document, indent=1) + "\n")


def _identity(study: Study) -> Document:
    """What must be the same for trials to be those of one search; how many there are may change."""
    search = search_of(study)
    lowest = study.trial(search.corners[0])
    section = search.model_dump(mode="json", exclude={"trials"})
    return {**section, "the spec": Cell(lowest, study.spec.seeds[0]).spec_hash}


@dataclass(frozen=True)
class Ended:
    """What a trial came to.

    Attributes:
        state: Whether it was trained to its end.
        epoch: Of the checkpoint that was selected, or after which it was pruned.
        value: Its figure there.
        figures: By epoch.
    """

    state: Literal["done", "pruned"]
    epoch: int
    value: float
    figures: Mapping[int, float]

    def text(self, metric: str) -> str:
        """`validation top-1 97.21%`, or that it was pruned."""
        figure = f"validation {metric_name(metric)} {metric_text(metric, self.value)}"
        return figure if self.state == "done" else f"pruned after epoch {self.epoch}: {figure}"


def read_ended(directory: CellDirectory, metric: str) -> Ended | None:
    """How a trial ended; None where it has not, or the file is damaged or of another metric."""
    try:
        found = read_document(directory.path / _TRIAL, TrialForm)
    except Damaged:
        return None
    origin = None if found is None else Origin.of(found)
    if found is None or origin is None or found["metric"] != metric:
        return None
    if origin.key(found["spec_hash"]) != directory.path.name:
        return None
    figures = {int(epoch): figure for epoch, figure in found["figures"].items()}
    if found["state"] == "done" and directory.result() is None:
        return None
    return Ended(found["state"], found["epoch"], found["value"], figures)


def write_ended(directory: CellDirectory, metric: str, ended: Ended) -> None:
    """Writes down how a trial ended, which is then not run again.

    Raises:
        RunError: The file cannot be written.
    """
    description = directory.description()
    if description is None:
        raise RunError(f"{directory.path / 'cell.json'} does not say what the cell is")
    own = {name: description[name] for name in ("spec_hash", "origin")}
    document = {**own, "metric": metric, **vars(ended)}
    write_file(directory.path / _TRIAL, json.dumps(document, indent=1) + "\n")


def run_figures(directory: CellDirectory, metric: str) -> dict[int, float]:
    """A figure on the validation split by epoch, so far as the trial's run has come."""
    lines = RunDirectory(directory.run).metrics()
    return {
        line["epoch"]: float(line[metric])
        for line in lines
        if line.get("split") == "validation" and math.isfinite(line[metric])
    }


def ended_of_result(
    directory: CellDirectory, result: Document, metric: str, figures: Mapping[int, float]
) -> Ended:
    """What a trial came to that was trained to its end.

    Raises:
        RunError: Its run does not tell of the checkpoint that was selected.
    """
    epoch = result["epoch"]
    if epoch not in figures:
        what = f"{directory.run / 'metrics.jsonl'} has no figures on validation of epoch {epoch}"
        raise RunError(Problem(what, fix=f"delete {directory.path}, and run again", code="load"))
    return Ended("done", epoch, figures[epoch], figures)


def metric_name(metric: str) -> str:
    """A metric as people call it."""
    return {"top1": "top-1"}.get(metric, metric)


def metric_text(metric: str, value: float) -> str:
    """`97.21%`, or a loss."""
    return number_text(value) if metric == "loss" else percent_text(value)


@dataclass(frozen=True)
class TrialResult:
    """What is known of one trial.

    Attributes:
        number: From 0.
        values: By path.
        state: How far it is.
        ended: What it came to, if it has ended.
        result: The figures of its cell, if it was trained to its end.
        reason: Why it failed; empty: it did not.
        directory: Where it lies; None: it was never started.
    """

    number: int
    values: Mapping[str, Any]
    state: State
    ended: Ended | None
    result: Document | None
    reason: str
    directory: CellDirectory | None

    def document(self) -> Document:
        """As plain data."""
        ended = self.ended
        return {
            "number": self.number,
            "values": dict(self.values),
            "state": self.state,
            "value": None if ended is None else ended.value,
            "epoch": None if ended is None else ended.epoch,
            "figures": {} if ended is None else {str(e): v for e, v in ended.figures.items()},
            "result": self.result,
            "reason": self.reason or None,
            "directory": None if self.directory is None else str(self.directory.path),
        }


def trial_results(
    study: Study, store: Store, trials: Sequence[Drawn]
) -> tuple[list[TrialResult], Collected]:
    """What is known of all trials from what lies on disk, and what else lies there.

    Raises:
        SpecError: A spec does not suit its data.
        RunError: A file may not be read, or the data is broken.
    """
    variants: dict[int, Variant | SpecError] = {}
    for number, drawn in enumerate(trials):
        try:
            variants[number] = study.trial(drawn.values)
        except SpecError as error:
            variants[number] = error
    sound = [variant for variant in variants.values() if isinstance(variant, Variant)]
    found = study.with_variants(sound)
    collected = collect(found, store)
    results = [
        _trial_result(found, collected, number, drawn, variants[number])
        for number, drawn in enumerate(trials)
    ]
    return results, collected


def _trial_result(
    study: Study, collected: Collected, number: int, drawn: Drawn, variant: Variant | SpecError
) -> TrialResult:
    """What is known of a trial, from what lies on disk."""
    if isinstance(variant, SpecError):
        return TrialResult(number, drawn.values, "failed", None, None, str(variant), None)
    cell = Cell(variant, study.spec.seeds[0])
    directory = collected.directory(cell)
    ended = None if directory is None else read_ended(directory, search_of(study).metric)
    result = collected.result(cell)
    state = collected.state(cell)
    if state == "damaged" or directory is None:
        ended = None
    elif ended is not None:
        state = ended.state
    elif state == "done":  # and not judged yet
        state = "running" if is_locked(directory.path) else "begun"
    failure = directory.failure() if state == "failed" and directory is not None else None
    reason = "" if failure is None else str(failure["reason"])
    kept = result if ended is not None and ended.state == "done" else None
    return TrialResult(number, drawn.values, state, ended, kept, reason, directory)
