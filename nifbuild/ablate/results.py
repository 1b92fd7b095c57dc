"""The results of a study as data: for its report, its gates, and another branch to compare with."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pydantic import model_validator

from nifbuild.ablate.cells import Cell, Origin, Store, cell_name
from nifbuild.ablate.collect import Collected
from nifbuild.ablate.forms import (
    REPORT_JSON,
    Count,
    Damaged,
    Document,
    Form,
    ResultForm,
    State,
    checked,
    is_as_written,
    unreadable,
)
from nifbuild.ablate.plan import costs_of, inspect_variant
from nifbuild.ablate.statistics import Range, interval, summarize
from nifbuild.errors import Mark, Problem, RunError, SpecError
from nifbuild.spec.gates import ACCURACIES, COSTS, MEASURED
from nifbuild.spec.study import Labels, Study, Variant, label_text

_FORMAT = 2

DIFFERENCES: Range = (-1, 1)
"""What a difference of accuracies can be."""

RANGES: Mapping[str, Range] = {
    **dict.fromkeys(ACCURACIES, (0, 1)),
    "loss": (0, math.inf),
    "effective_size": (1, math.inf),
}
"""What the mean of a measured metric can be."""


@dataclass(frozen=True)
class Failed:
    """A cell that came to nothing."""

    seed: int
    reason: str
    log: str
    log_tail: str


@dataclass(frozen=True)
class VariantResults:
    """What is known of one variant.

    Attributes:
        labels: By axis.
        baseline: Labels of the variant that it is compared with; None: it is a baseline itself, or
            there is none.
        costs: Metrics that are known before training.
        results: The figures of each seed that is done.
        states: How far each seed is.
        failed: Seeds that failed.
    """

    labels: Labels
    baseline: Labels | None
    costs: Mapping[str, int]
    results: Mapping[int, Document]
    states: Mapping[int, State]
    failed: tuple[Failed, ...] = ()

    @property
    def name(self) -> str:
        """`filters=early, vars.width=32`."""
        return label_text(self.labels)

    def values(self, metric: str) -> dict[int, float]:
        """A measured metric by seed; nothing where it does not apply, or is no finite number."""
        found = {seed: result.get(metric) for seed, result in self.results.items()}
        return {
            seed: float(value)
            for seed, value in found.items()
            if value is not None and math.isfinite(value)
        }

    @property
    def cells(self) -> set[str]:
        """The keys of the cells that the figures are of."""
        found = ((Origin.of(result), result) for result in self.results.values())
        return {origin.key(result["spec_hash"]) for origin, result in found if origin is not None}

    @property
    def num_images(self) -> int:
        """How many images accuracies are of; of several numbers, the smallest; 0: none is known."""
        return min((result["num_samples"] for result in self.results.values()), default=0)

    def resolution(self, metric: str) -> float:
        """As of the function of this name."""
        return resolution(metric, self.num_images)

    def document(self) -> Document:
        """As plain data."""
        return {
            "labels": dict(self.labels),
            "baseline": None if self.baseline is None else dict(self.baseline),
            "costs": dict(self.costs),
            "summary": {
                metric: vars_of(summarize(list(self.values(metric).values())))
                for metric in MEASURED
            },
            "results": {str(seed): result for seed, result in self.results.items()},
            "states": {str(seed): state for seed, state in self.states.items()},
            "failed": [vars(failed) for failed in self.failed],
        }


def resolution(metric: str, num_images: int | None) -> float:
    """The step in which a metric is counted: one of the images; 0: it is no count, or unknown."""
    return 1 / num_images if metric in ACCURACIES and num_images else 0.0


def vars_of(value: Any) -> Document | None:
    """The fields of a dataclass with slots; None of None."""
    if value is None:
        return None
    return {name: getattr(value, name) for name in value.__dataclass_fields__}


@dataclass(frozen=True)
class Results:
    """The results of a study.

    Attributes:
        name: Of the study.
        axes: What is varied.
        variants: All of them, done or not.
        seeds: All that are planned.
        left_out: Results that are stale: of other versions, other code or other data.
        warnings: What was found and does not count, in words.
        unknown_data: Whether some of the data is not at hand, so that it was not looked at.
        other_specs: Results of specs that the study does not have; no report keeps it.
    """

    name: str
    axes: tuple[str, ...]
    variants: tuple[VariantResults, ...]
    seeds: tuple[int, ...]
    left_out: int = 0
    warnings: tuple[str, ...] = ()
    unknown_data: bool = False
    other_specs: int = 0

    def find(self, labels: Labels | None) -> VariantResults | None:
        """The variant with these labels, in whatever order."""
        return next((v for v in self.variants if labels is not None and v.labels == labels), None)

    def difference(self, variant: VariantResults, metric: str) -> list[float]:
        """Of a variant to its baseline, for each seed that both have."""
        baseline = self.find(variant.baseline)
        if baseline is None:
            return []
        return paired(variant, baseline, metric)[0]

    @property
    def cells(self) -> set[str]:
        """The keys of all cells that are done."""
        return set[str]().union(*(variant.cells for variant in self.variants))

    @property
    def done(self) -> int:
        """Cells that are done."""
        return sum(len(variant.results) for variant in self.variants)

    @property
    def total(self) -> int:
        """All cells."""
        return len(self.variants) * len(self.seeds)

    def document(self) -> Document:
        """As plain data, from which `load_results` reads it again."""
        differences = {}
        for variant in self.variants:
            values = self.difference(variant, "top1")
            differences[variant.name] = {
                "summary": vars_of(summarize(values)),
                "interval_95": interval(values, within=DIFFERENCES),
            }
        return {
            "format": _FORMAT,
            "study": self.name,
            "axes": list(self.axes),
            "seeds": list(self.seeds),
            "done": self.done,
            "total": self.total,
            "left_out": self.left_out,
            "warnings": list(self.warnings),
            "unknown_data": self.unknown_data,
            "top1_difference_to_baseline": differences,
            "variants": [variant.document() for variant in self.variants],
        }


def paired(
    one: VariantResults, other: VariantResults, metric: str
) -> tuple[list[float], list[int]]:
    """The differences of a metric seed by seed, and these seeds."""
    ones, others = one.values(metric), other.values(metric)
    seeds = [seed for seed in ones if seed in others]
    return [ones[seed] - others[seed] for seed in seeds], seeds


def study_results(study: Study, collected: Collected) -> Results:
    """The results that lie in a directory, with the costs that the specs have."""
    variants = []
    for variant in study.variants:
        baseline = study.baseline_of(variant)
        cells = [Cell(variant, seed) for seed in study.spec.seeds]
        results = {cell.seed: collected.result(cell) for cell in cells}
        variants.append(
            VariantResults(
                labels=variant.labels,
                baseline=None if baseline is None else baseline.labels,
                costs=costs_of(inspect_variant(variant)).document(),
                results={seed: found for seed, found in results.items() if found is not None},
                states={cell.seed: collected.state(cell) for cell in cells},
                failed=tuple(_failed(collected, variant)),
            )
        )
    return Results(
        study.name,
        study.axes,
        tuple(variants),
        study.spec.seeds,
        collected.stale_results.total(),
        tuple(collected.warnings()),
        collected.unknown_data,
        collected.other_specs,
    )


def _failed(collected: Collected, variant: Variant) -> list[Failed]:
    found = []
    for seed in collected.study.spec.seeds:
        cell = Cell(variant, seed)
        directory = collected.directory(cell)
        if directory is None or collected.state(cell) != "failed":
            continue
        failure = directory.failure() or {"reason": "unknown reason"}
        log, tail = str(directory.log), directory.log_tail()
        found.append(Failed(seed, str(failure["reason"]), log, tail))
    return found


def load_results(path: Path) -> Results:
    """Results from a report: its JSON file, or the folder of the study that it lies in.

    Raises:
        SpecError: There is none.
        RunError: It is damaged, was changed, or is of another version of nifbuild.
    """
    candidates = [path, path / REPORT_JSON, Store(path).report / REPORT_JSON]
    file = next((candidate for candidate in candidates if candidate.is_file()), None)
    if file is None:
        fix = f"name the {REPORT_JSON} that `nifbuild ablate report` wrote on the main branch"
        raise SpecError(Problem(f"there is no report at {path}", Mark("--main"), fix=fix))
    fix = "name a report.json, written by: nifbuild ablate report STUDY"
    try:
        content = file.read_bytes()
        if (version := checked(content, _Version)["format"]) != _FORMAT:
            what = f"{file} is of another version of nifbuild (format {version})"
            raise RunError(Problem(what, fix=fix, code="load"))
        document = checked(content, _Report)
        if not is_as_written(json.loads(content)):
            what = f"{file} was changed after it was written"
            raise RunError(Problem(what, fix=fix, code="load"))
        return Results(
            name=document["study"],
            axes=tuple(document["axes"]),
            variants=tuple(_variant(entry) for entry in document["variants"]),
            seeds=tuple(document["seeds"]),
            left_out=document["left_out"],
            warnings=tuple(document["warnings"]),
            unknown_data=document["unknown_data"],
        )
    except OSError as error:
        raise unreadable(file, error) from error
    except (Damaged, ValueError) as error:
        raise RunError(Problem(f"{file} is no report: {error}", fix=fix, code="load")) from error


class _Version(Form):
    format: int


class _Failed(Form):
    seed: int
    reason: str
    log: str
    log_tail: str


class _Variant(Form):
    labels: dict[str, str]
    baseline: dict[str, str] | None
    costs: dict[str, Count]
    results: dict[str, ResultForm]
    states: dict[str, State]
    failed: list[_Failed]

    @model_validator(mode="after")
    def _all_costs(self) -> Self:
        if missing := [name for name in COSTS if name not in self.costs]:
            raise ValueError(f"it lacks the costs {', '.join(missing)}")
        return self


class _Report(_Version):
    study: str
    axes: list[str]
    seeds: list[int]
    left_out: Count
    warnings: list[str]
    unknown_data: bool
    variants: list[_Variant]


def _variant(entry: Document) -> VariantResults:
    return VariantResults(
        labels=entry["labels"],
        baseline=entry["baseline"],
        costs=entry["costs"],
        results={int(seed): result for seed, result in entry["results"].items()},
        states={int(seed): state for seed, state in entry["states"].items()},
        failed=tuple(Failed(**failed) for failed in entry["failed"]),
    )


def failed_name(variant: VariantResults, failed: Failed) -> str:
    """A failed cell as people call it."""
    return cell_name(variant.labels, failed.seed)
