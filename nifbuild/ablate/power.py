"""How many seeds a gate takes: told before they are run, as the bound needs it."""

from dataclasses import dataclass

from nifbuild.ablate.cells import Cell
from nifbuild.ablate.collect import Collected
from nifbuild.ablate.forms import Document
from nifbuild.ablate.gate import amount_text, spread_text
from nifbuild.ablate.plan import Plan, Row
from nifbuild.ablate.results import VariantResults, paired, resolution
from nifbuild.ablate.statistics import (
    POWER,
    Summary,
    power,
    seeds_for_power,
    spread_for_power,
    summarize,
)
from nifbuild.report.show.units import percent_text
from nifbuild.spec.gates import GateSpec
from nifbuild.spec.study import Variant


@dataclass(frozen=True)
class GatePower:
    """What a number of seeds can show of one gate for one variant.

    Attributes:
        gate: The condition, on a measured metric.
        variant: Which.
        seeds: How many are planned.
        mean: What is assumed to be true: of a comparison, no difference; else the mean of the seeds
            that are done. None: nothing is known.
        spread: The standard deviation over seeds that is assumed, or that of the seeds that are
            done; None: nothing is known.
        pilot_seeds: How many it is of; None: it is assumed.
        resolution: The step in which figures come, where it is known: one image, which gates take
            the standard deviation to be at least. 0: it is not, or they come in none.
    """

    gate: GateSpec
    variant: Variant
    seeds: int
    mean: float | None
    spread: float | None
    pilot_seeds: int | None
    resolution: float = 0.0

    @property
    def distance(self) -> float | None:
        """From the limit to `mean`, on the right side; None where that is not known, or beyond."""
        if self.mean is None:
            return None
        limit = self.gate.limit
        distance = self.mean - limit if self.gate.at_least else limit - self.mean
        return distance if distance > 0 else None

    @property
    def largest_spread(self) -> float | None:
        """With which the planned seeds show it with a power of 80 %."""
        if self.distance is None or self.seeds < 2:
            return None
        known = (self.gate.confidence, self.resolution)
        return spread_for_power(self.seeds, self.distance, *known)

    @property
    def power(self) -> float | None:
        """Of the planned seeds."""
        if self.distance is None or self.spread is None or self.seeds < 2:
            return None
        known = (self.gate.confidence, self.pilot_seeds, self.resolution)
        return power(self.seeds, self.distance, self.spread, *known)

    @property
    def needed(self) -> int | None:
        """Seeds with a power of 80 %; None where nothing is known, or no number is enough."""
        if self.distance is None or self.spread is None:
            return None
        known = (self.gate.confidence, self.pilot_seeds, self.resolution)
        return seeds_for_power(self.distance, self.spread, *known)

    def document(self) -> Document:
        """As plain data."""
        taken = ["seeds", "mean", "spread", "pilot_seeds", "resolution"]
        taken += ["largest_spread", "power", "needed"]
        return {
            "gate": str(self.gate),
            "variant": dict(self.variant.labels),
            **{name: getattr(self, name) for name in taken},
        }

    def text(self) -> str:
        """For people: what the planned seeds can show, and how many are needed."""
        head = f"{self.gate}, {self.variant.name}: "
        if self.seeds < 2:
            return head + "one seed bounds nothing: it cannot pass with fewer than two"
        if self.mean is None:
            return head + "how many seeds show it cannot be told before some are done"
        mean = amount_text(self.gate, self.mean)
        if self.distance is None:
            return head + f"no number of seeds shows it if the truth is {mean}"
        if self.largest_spread is None:
            return head + f"{self.seeds} seeds cannot show it if the truth is {mean}{self._floor()}"
        largest = spread_text(self.gate, self.largest_spread)
        of = "over seeds" if self.gate.versus is None else "of the differences by seed"
        text = (
            f"{head}{self.seeds} seeds have a power of {percent_text(POWER, 0)} if the truth is "
            f"{mean} and the standard deviation {of} at most {largest}"
        )
        if self.spread is None or self.power is None:
            return text
        whose = "assumed" if self.pilot_seeds is None else f"of {self.pilot_seeds} seeds done"
        text += f"; with the {spread_text(self.gate, self.spread)} {whose}, their power is "
        text += percent_text(self.power, 0)
        if self.power >= POWER:
            return text
        if self.pilot_seeds is not None and self.spread <= self.largest_spread:
            text += f", as {self.pilot_seeds} seeds tell little of the true spread"
        # Seeds that told how many are needed would be chosen after they were seen.
        other = "" if self.pilot_seeds is None else ", other than those,"
        needed = "no number of seeds" if self.needed is None else f"{self.needed:,} seeds{other}"
        return f"{text}, and {needed} would have {percent_text(POWER, 0)}"

    def _floor(self) -> str:
        """Why seeds that all agree are not enough, and how many would be."""
        assert self.distance is not None
        known = (self.gate.confidence, None, self.resolution)
        fewest = seeds_for_power(self.distance, 0.0, *known)
        step = spread_text(self.gate, self.resolution)
        more = "" if fewest is None else f"at least {fewest:,} seeds, "
        return (
            f", even if all agree: their standard deviation is taken to be at least one image, "
            f"{step}. It takes {more}more images or a wider margin"
        )


def powers(plan: Plan) -> list[GatePower]:
    """Of each gate on a measured metric, for each variant that it is for."""
    study = plan.study
    rows = {row.variant.name: row for row in plan.rows}
    return [
        _power(plan.collected, gate, rows[variant.name])
        for gate in study.spec.gates
        if gate.measured
        for variant in study.variants_of(gate)
    ]


def _power(collected: Collected, gate: GateSpec, row: Row) -> GatePower:
    variant = row.variant
    own = _results(collected, variant)
    done: Summary | None = None
    if gate.versus is None:
        done = summarize(list(own.values(gate.metric).values()))
    elif gate.versus != "main":
        other = collected.study.compared_with(gate, variant)
        assert other is not None  # it was checked
        done = summarize(paired(own, _results(collected, other), gate.metric)[0])
    step = resolution(gate.metric, row.images)
    spread, pilot_seeds = gate.assumed_spread, None
    if spread is None and done is not None and done.std is not None:
        spread, pilot_seeds = max(done.std, step), done.n
    mean = 0.0 if gate.versus is not None else None if done is None else done.mean
    seeds = len(collected.study.spec.seeds)
    return GatePower(gate, variant, seeds, mean, spread, pilot_seeds, step)


def _results(collected: Collected, variant: Variant) -> VariantResults:
    seeds = collected.study.spec.seeds
    found = {seed: collected.result(Cell(variant, seed)) for seed in seeds}
    results = {seed: result for seed, result in found.items() if result is not None}
    return VariantResults(variant.labels, None, {}, results, {})
