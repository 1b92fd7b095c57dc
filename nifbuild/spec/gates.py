"""What YAML may say under `gates:` of a study: what a change must not make worse.

An amount carries its unit: `-0.5pp` (percentage points) and `95%` of accuracy, `12M` parameters,
`8GiB`, `5%` more. Each is held as a plain number: shares of 1, counts, bytes.
"""

import re
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from nifbuild.spec.base import Spec, finding
from nifbuild.spec.budget import parse_bytes, parse_count

Metric = Literal[
    "top1",
    "top5",
    "loss",
    "effective_size",
    "params",
    "macs",
    "train_peak_bytes",
    "inference_peak_bytes",
]
ACCURACIES = ("top1", "top5")
MEASURED = (*ACCURACIES, "loss", "effective_size")
"""Metrics that training gives, another value for each seed; the others are known before."""

COSTS = ("params", "macs", "train_peak_bytes", "inference_peak_bytes")
"""Metrics that are known before training."""

_BYTES = ("train_peak_bytes", "inference_peak_bytes")
_NUMBER = re.compile(r"([+-]?\d+(?:\.\d+)?)\s*(pp|%|)")
Amount = str | int | float


class GateSpec(Spec):
    """One condition; it is checked for each variant on its own."""

    metric: Metric
    """What it is about. top1 and top5 (accuracy), loss and effective_size are measured, for each
    seed; params, macs, train_peak_bytes and inference_peak_bytes are those of `nifbuild inspect`.
    """

    versus: Literal["baseline", "main"] | dict[str, str | int | float | bool] | None = None
    """What it is compared with, seed by seed: the study's baseline, the same variant in the report
    that `--main` names, or the variant with these labels, by axis, and else the same. Null: with
    `min` or `max`."""

    margin: Amount | None = None
    """The difference to the other that is allowed, of a measured metric: `-0.5pp` lets accuracy be
    half a point lower; `0.05` lets a loss, which should be low, be that much higher. Of the other
    sign, it is how much better it has to be: `1pp` of accuracy, `-0.05` of a loss."""

    max_increase: Amount | None = None
    """How much more than the other is allowed, as a share of it, of a metric that is known before
    training: `5%`."""

    max: Amount | None = None
    """The largest value that is allowed, such as `12M`, `8GiB` or, of effective_size, pixels."""

    min: Amount | None = None
    """The smallest value that is allowed, such as `95%`."""

    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Of the one-sided bound on the mean over seeds, where the metric is measured."""

    spread: Amount | None = None
    """What `nifbuild ablate plan` assumes of a measured metric: its standard deviation over seeds,
    or, with `versus`, that of the differences seed by seed, such as `0.4pp`. Null: that of the
    seeds that are done."""

    where: dict[str, str | int | float | bool] = {}
    """Labels of the variants that it is for, by axis. Empty: all but the baseline, or, without
    `versus: baseline`, all."""

    @property
    def measured(self) -> bool:
        """Whether its metric differs from seed to seed."""
        return self.metric in MEASURED

    @property
    def versus_text(self) -> str:
        """What it is compared with, in words: `baseline`, `main`, or `filters=standard`."""
        if isinstance(self.versus, dict):
            return ", ".join(f"{axis}={label}" for axis, label in self.versus.items())
        return self.versus or ""

    @property
    def prefers_high(self) -> bool:
        """Whether more of its metric is better."""
        return self.metric in ACCURACIES

    @property
    def limit(self) -> float:
        """The one limit that it sets, in plain units."""
        name = self._given()[0]
        return parse_amount(self.metric, name, getattr(self, name))

    @property
    def assumed_spread(self) -> float | None:
        """`spread` in plain units."""
        return None if self.spread is None else parse_amount(self.metric, "margin", self.spread)

    def __str__(self) -> str:
        name, amount = self._given()[0], getattr(self, self._given()[0])
        words = {"max": "at most", "min": "at least", "max_increase": "at most"}
        if self.versus is not None and self.limit and (self.limit > 0) == self.at_least:
            # It has to be better by so much, rather than may be worse.
            sides = {"max_increase": "less than", "margin": "above" if self.at_least else "below"}
            size = str(amount).strip().lstrip("+-")
            return f"{self.metric} at least {size} {sides[name]} {self.versus_text}"
        text = f"{self.metric} {words.get(name, 'within')} {amount}"
        if self.versus is not None:
            text += " more than " if name == "max_increase" else " of "
            text += self.versus_text
        return text

    @property
    def at_least(self) -> bool:
        """Whether its limit is a lower one."""
        name = self._given()[0]
        return name == "min" or (name == "margin" and self.prefers_high)

    def _given(self) -> list[str]:
        names = ("margin", "max_increase", "max", "min")
        return [name for name in names if getattr(self, name) is not None]

    @model_validator(mode="after")
    def _one_limit_that_fits(self) -> Self:
        given = self._given()
        compared = ("margin",) if self.measured else ("max_increase",)
        allowed = ("max", "min") if self.versus is None else compared
        if len(given) != 1 or given[0] not in allowed:
            what = f"a gate has one limit, and this one has {', '.join(given) or 'none'}"
            how = f"of {self.metric} {'without' if self.versus is None else 'with'} `versus`"
            if len(given) == 1:
                what = f"`{given[0]}` has no meaning {how}"
            fix = f"the limit {how}: {' or '.join(f'`{name}`' for name in allowed)}"
            raise finding(what, fix)
        try:
            self.limit  # noqa: B018  # its own parser says what is wrong
        except ValueError as error:
            raise finding(str(error), at=(given[0],)) from None
        if not self.measured:
            for name in ("confidence", "spread"):
                if name in self.model_fields_set:
                    what = f"{self.metric} is the same for all seeds: no {name} enters"
                    raise finding(what, "leave it out", at=(name,))
            return self
        try:
            spread = self.assumed_spread
        except ValueError as error:
            raise finding(str(error), at=("spread",)) from None
        if spread is not None and spread <= 0:
            raise finding(f"a standard deviation is above 0, not {self.spread}", at=("spread",))
        return self


def parse_amount(metric: str, limit: str, amount: Amount) -> float:
    """The value of an amount in plain units: shares of 1, counts, bytes, pixels.

    Args:
        metric: What it is an amount of.
        limit: The field that it stands in.
        amount: As it is written.

    Raises:
        ValueError: It lacks its unit, or has one that does not suit.
    """
    if limit == "max_increase":
        return _number(amount, "%", "5%") / 100
    if metric in ACCURACIES:
        unit, example = ("pp", "-0.5pp") if limit == "margin" else ("%", "95%")
        return _number(amount, unit, example) / 100
    if limit == "margin" or metric in MEASURED:
        return _number(amount, "", "0.05")
    parse = parse_bytes if metric in _BYTES else parse_count
    return float(parse(amount) if isinstance(amount, str) else amount)


def _number(amount: Amount, unit: str, example: str) -> float:
    found = _NUMBER.fullmatch(str(amount).strip())
    if found is None or found[2] != unit:
        wanted = {"pp": "percentage points", "%": "percent"}.get(unit, "a plain number")
        raise ValueError(f"expected {wanted}, as in {example}, got '{amount}'")
    return float(found[1])
