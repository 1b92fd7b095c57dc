"""What is drawn, and what is pruned: by hand, and against Optuna itself left to its own devices."""

import statistics
import sys

import pytest

from nifbuild.ablate.sampler import Drawing, Known
from nifbuild.errors import SpecError
from nifbuild.spec.search import Choices, PrunerSpec, Range, SearchSpec

SPACE = {
    "lr": Range(low=1e-4, high=1e-1, log=True),
    "width": Choices(choices=([4, 4], "a", None)),
    "depth": Range(low=1, high=4),
    "decay": Range(low=0.0, high=1.0, step=0.25),
}


def search(**fields):
    return SearchSpec(**{"trials": 30, "space": SPACE, **fields})


def played(spec, number, figure=lambda values: values["lr"], epochs=4):
    """So many trials one after another, each with a curve that ends at its figure."""
    known = []
    for _ in range(number):
        drawing = Drawing(spec, epochs, known)
        last = figure(drawing.values)
        figures = {epoch: last * epoch / epochs for epoch in range(1, epochs + 1)}
        known.append(Known(drawing.values, "done", last, figures))
    return known


@pytest.fixture(autouse=True)
def optuna():
    return pytest.importorskip("optuna")


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_values_are_in_range_differ_and_come_again(sampler):
    spec = search(sampler=sampler)
    first = [known.values for known in played(spec, 20)]
    for path, parameter in SPACE.items():
        assert all(parameter.holds(values[path]) for values in first)
    assert len({str(values) for values in first}) == 20
    assert {values["depth"] for values in first} == {1, 2, 3, 4}
    assert {values["decay"] for values in first} == {0.0, 0.25, 0.5, 0.75, 1.0}
    assert {str(values["width"]) for values in first} == {"[4, 4]", "a", "None"}
    assert all(type(values["depth"]) is int for values in first)
    assert [known.values for known in played(spec, 20)] == first
    other = [known.values for known in played(search(sampler=sampler, seed=1), 20)]
    assert all(one != two for one, two in zip(first, other, strict=True))


def test_any_trial_can_be_drawn_again_from_what_was_known_then():
    spec = search()
    known = played(spec, 16)
    for number in (0, 7, 15):
        assert Drawing(spec, 4, known[:number]).values == known[number].values


def test_results_decide_what_is_drawn_unless_it_is_at_random():
    """Far more of the later trials are good ones."""
    good = [k.values["lr"] for k in played(search(trials=40), 40)[20:]]
    bad = [k.values["lr"] for k in played(search(trials=40), 40, lambda v: -v["lr"])[20:]]
    assert statistics.median(good) > 0.01 > 0.001 > statistics.median(bad)
    low = [k.values["lr"] for k in played(search(metric="loss"), 30)[20:]]
    assert statistics.median(low) < 0.001
    at_random = search(sampler="random")
    one, two = played(at_random, 15), played(at_random, 15, lambda v: -v["lr"])
    assert [k.values for k in one] == [k.values for k in two]


def test_what_failed_is_kept_away_from():
    spec = search(trials=40)
    known = []
    for _ in range(40):
        values = Drawing(spec, 4, known).values
        if values["lr"] > 1e-3:
            known.append(Known(values, "failed"))
        else:
            known.append(Known(values, "done", 0.5, {4: 0.5}))
    before, after = ([k.state for k in half].count("failed") for half in (known[:10], known[30:]))
    assert after < before


def test_trials_that_run_are_known_by_their_values_alone():
    spec = search()
    known = played(spec, 14)
    best = max(range(14), key=lambda number: known[number].value)
    running = [*known]
    running[best] = Known(known[best].values, "running")
    drawn = Drawing(spec, 4, running).values
    assert drawn != Drawing(spec, 4, known).values
    assert drawn == Drawing(spec, 4, running).values


def curves(*last, epochs=5):
    """Trials that are done, with curves that rise evenly."""
    values = {"lr": 0.01, "width": "a", "depth": 2, "decay": 0.5}
    return [
        Known(values, "done", top, {e: top * e / epochs for e in range(1, epochs + 1)})
        for top in last
    ]


def median_search(**fields):
    return search(pruner=PrunerSpec(name="median", **fields))


def test_the_median_by_hand():
    spec = median_search(warmup_epochs=2, startup_trials=3)
    known = curves(0.2, 0.5, 0.8)  # at epoch 3 the median is 0.3
    values = known[0].values
    assert Drawing(spec, 5, known, values).prunes({1: 0.0, 2: 0.0}) is None  # given in any case
    assert Drawing(spec, 5, known, values).prunes({1: 0.0, 2: 0.0, 3: 0.29}) == 3
    assert Drawing(spec, 5, known, values).prunes({1: 0.0, 2: 0.0, 3: 0.31}) is None
    assert Drawing(spec, 5, known, values).prunes({1: 0.35, 2: 0.0, 3: 0.0}) is None  # its best
    assert Drawing(spec, 5, known, values).prunes({1: 0.35, 2: 0.0, 3: 0.0, 4: 0.0}) == 4
    assert Drawing(spec, 5, known[:2], values).prunes(dict.fromkeys(range(1, 6), 0.0)) is None
    # Seen one by one or all at once.
    drawing = Drawing(spec, 5, known, values)
    assert [drawing.prunes({e: 0.29}) for e in (1, 2, 3)] == [None, None, 3]
    drawing = Drawing(spec, 5, known, values)
    assert drawing.prunes({1: 0.29}) is None
    assert drawing.prunes({1: 0.29, 2: 0.29, 3: 0.29, 4: 0.29}) == 3


def test_of_losses_the_higher_ones_are_pruned():
    spec = search(metric="loss", pruner=PrunerSpec(warmup_epochs=0, startup_trials=1))
    known = curves(1.0)
    assert Drawing(spec, 5, known, known[0].values).prunes({1: 0.3}) == 1
    assert Drawing(spec, 5, known, known[0].values).prunes({1: 0.1}) is None


def test_after_its_last_epoch_a_trial_is_not_pruned():
    spec, known = median_search(warmup_epochs=0, startup_trials=1), curves(0.5)
    values = known[0].values
    assert Drawing(spec, 5, known, values).prunes({3: 0.1}) == 3
    assert Drawing(spec, 3, known, values).prunes({3: 0.1}) is None


def test_without_a_pruner_nothing_is_pruned():
    spec = search(pruner=PrunerSpec(name="none"))
    known = curves(*[0.9] * 20)
    assert Drawing(spec, 5, known, known[0].values).prunes(dict.fromkeys(range(1, 6), 0.0)) is None


@pytest.mark.parametrize("name", ["median", "hyperband"])
def test_judged_from_files_as_optuna_judges_in_one_go(optuna, name):
    """The same curves, told to one study of Optuna's as they come, and to a new one each time."""
    spec = search(pruner=PrunerSpec(name=name, warmup_epochs=1))
    epochs, values = 9, curves(0.5)[0].values
    pruner = {
        "median": optuna.pruners.MedianPruner(5, n_warmup_steps=2),
        "hyperband": optuna.pruners.HyperbandPruner(1, 9, reduction_factor=3),
    }[name]
    study = optuna.create_study(study_name="search", direction="maximize", pruner=pruner)
    known, expected, found = [], [], []
    for number in range(30):
        last = (number * 7 % 30) / 30
        figures = {epoch: last * epoch / epochs for epoch in range(1, epochs + 1)}
        trial, stopped = study.ask(), None
        for epoch, figure in figures.items():
            trial.report(figure, epoch)
            if trial.should_prune() and epoch < epochs:  # at the last nothing would be saved
                stopped = epoch
                break
        if stopped is None:
            study.tell(trial, last)
        else:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        expected.append(stopped)
        found.append(Drawing(spec, epochs, known, values).prunes(figures))
        seen = {e: f for e, f in figures.items() if stopped is None or e <= stopped}
        state = "done" if stopped is None else "pruned"
        known.append(Known(values, state, seen[max(seen)], seen))
    assert found == expected
    assert 3 < sum(stopped is not None for stopped in found) < 30


def test_without_optuna(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(SpecError) as caught:
        Drawing(search(), 4, [])
    (problem,) = caught.value.problems
    assert problem.what == "Optuna is not installed"
    assert problem.fix == "pip install 'nifbuild[search]'"
