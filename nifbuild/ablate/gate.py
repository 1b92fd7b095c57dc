"""Gates: whether a study shows what it is required to show."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nifbuild.ablate.cells import Document
from nifbuild.ablate.results import Results, VariantResults, paired
from nifbuild.ablate.statistics import Judgement, Verdict, judge, summarize
from nifbuild.report.inspect.units import bytes_text, count_text
from nifbuild.spec.gates import ACCURACIES, GateSpec
from nifbuild.spec.study import Study


@dataclass(frozen=True)
class GateResult:
    """One gate for one variant.

    Attributes:
        gate: The condition.
        labels: Of the variant.
        variant: Its name.
        verdict: Inconclusive: there is not enough data to tell.
        reason: The figures behind it, in words.
        value: The metric, or its mean difference to what it is compared with.
        low: One-sided lower confidence bound of that; None where there is none.
        high: The upper one.
        n: Seeds behind it.
        more_seeds: How many more would about settle it; None where none are needed, or no number
            can be told.
    """

    gate: GateSpec
    labels: Mapping[str, str]
    variant: str
    verdict: Verdict
    reason: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    more_seeds: int | None = None

    def document(self) -> Document:
        """As plain data."""
        taken = ("verdict", "reason", "value", "low", "high", "n", "more_seeds")
        return {
            "gate": str(self.gate),
            "metric": self.gate.metric,
            "versus": self.gate.versus,
            "confidence": self.gate.confidence if self.gate.measured else None,
            "limit": self.gate.limit,
            "variant": dict(self.labels),
            **{name: getattr(self, name) for name in taken},
        }


def check_gates(study: Study, results: Results, main: Results | None) -> list[GateResult]:
    """All gates of a study, each for every variant that it is for.

    Args:
        study: With the gates.
        results: Its results.
        main: Those to compare with under `versus: main`; None: nothing was given.
    """
    found = []
    for gate in study.spec.gates:
        for variant in study.variants_of(gate):
            own = results.find(variant.labels)
            assert own is not None  # results have all variants of the study
            other = results.find(own.baseline) if gate.versus == "baseline" else None
            if gate.versus == "main" and main is not None:
                other = main.find(variant.labels)
            if gate.versus is not None and other is None:
                found.append(_nothing_to_compare_with(gate, own, main))
            elif gate.measured:
                found.append(_measured(gate, own, other))
            else:
                found.append(_known(gate, own, other))
    return found


def overall(results: Sequence[GateResult]) -> Verdict:
    """Fail where one fails; else inconclusive where one is."""
    verdicts = {result.verdict for result in results}
    return (
        "fail" if "fail" in verdicts else "inconclusive" if "inconclusive" in verdicts else "pass"
    )


def tally(results: Sequence[GateResult]) -> str:
    """`2 of 3 gates pass, 1 is inconclusive`."""
    counts = Counter(result.verdict for result in results)
    parts = [f"{counts['pass']} of {len(results)} checks pass"]
    parts += [f"{counts['fail']} fail"] if counts["fail"] else []
    parts += [f"{counts['inconclusive']} inconclusive"] if counts["inconclusive"] else []
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
        reason = f"{text(value)}, {gate.versus} {text(reference)} ({change})"
    verdict: Verdict = "pass" if good else "fail"
    return GateResult(gate, own.labels, own.name, verdict, reason, value=value)


def _measured(gate: GateSpec, own: VariantResults, other: VariantResults | None) -> GateResult:
    """A metric that differs from seed to seed."""
    if other is None:
        values = list(own.values(gate.metric).values())
        seeds = list(own.values(gate.metric))
    else:
        values, seeds = paired(own, other, gate.metric)
    judgement = judge(
        values,
        gate.limit,
        at_least=gate.at_least,
        confidence=gate.confidence,
        resolution=own.resolution(gate.metric),
    )
    # A seed that is planned and not there may be what would have told otherwise.
    absent = [seed for seed in own.states if seed not in seeds]
    verdict = judgement.verdict
    if verdict == "pass" and absent:
        verdict = "inconclusive"
    summary = summarize(values)
    return GateResult(
        gate,
        own.labels,
        own.name,
        verdict,
        _reason(gate, own, other, values, judgement, absent),
        value=None if summary is None else summary.mean,
        low=judgement.low,
        high=judgement.high,
        n=len(values),
        more_seeds=judgement.more_seeds if judgement.verdict == "inconclusive" else None,
    )


def _reason(
    gate: GateSpec,
    own: VariantResults,
    other: VariantResults | None,
    values: Sequence[float],
    judgement: Judgement,
    absent: Sequence[int],
) -> str:
    what = "results" if other is None else "pairs of results"
    parts = []
    summary = summarize(values)
    if summary is None:
        parts.append(f"no {what}: {_who_lacks(gate, own, other)}")
    elif judgement.low is None or judgement.high is None:
        mean = amount_text(gate, summary.mean)
        parts.append(
            f"{mean} from one seed: a bound needs at least two"
            if summary.n == 1
            else f"{mean} in all {summary.n} seeds: without a spread nothing bounds it"
        )
    else:
        bounds = f"{amount_text(gate, judgement.low)} to {amount_text(gate, judgement.high)}"
        parts.append(
            f"{amount_text(gate, summary.mean)} (one-sided {gate.confidence * 100:g} % bounds "
            f"{bounds}, {summary.n} seeds)"
        )
        if judgement.verdict == "inconclusive":
            parts.append(_needed(judgement))
    if absent and summary is not None:
        listed = ", ".join(map(str, absent))
        parts.append(f"not done: seed{'s' if len(absent) > 1 else ''} {listed}")
    return "; ".join(parts)


def _needed(judgement: Judgement) -> str:
    if judgement.more_seeds is None:
        return "no number of seeds would settle it if the mean stays so close to the limit"
    count = judgement.more_seeds
    more = f"about {count:,} more seed{'s' if count > 1 else ''}"
    return f"{more} would settle it if mean and spread stay"


def _who_lacks(gate: GateSpec, own: VariantResults, other: VariantResults | None) -> str:
    if not own.values(gate.metric):
        if own.results and gate.metric == "effective_size":
            return "the variant has no filters as large as the image"
        return "the variant has none yet"
    if other is not None and not other.values(gate.metric):
        return f"{gate.versus} ({other.name}) has none"
    return f"the variant and {gate.versus} have no seed in common"


def amount_text(gate: GateSpec, value: float) -> str:
    """A value of a measured metric, or a difference of two, with its unit."""
    compared = gate.versus is not None
    if gate.metric in ACCURACIES:
        return f"{value * 100:+.2f}pp" if compared else f"{value:.2%}"
    unit = " px" if gate.metric == "effective_size" else ""
    return (f"{value:+.4g}" if compared else f"{value:.4g}") + unit
