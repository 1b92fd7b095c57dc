"""The results of a study as data: for its report, its gates, and another branch to compare with."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nifbuild.ablate.cells import Cell, Document, cell_name
from nifbuild.ablate.collect import Collected, State
from nifbuild.ablate.plan import costs_of, inspect_variant
from nifbuild.ablate.statistics import interval, summarize
from nifbuild.errors import Mark, Problem, RunError, SpecError
from nifbuild.spec.gates import ACCURACIES, MEASURED
from nifbuild.spec.study import Labels, Study, Variant, label_text

REPORT_JSON = "report.json"
_FORMAT = 1


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
        """A measured metric by seed; nothing where it does not apply."""
        found = {seed: result.get(metric) for seed, result in self.results.items()}
        return {seed: float(value) for seed, value in found.items() if value is not None}

    def resolution(self, metric: str) -> float:
        """The step in which a metric comes: one test image, one pixel; 0: none."""
        if metric in ACCURACIES:
            return max((1 / result["num_samples"] for result in self.results.values()), default=0)
        return 1.0 if metric == "effective_size" else 0.0

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
        left_out: Results of other versions or other data.
    """

    name: str
    axes: tuple[str, ...]
    variants: tuple[VariantResults, ...]
    seeds: tuple[int, ...]
    left_out: int = 0

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
                "interval_95": interval(values),
            }
        return {
            "format": _FORMAT,
            "study": self.name,
            "axes": list(self.axes),
            "seeds": list(self.seeds),
            "done": self.done,
            "total": self.total,
            "left_out": self.left_out,
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
    return Results(study.name, study.axes, tuple(variants), study.spec.seeds, collected.left_out)


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
        RunError: It is damaged, or of another version of nifbuild.
    """
    candidates = [path, path / REPORT_JSON, path / "report" / REPORT_JSON]
    file = next((candidate for candidate in candidates if candidate.is_file()), None)
    if file is None:
        fix = f"name the {REPORT_JSON} that `nifbuild ablate report` wrote on the main branch"
        raise SpecError(Problem(f"there is no report at {path}", Mark("--main"), fix=fix))
    try:
        document = json.loads(file.read_text())
        if document["format"] != _FORMAT:
            what = f"{file} is of another version of nifbuild (format {document['format']})"
            raise RunError(what, fix="write it again: nifbuild ablate report")
        return Results(
            name=document["study"],
            axes=tuple(document["axes"]),
            variants=tuple(_variant(entry) for entry in document["variants"]),
            seeds=tuple(document["seeds"]),
            left_out=document["left_out"],
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        what = f"{file} is no report: {type(error).__name__}: {error}"
        raise RunError(what, fix="write it again: nifbuild ablate report") from error


def _variant(entry: Document) -> VariantResults:
    def by_seed(name: str, read: Callable[[Any], Any]) -> dict[int, Any]:
        return {int(seed): read(value) for seed, value in entry[name].items()}

    return VariantResults(
        labels=entry["labels"],
        baseline=entry["baseline"],
        costs=entry["costs"],
        results=by_seed("results", dict),
        states=by_seed("states", str),
        failed=tuple(Failed(**failed) for failed in entry["failed"]),
    )


def failed_name(variant: VariantResults, failed: Failed) -> str:
    """A failed cell as people call it."""
    return cell_name(variant.labels, failed.seed)
