"""Searches: what is drawn from, what is checked before, and what is wrong with one."""

import jsonschema
import pytest

from nifbuild.errors import SpecError
from nifbuild.spec.ablation import is_study, load_study
from nifbuild.spec.resolve import load_spec
from nifbuild.spec.schema import study_schema
from nifbuild.spec.search import Choices, Range
from nifbuild.spec.source import parse, plain
from tests.spec.test_ablation import BASE

SEARCH = """
base: base.yaml
set: {train.epochs: 2}
search:
  trials: 12
  sampler: tpe
  pruner: {name: median, warmup_epochs: 1}
  space:
    train.optimizer.lr: {low: 1e-4, high: 1e-1, log: true}
    vars.width: {choices: [4, 6, 8]}
    train.batch_size: {low: 16, high: 64, step: 16}
"""


def read(text):
    return plain(parse(text, "study.yaml"))


@pytest.fixture
def study(tmp_path):
    def read(text=SEARCH, base=BASE):
        (tmp_path / "base.yaml").write_text(base)
        path = tmp_path / "study.yaml"
        path.write_text(text)
        return load_study(path)

    return read


def test_a_search_is_a_study_without_variants(study, tmp_path):
    found = study()
    assert is_study(tmp_path / "study.yaml")
    assert found.variants == () and found.name == "study"
    assert found.axes == ("train.optimizer.lr", "vars.width", "train.batch_size")
    search = found.spec.search
    assert (search.trials, search.sampler, search.seed, search.metric) == (12, "tpe", 0, "top1")
    assert (search.pruner.name, search.pruner.warmup_epochs) == ("median", 1)


def test_a_trial_is_the_base_with_its_values(study, tmp_path):
    values = {"train.optimizer.lr": 0.0123, "vars.width": 6, "train.batch_size": 32}
    trial = study().trial(values)
    overrides = ["train.epochs=2", *(f"{path}={value}" for path, value in values.items())]
    expected = load_spec(tmp_path / "base.yaml", overrides=[*overrides, "train.seed=0"])
    assert trial.text(0) == expected.text
    assert trial.name == "train.optimizer.lr=0.0123, vars.width=6, train.batch_size=32"


def test_choices_may_be_lists(study):
    betas = "train.optimizer.betas: {choices: [[0.9, 0.99], [0.8, 0.9]]}"
    text = SEARCH.replace("train.batch_size: {low: 16, high: 64, step: 16}", betas)
    values = {"train.optimizer.lr": 0.01, "vars.width": 4, "train.optimizer.betas": [0.8, 0.9]}
    assert study(text).trial(values).resolved.spec.train.optimizer.betas == (0.8, 0.9)


def test_the_ends_of_the_space():
    text = read(SEARCH)["search"]["space"]
    space = {
        "a": Range(**text["train.batch_size"]),
        "b": Choices(choices=(4, 6, 8)),
        "c": Range(low=0.0, high=0.5),
    }
    assert [parameter.ends for parameter in space.values()] == [(16, 64), (4, 6, 8), (0.0, 0.5)]


def test_numbers_are_whole_where_all_are():
    assert Range(low=1, high=4).is_whole and Range(low=1, high=5, step=2).is_whole
    assert not Range(low=0.0, high=1).is_whole and not Range(low=0, high=1, step=0.25).is_whole
    assert str(Range(low=1, high=4)) == "whole numbers from 1 to 4"
    assert str(Range(low=0.0, high=1.0, step=0.25)) == "numbers from 0 to 1 in steps of 0.25"


@pytest.mark.parametrize(
    ("parameter", "drawn", "expected"),
    [
        (Range(low=1e-4, high=0.1, log=True), 0.0123456789, 0.0123457),
        # Within the range, whichever way it is rounded.
        (Range(low=1.23456321, high=2.0), 1.23456321, 1.23456321),
        (Range(low=0.0, high=1.23456789), 1.23456789, 1.23456789),
        (Range(low=1, high=4), 3, 3),
        (Range(low=0.0, high=1.0, step=0.1), 0.1 + 0.2, 0.3),
    ],
)
def test_drawn_numbers_have_few_digits(parameter, drawn, expected):
    assert parameter.rounded(drawn) == expected
    assert isinstance(parameter.rounded(drawn), type(expected))
    assert parameter.holds(parameter.rounded(drawn))


def test_what_may_have_been_drawn():
    whole, number = Range(low=1, high=4), Range(low=0.5, high=4.0)
    assert whole.holds(4) and not whole.holds(5) and not whole.holds(2.0) and not whole.holds(True)
    assert number.holds(2.5) and number.holds(4) and not number.holds(0.4)
    assert not number.holds("2") and not number.holds(None) and not number.holds(float("nan"))
    choices = Choices(choices=(1, "a", None))
    assert choices.holds("a") and choices.holds(None) and not choices.holds(True)
    assert choices.place(None) == 2


LR = "train.optimizer.lr: {low: 1e-4, high: 1e-1, log: true}"
WIDTH = "vars.width: {choices: [4, 6, 8]}"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("trials: 12", "trials: 0"), "5:11: search.trials: expected at least 1, got 0"),
        (("trials: 12", "trials: 1001"), "search.trials: expected at most 1,000"),
        (("  trials: 12\n", ""), "search.trials: missing field `trials`"),
        (("sampler: tpe", "sampler: tpa"), "6:12: search.sampler: expected tpe or random, got"),
        (("sampler: tpe", "sampler: cmaes"), "search.sampler: expected tpe or random, got"),
        (("sampler: tpe", "smapler: tpe"), "6:3: search.smapler: unknown field 'smapler'"),
        (("sampler: tpe", "seed: -1"), "6:9: search.seed: expected at least 0, got -1"),
        (("sampler: tpe", "seed: 1.5"), "6:9: search.seed: expected a whole number, got 1.5"),
        (("sampler: tpe", "metric: top5"), "6:11: search.metric: expected top1 or loss, got"),
        (("name: median", "name: medium"), "search.pruner.name: expected median, hyperband or"),
        (("{name: median, warmup_epochs: 1}", "hyperband"),
         '7:11: search.pruner: expected a mapping, got "hyperband"\n  write {name: hyperband}'),
        (("name: median", "name: none"), "`warmup_epochs` has no meaning with the pruner none"),
        (("warmup_epochs: 1", "warmup_epochs: -1"), "search.pruner.warmup_epochs: expected at"),
        (("warmup_epochs: 1", "startup_trials: 0"), "search.pruner.startup_trials: expected at"),
        (("median, warmup_epochs: 1", "hyperband, startup_trials: 3"),
         "`startup_trials` has no meaning with the pruner hyperband"),
        ((LR, "train.optimizer.lr: 0.1"), "9:5: search.space.train.optimizer.lr: neither a range"),
        ((LR, "train.optimizer.lr: [0.1, 0.2]"), "write {low: 1e-4, high: 1e-1, log: true}, or"),
        ((LR, "train.optimizer.lr: {low: 1e-4}"), "lr.high: missing field `high`"),
        ((LR, "train.optimizer.lr: {low: 1e-4, hgh: 1}"), "unknown field 'hgh'"),
        ((LR, "train.optimizer.lr: {low: x, high: 1}"), "9:31: search.space.train.optimizer.lr"),
        ((LR, "train.optimizer.lr: {low: 0.1, high: 0.1}"), "from 0.1 to 0.1 there is nothing"),
        ((LR, "train.optimizer.lr: {low: 0.0, high: 0.1, log: true}"), "starts above 0, not at 0"),
        ((LR, "train.optimizer.lr: {low: 0.1, high: 0.2, step: 0.03}"), "steps of 0.03 do not"),
        ((LR, "train.optimizer.lr: {low: 0.1, high: 0.2, step: 0}"), "steps of 0 do not"),
        ((LR, "train.optimizer.lr: {low: 0.1, high: 0.2, step: 0.1, log: true}"), "has no steps"),
        ((LR, "train.optimizer.lr: {low: -1.0, high: 0.1}"),
         "train.optimizer.lr: expected a number above 0, got -1.0"),
        ((LR, "train.optimizer.l: {low: 0.1, high: 0.2}"), "train.optimizer.l: unknown field 'l'"),
        ((LR, "train: {choices: [{epochs: 2}, {seed: 1}]}"), "train.seed is nothing to search"),
        (("train.epochs: 2", "train.seed: 5"), "set.train.seed: train.seed is nothing to set"),
        ((LR, "train.seed: {low: 1, high: 9}"), "train.seed is nothing to search for"),
        ((LR, "patch: {low: 1, high: 9}"), "patch cannot be set by a path"),
        ((LR, "lr: {low: 0.1, high: 0.2}"), "9:5: search.space.lr: 'lr' is no path of a spec"),
        ((WIDTH, "vars.width: {choices: [4]}"), "choices: expected at least 2 entries, got [4]"),
        ((WIDTH, "vars.width: {choices: [4, 4]}"), "vars.width.choices: a value is given twice"),
        ((WIDTH, "vars.width: {choices: [4, 6], low: 3}"), "unknown field 'low'"),
        ((WIDTH, "vars.width: {choices: [4, x]}"), 'expected a whole number, got "x"'),
        ((WIDTH, "vars.widht: {choices: [4, 6]}"), "vars.widht: no variable 'widht'"),
        (("search:", "baseline: x\nsearch:"), "`baseline` is for a `matrix`"),
        (("search:", "gates: [{metric: params, max: 1M}]\nsearch:"), "`gates` is for a `matrix`"),
        (("search:", "include: [{vars.width: 3}]\nsearch:"), "`include` is for a `matrix`"),
        (("search:", "exclude: [{vars.width: 3}]\nsearch:"), "`exclude` is for a `matrix`"),
        (("search:", "seeds: [0, 1]\nsearch:"), "trains each trial with one seed, not with 2"),
        (("search:", "matrix: {vars.width: [4]}\nsearch:"), "and this one has both"),
    ],
)  # fmt: skip
def test_each_wrong_field_is_one_clear_error(study, change, expected):
    assert change[0] in SEARCH
    with pytest.raises(SpecError) as caught:
        study(SEARCH.replace(*change, 1))
    texts = [str(problem).split("study.yaml:")[-1] for problem in caught.value.problems]
    assert any(expected in text for text in texts), texts
    missing = "missing field" in texts[0]
    assert len(texts) == 1 or (missing and len(texts) == 2), texts


def test_an_empty_space_and_no_search_at_all(study):
    head = SEARCH[: SEARCH.index("space:")]
    with pytest.raises(SpecError, match="expected at least 1 entries"):
        study(head + "space: {}\n")
    with pytest.raises(SpecError, match="a `matrix` or a `search`, and this one has neither"):
        study("base: base.yaml\n")
    with pytest.raises(SpecError, match="search: expected a mapping, got 3"):
        study("base: base.yaml\nsearch: 3\n")


def test_the_schema_takes_searches_and_refuses_slips():
    schema = study_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    assert list(validator.iter_errors(read(SEARCH))) == []
    for change in (
        ("trials: 12", "trials: 0"), ("sampler: tpe", "sampler: x"), ("name: median", "name: x"),
        ("log: true", "lgo: true"), ("choices: [4, 6, 8]", "choices: [4]"), ("search:", "serch:"),
        ("  trials: 12\n", ""), ("search:", "matrix: {vars.width: [4]}\nsearch:"),
        (LR, "train.optimizer.lr: 3"),
    ):  # fmt: skip
        assert change[0] in SEARCH
        assert list(validator.iter_errors(read(SEARCH.replace(*change, 1)))), change
