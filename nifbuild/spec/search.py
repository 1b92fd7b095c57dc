"""What YAML may say under `search:` of a study: values are drawn from ranges, trial by trial."""

import json
import math
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from nifbuild.spec.base import LARGEST, NonNegativeInt, PositiveInt, Spec, finding

MAX_TRIALS = 1000
"""Most trials that a search may have."""

_DIGITS = 6
"""Of values from a range, as people can write them; what is written down is what is run."""

Number = Annotated[int | float, Field(ge=-LARGEST, le=LARGEST)]


class Range(Spec):
    """Numbers from one to another, both included."""

    low: Number
    """The lowest number. Where `low`, `high` and `step` are whole numbers, whole numbers are drawn;
    write `0.0` for others."""

    high: Number
    """The highest number."""

    log: bool = False
    """Draw evenly over powers, so that 1e-4 to 1e-3 is as likely as 1e-3 to 1e-2."""

    step: Number | None = None
    """Draw only `low`, `low + step` and so on up to `high`. Null: any, or any whole number."""

    @property
    def is_whole(self) -> bool:
        """Whether whole numbers are drawn."""
        return all(isinstance(n, int) for n in (self.low, self.high, self.step) if n is not None)

    @model_validator(mode="after")
    def _holds_several(self) -> Self:
        if not self.low < self.high:
            what = f"a range goes up: from {self.low:g} to {self.high:g} there is nothing to choose"
            raise finding(what, "write a `high` above `low`, or the one value under `set:`")
        if self.log and self.low <= 0:
            what = f"a logarithmic range starts above 0, not at {self.low:g}"
            raise finding(what, "write a small `low`, such as 1e-6, or log: false", at=("low",))
        if self.step is None:
            return self
        if self.log:
            what = "a logarithmic range has no steps"
            raise finding(what, "leave one of `log` and `step` out", at=("step",))
        steps = (self.high - self.low) / self.step if self.step > 0 else 0.0
        if round(steps) < 1 or not math.isclose(steps, round(steps), rel_tol=1e-9):
            what = f"steps of {self.step:g} do not lead from {self.low:g} to {self.high:g}"
            raise finding(what, "`high` is `low` and so many steps", at=("step",))
        return self

    def rounded(self, value: float) -> int | float:
        """A number that was drawn, with few digits, within the range."""
        if self.is_whole:
            return round(value)
        if self.step is not None:
            return float(f"{value:.15g}")
        return float(min(max(float(f"{value:.{_DIGITS}g}"), self.low), self.high))

    @property
    def ends(self) -> tuple[Any, ...]:
        """What has to work for all of it to work, as far as can be told beforehand."""
        return (self.low, self.high) if self.is_whole else (float(self.low), float(self.high))

    def holds(self, value: object) -> bool:
        """Whether it may have been drawn."""
        kinds = int if self.is_whole else (int, float)
        is_number = isinstance(value, kinds) and not isinstance(value, bool)
        return is_number and self.low <= value <= self.high  # type: ignore[operator]

    def __str__(self) -> str:
        kind = "whole numbers" if self.is_whole else "numbers"
        step = "" if self.step is None else f" in steps of {self.step:g}"
        log = ", logarithmic" if self.log else ""
        return f"{kind} from {self.low:g} to {self.high:g}{step}{log}"


class Choices(Spec):
    """Values without an order."""

    # A list, once the discriminator has looked at it: it is no longer JSON.
    choices: Annotated[tuple[Any, ...], Field(strict=False, min_length=2)]
    """One of these is drawn."""

    @model_validator(mode="after")
    def _all_differ(self) -> Self:
        labels = [json.dumps(choice) for choice in self.choices]
        if len(set(labels)) < len(labels):
            raise finding("a value is given twice", at=("choices",))
        return self

    @property
    def ends(self) -> tuple[Any, ...]:
        """All of them."""
        return self.choices

    def holds(self, value: object) -> bool:
        """Whether it may have been drawn."""
        return json.dumps(value) in map(json.dumps, self.choices)

    def place(self, value: object) -> int:
        """Which of them it is, from 0."""
        return [json.dumps(choice) for choice in self.choices].index(json.dumps(value))

    def __str__(self) -> str:
        return f"one of {', '.join(json.dumps(choice) for choice in self.choices)}"


def _range_or_choices(value: object) -> object:
    if isinstance(value, dict | Spec):
        return value
    fix = "write {low: 1e-4, high: 1e-1, log: true}, or {choices: [8, 16, 32]}"
    raise finding("neither a range nor choices", fix)


def _which(value: Any) -> str:
    given = isinstance(value, Choices) or (isinstance(value, dict) and "choices" in value)
    return Choices.__name__ if given else Range.__name__


Parameter = Annotated[
    Annotated[Range, Tag(Range.__name__)] | Annotated[Choices, Tag(Choices.__name__)],
    Discriminator(_which),
    BeforeValidator(_range_or_choices),
]
"""What one value is drawn from."""


class PrunerSpec(Spec):
    """When a trial is ended that does too badly to be worth its remaining epochs."""

    name: Literal["median", "hyperband", "none"] = "median"
    """`median`: where its best figure so far is worse than the median of those that earlier trials
    had at the same epoch. `hyperband`: at few epochs, each some times the last, only the best third
    goes on (Li et al., arXiv 1603.06560). `none`: never."""

    warmup_epochs: NonNegativeInt = 2
    """Epochs that each trial is given in any case; of hyperband, before it first decides."""

    startup_trials: PositiveInt = 5
    """Of `median`: trials that are trained to the end before any is pruned."""

    @model_validator(mode="after")
    def _fields_of_its_own(self) -> Self:
        own = {"median": {"warmup_epochs", "startup_trials"}, "hyperband": {"warmup_epochs"}}
        for field in ("warmup_epochs", "startup_trials"):
            if field in self.model_fields_set and field not in own.get(self.name, set()):
                what = f"`{field}` has no meaning with the pruner {self.name}"
                raise finding(what, "leave it out", at=(field,))
        return self


class SearchSpec(Spec):
    """Trials of one spec, each with values that are drawn by what the trials before it came to."""

    trials: Annotated[int, Field(ge=1, le=MAX_TRIALS)]
    """How many values are tried. More may be added later: they go on from those that are done."""

    sampler: Literal["tpe", "random"] = "tpe"
    """How values are drawn. `tpe`: ten trials at random, then where good ones lie denser than
    others (the tree-structured Parzen estimator, Bergstra et al. 2011). `random`: all of them at
    random."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Of drawing; that of training stands under `seeds`."""

    metric: Literal["top1", "loss"] = "top1"
    """The figure on the validation split that trials are judged by: the highest accuracy, or the
    lowest loss, of the checkpoint that the run has selected. Test images decide nothing."""

    pruner: PrunerSpec = PrunerSpec()
    """When a trial is ended early."""

    space: Annotated[dict[str, Parameter], Field(min_length=1)]
    """What is drawn, by path: `train.optimizer.lr: {low: 1e-4, high: 1e-1, log: true}`,
    `vars.width: {choices: [8, 16, 32]}`, `vars.depth: {low: 1, high: 4}`."""

    @property
    def corners(self) -> list[dict[str, Any]]:
        """Values that are tried out before anything runs: all at one end, and each choice."""
        low = {path: parameter.ends[0] for path, parameter in self.space.items()}
        high = {path: parameter.ends[-1] for path, parameter in self.space.items()}
        between = [
            {**low, path: value}
            for path, parameter in self.space.items()
            for value in parameter.ends[1:-1]
        ]
        return [low, *between, high]
