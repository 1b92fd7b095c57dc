"""Gates: whether a study shows what it is required to show."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from nifbuild.ablate.comparable import incomparable
from nifbuild.ablate.forms import Document
from nifbuild.ablate.interim_looks import Look, changed_since, listed_seeds
from nifbuild.ablate.results import DIFFERENCES, RANGES, Results, VariantResults, paired
from nifbuild.ablate.statistics import (
    ANY,
    Judgement,
    Range,
    Verdict,
    clipped,
    image_half_width,
    judge,
    summarize,
)
from nifbuild.report.show.units import bytes_text, count_text, percent_text, points_text
from nifbuild.spec.gates import ACCURACIES, GateSpec
from nifbuild.spec.study import Study

GateVerdict = Verdict | Literal["not comparable"]


@dataclass(frozen=True)
class GateResult:
    """One gate for one variant.

    Attributes:
        gate: The condition.
        labels: Of the variant.
        variant: Its name.
        verdict: Inconclusive: there is not enough data to tell. Not comparable: what it is to be
            compared with is of something else.
        reason: The figures behind it, in words.
        value: The metric, or its mean difference to what it is compared with.
        low: One-sided lower confidence bound of that; None where there is none.
        high: The upper one.
        low_images: Lower confidence bound over test images, which the one over seeds leaves out;
            None where it is no accuracy.
        high_images: The upper one.
        n: Seeds behind it.
        more_seeds: Planned seeds that are not done, for which it waits; None where it does not.
    """

    gate: GateSpec
    labels: Mapping[str, str]
    variant: str
    verdict: GateVerdict
    reason: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    low_images: float | None = None
    high_images: float | None = None
    n: int = 0
    more_seeds: int | None = None

    def document(self) -> Document:
        """As plain data."""
        taken = ("verdict", "reason", "value", "low", "high", "low_images", "high_images")
        return {
            "gate": str(self.gate),
            "metric": self.gate.metric,
            "versus": self.gate.versus,
            "confidence": self.gate.confidence if self.gate.measured else None,
            "limit": self.gate.limit,
            "variant": dict(self.labels),
            **{name: getattr(self, name) for name in (*taken, "n", "more_seeds")},
        }


def check_gates(
    study: Study, results: Results, main: Results | None, looks: Sequence[Look] = ()
) -> list[GateResult]:
    """All gates of a study, each for every variant that it is for.

    Args:
        study: With the gates.
        results: Its results.
        main: Those to compare with under `versus: main`; None: nothing was given.
        looks: When its results were shown before.
    """
    found = []
    for gate in study.spec.gates:
        for variant in study.variants_of(gate):
            own = results.find(variant.labels)
            assert own is not None  # results have all variants of the study
            found.append(_checked(study, gate, results, own, main, looks))
    return found


def _checked(
    study: Study,
    gate: GateSpec,
    results: Results,
    own: VariantResults,
    main: Results | None,
    looks: Sequence[Look],
) -> GateResult:
    other = None
    if gate.versus not in (None, "main"):
        variant = next(v for v in study.variants if v.labels == own.labels)
        compared = study.compared_with(gate, variant)
        other = None if compared is None else results.find(compared.labels)
    if gate.versus == "main" and main is not None:
        other = main.find(own.labels)
    if gate.versus is not None and other is None:
        return _nothing_to_compare_with(gate, own, main)
    if not gate.measured:
        return _known(gate, own, other)
    if gate.versus == "main" and main is not None and other is not None:
        why = incomparable(results, own, main, other)
        if why:
            reason = f"not comparable with the report of main: {'; '.join(why)}"
            return GateResult(gate, own.labels, own.name, "not comparable", reason)
    return _Measured(study, gate, own, other, looks, _elsewhere(results)).result()


_WORST_FIRST: tuple[GateVerdict, ...] = ("fail", "not comparable", "inconclusive")


def overall(results: Sequence[GateResult]) -> GateVerdict:
    """The worst verdict; pass where all pass."""
    verdicts = {result.verdict for result in results}
    return next((verdict for verdict in _WORST_FIRST if verdict in verdicts), "pass")


def tally(results: Sequence[GateResult]) -> str:
    """`2 of 3 gates pass, 1 is inconclusive`."""
    counts = Counter(result.verdict for result in results)
    parts = [f"{counts['pass']} of {len(results)} checks pass"]
    parts += [f"{counts[verdict]} {verdict}" for verdict in _WORST_FIRST if counts[verdict]]
    return ", ".join(parts)


def _nothing_to_compare_with(
    gate: GateSpec, own: VariantResults, main: Results | None
) -> GateResult:
    reason = "there is no baseline"
    if gate.versus == "main":
        reason = f"the report of main has no variant {own.name}"
        if main is None:
            reason = "nothing to compare with: give the report of main with --main FILE"
    return GateResult(gate, own.labels, own.name, "inconclusive", reason)


def _known(gate: GateSpec, own: VariantResults, other: VariantResults | None) -> GateResult:
    """A metric that is the same for all seeds."""
    value = own.costs[gate.metric]
    limit = gate.limit
    text = bytes_text if gate.metric.endswith("_bytes") else count_text
    if other is None:
        good = value >= limit if gate.at_least else value <= limit
        reason = text(value) if value < 1000 else f"{text(value)} ({value:,})"
    else:
        reference = other.costs[gate.metric]
        good = value <= reference * (1 + limit)
        change = f"{value / reference - 1:+.2%}" if reference else "from 0"
        reason = f"{text(value)}, {gate.versus_text} {text(reference)} ({change})"
    verdict: Verdict = "pass" if good else "fail"
    return GateResult(gate, own.labels, own.name, verdict, reason, value=value)


class _Measured:
    """A gate on a metric that differs from seed to seed, for one variant."""

    def __init__(
        self,
        study: Study,
        gate: GateSpec,
        own: VariantResults,
        other: VariantResults | None,
        looks: Sequence[Look],
        elsewhere: str,
    ) -> None:
        self.study, self.gate, self.own, self.other = study, gate, own, other
        self.elsewhere = elsewhere
        if other is None:
            found = own.values(gate.metric)
            self.values, seeds = list(found.values()), list(found)
        else:
            self.values, seeds = paired(own, other, gate.metric)
        # A seed that is planned and not there may be what would have told otherwise.
        self.absent = [seed for seed in own.states if seed not in seeds]
        self.changed_seeds = changed_since(looks, own.states, own.cells)

    def result(self) -> GateResult:
        gate, own = self.gate, self.own
        judgement = judge(
            self.values,
            gate.limit,
            at_least=gate.at_least,
            confidence=gate.confidence,
            resolution=own.resolution(gate.metric),
            within=self._range(),
        )
        verdict = judgement.verdict
        if verdict == "pass" and (self.absent or self.changed_seeds):
            verdict = "inconclusive"
        summary, images = summarize(self.values), self._image_bounds()
        return GateResult(
            gate,
            own.labels,
            own.name,
            verdict,
            self._reason(verdict, judgement, images),
            value=None if summary is None else summary.mean,
            low=judgement.low,
            high=judgement.high,
            low_images=None if images is None else images[0],
            high_images=None if images is None else images[1],
            n=len(self.values),
            more_seeds=len(self.absent) or None if verdict == "inconclusive" else None,
        )

    def _range(self) -> Range:
        """What the mean can be."""
        if self.other is None:
            return RANGES[self.gate.metric]
        return DIFFERENCES if self.gate.metric in ACCURACIES else ANY

    def _image_bounds(self) -> Range | None:
        """What the sampling of test images bounds an accuracy by, or a difference of two."""
        summary, metric = summarize(self.values), self.gate.metric
        both = [self.own] if self.other is None else [self.own, self.other]
        if summary is None or metric not in ACCURACIES:
            return None
        means = [summarize(list(each.values(metric).values())) for each in both]
        shares = [mean.mean for mean in means if mean is not None]
        num_images = min(each.num_images for each in both)
        width = image_half_width(shares, num_images, self.gate.confidence)
        low, high = summary.mean - width, summary.mean + width
        return clipped(low, self._range()), clipped(high, self._range())

    def _reason(self, verdict: Verdict, judgement: Judgement, images: Range | None) -> str:
        gate = self.gate
        what = "results" if self.other is None else "pairs of results"
        summary = summarize(self.values)
        parts = []
        if summary is None:
            parts.append(f"no {what}: {_who_lacks(gate, self.own, self.other, self.elsewhere)}")
        elif judgement.low is None or judgement.high is None:
            mean = amount_text(gate, summary.mean)
            parts.append(f"{mean} from one seed: a bound needs at least two")
        elif judgement.low == judgement.high:
            mean = amount_text(gate, summary.mean)
            parts.append(f"{mean} in all {summary.n} seeds: no spread, so that it decides itself")
        else:
            parts.append(
                f"{amount_text(gate, summary.mean)} (one-sided {gate.confidence * 100:g} % bounds "
                f"{_bounds_text(gate, (judgement.low, judgement.high))}, {summary.n} seeds)"
            )
        if images is not None:
            bounds = _bounds_text(gate, images)
            parts.append(f"over {self.own.num_images:,} test images, left out there: {bounds}")
        if self.changed_seeds:
            parts.append(self.changed_seeds)
        if self.absent:
            parts += _absent_text(self.own, self.absent) if self.own.results else []
        elif verdict == "inconclusive" and summary is not None and not self.changed_seeds:
            parts.append(
                "all planned seeds are in, and the confidence is not for seeds added after that: "
                "`nifbuild ablate plan` says beforehand how many show it"
            )
        if gate.metric == "effective_size" and (without := self.study.without_sizes(gate)):
            names = ", ".join(variant.name for variant in without)
            parts.append(f"not for {names}, without filters as large as the image")
        return "; ".join(parts)


def _bounds_text(gate: GateSpec, bounds: Range) -> str:
    return f"{amount_text(gate, bounds[0])} to {amount_text(gate, bounds[1])}"


def _absent_text(own: VariantResults, absent: Sequence[int]) -> list[str]:
    """`not done: seeds 1, 2`, `stale: seed 3`."""
    by_state: dict[str, list[int]] = {}
    for seed in absent:
        state = own.states[seed]
        by_state.setdefault(state if state in ("stale", "damaged") else "not done", []).append(seed)
    return [
        f"{state}: seed{'s' if len(seeds) > 1 else ''} {listed_seeds(seeds)}"
        for state, seeds in by_state.items()
    ]


def _elsewhere(results: Results) -> str:
    """What lies in the folder in place of results that are not there; empty: nothing."""
    parts = []
    if count := results.other_specs:
        parts.append(f"{count} of other specs or seeds")
    if count := results.left_out:
        parts.append(f"{count} of other data, code or versions")
    if not parts:
        return ""
    return f" (results in the folder: {' and '.join(parts)}; what was changed is a new cell)"


def _who_lacks(
    gate: GateSpec, own: VariantResults, other: VariantResults | None, elsewhere: str
) -> str:
    if not own.values(gate.metric):
        if own.results and gate.metric == "effective_size":
            return "the variant has no filters as large as the image"
        states = set(own.states.values()) & {"stale", "damaged"}
        return (
            f"those of the variant are {' or '.join(sorted(states))}"
            if states
            else f"the variant has none yet{elsewhere}"
        )
    if other is not None and not other.values(gate.metric):
        here = "" if gate.versus == "main" else elsewhere
        return f"{gate.versus_text} ({other.name}) has none{here}"
    return f"the variant and {gate.versus_text} have no seed in common"


def amount_text(gate: GateSpec, value: float) -> str:
    """A value of a measured metric, or a difference of two, with its unit."""
    compared = gate.versus is not None
    if gate.metric in ACCURACIES:
        return points_text(value) if compared else percent_text(value)
    unit = " px" if gate.metric == "effective_size" else ""
    return (f"{value:+.4g}" if compared else f"{value:.4g}") + unit


def spread_text(gate: GateSpec, value: float) -> str:
    """A standard deviation of a measured metric with its unit."""
    if gate.metric in ACCURACIES:
        return f"{value * 100:.2g}pp"
    return f"{value:.3g}{' px' if gate.metric == 'effective_size' else ''}"
