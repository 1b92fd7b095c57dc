"""Draws the values of trials, and judges trials that run: all that is asked of Optuna.

For each trial a study of Optuna's is made anew in memory from what was known when it was drawn, and
its random numbers are those of the search's seed and the trial's number. So a trial depends on
nothing but what is written down, however often a search is interrupted.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from nifbuild.errors import SpecError, not_installed
from nifbuild.spec.search import Choices, SearchSpec

_REDUCTION = 3  # of hyperband: so many times fewer trials, for so many times more epochs


@dataclass(frozen=True)
class Known:
    """What is known of a trial when a later one is drawn.

    Attributes:
        values: By path.
        state: Of one that has not ended, `running`, only its values are known.
        value: Of one that is done, its figure.
        figures: By epoch, so far as it was trained.
    """

    values: Mapping[str, Any]
    state: Literal["done", "pruned", "failed", "running"]
    value: float | None = None
    figures: Mapping[int, float] = field(default_factory=dict)


class Drawing:
    """One trial, as Optuna sees it.

    Args:
        search: What the study says.
        epochs: Most that a trial is trained.
        before: All trials before it, in order.
        values: Where it was drawn already, by path; None: they are drawn now.

    Raises:
        SpecError: Optuna is not installed.
    """

    def __init__(
        self,
        search: SearchSpec,
        epochs: int,
        before: Sequence[Known],
        values: Mapping[str, Any] | None = None,
    ) -> None:
        self._optuna = _import_optuna()
        self._search = search
        self._distributions = {
            path: self._distribution(parameter) for path, parameter in search.space.items()
        }
        with _no_warnings():
            # Trials that are told of have their values; a sampler must not lose time over them.
            self._study = self._optuna.create_study(
                study_name="search",  # hyperband chooses by it
                direction="maximize" if search.metric == "top1" else "minimize",
                sampler=self._optuna.samplers.RandomSampler(0),
                pruner=self._pruner(epochs),
            )
            for known in before:
                self._tell(known)
            if values is None:
                self._study.sampler = self._sampler(len(before))
                self._trial = self._study.ask(self._distributions)
            else:
                self._trial = self._asked(values)
        self._reported: set[int] = set()
        self.values = self._drawn() if values is None else dict(values)
        self._last = int(self.values.get("train.epochs", epochs))

    def prunes(self, figures: Mapping[int, float]) -> int | None:
        """The epoch after which the trial is to be ended, if there is one.

        Args:
            figures: By epoch, so far; those that were given before may be left out or not.
        """
        for epoch in sorted(figures.keys() - self._reported):
            self._reported.add(epoch)
            self._trial.report(figures[epoch], epoch)
            if self._trial.should_prune() and epoch < self._last:  # then it has its result
                return epoch
        return None

    def _sampler(self, number: int) -> Any:
        seed = int(np.random.SeedSequence((self._search.seed, number)).generate_state(1)[0])
        if self._search.sampler == "random":
            return self._optuna.samplers.RandomSampler(seed)
        return self._optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)

    def _pruner(self, epochs: int) -> Any:
        spec, pruners = self._search.pruner, self._optuna.pruners
        if spec.name == "median":
            return pruners.MedianPruner(spec.startup_trials, n_warmup_steps=spec.warmup_epochs + 1)
        if spec.name == "hyperband":
            first = min(max(1, spec.warmup_epochs), epochs)
            return pruners.HyperbandPruner(first, epochs, reduction_factor=_REDUCTION)
        return pruners.NopPruner()

    def _distribution(self, parameter: Any) -> Any:
        made = self._optuna.distributions
        if isinstance(parameter, Choices):
            return made.CategoricalDistribution(range(len(parameter.choices)))
        low, high, log, step = parameter.low, parameter.high, parameter.log, parameter.step
        if parameter.is_whole:
            return made.IntDistribution(low, high, log=log, step=step or 1)
        return made.FloatDistribution(low, high, log=log, step=step)

    def _drawn(self) -> dict[str, Any]:
        """The values, as they are written down."""
        drawn: dict[str, Any] = {}
        for path, parameter in self._search.space.items():
            value = self._trial.params[path]
            if isinstance(parameter, Choices):
                drawn[path] = parameter.choices[value]
            else:
                drawn[path] = parameter.rounded(value)
        return drawn

    def _asked(self, values: Mapping[str, Any]) -> Any:
        """A trial with these values."""
        found = dict(values)
        for path, parameter in self._search.space.items():
            if isinstance(parameter, Choices):
                found[path] = parameter.place(values[path])
        self._study.enqueue_trial(found)
        return self._study.ask(self._distributions)

    def _tell(self, known: Known) -> None:
        trial = self._asked(known.values)
        for epoch, figure in sorted(known.figures.items()):
            trial.report(figure, epoch)
            if self._search.pruner.name == "hyperband":
                trial.should_prune()  # it notes who has come how far
        states = self._optuna.trial.TrialState
        if known.state == "done":
            self._study.tell(trial, known.value)
        elif known.state != "running":
            # One that failed has no figures: it counts as worse than all that have some.
            self._study.tell(trial, state=states.PRUNED)


def _import_optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise SpecError(not_installed("Optuna", "search", path="search")) from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


@contextmanager
def _no_warnings() -> Iterator[None]:
    """Versions before 5 call experimental what is asked of them here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
