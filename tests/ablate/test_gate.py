"""Verdicts on made-up results, whose bounds are known by hand."""

import json
import math

import pytest

from nifbuild.ablate.gate import check_gates, overall, tally
from nifbuild.ablate.results import Failed, Results, VariantResults, load_results
from nifbuild.errors import RunError, SpecError
from nifbuild.spec.ablation import load_study
from tests.ablate.conftest import STUDY, ablate, document, write_study

T2 = 0.9 / math.sqrt(2 * 0.95 * 0.05)  # one-sided 95 % of Student's t with 2 degrees of freedom


def results(standard, implicit, params=(350, 300), failed=()):
    """A study's results: accuracies by seed of each variant."""

    def variant(label, values, baseline, count):
        found = {
            seed: {"top1": value, "num_samples": 1000, "loss": 1 - value, "effective_size": None}
            for seed, value in values.items()
        }
        costs = {"params": count, "macs": 10, "train_peak_bytes": 1000, "inference_peak_bytes": 9}
        states = {s: "done" if s in found else "missing" for s in (0, 1, 2)}
        states |= {f.seed: "failed" for f in failed if label == "implicit"}
        return VariantResults(
            {"filters": label}, baseline, costs, found, states,
            failed if label == "implicit" else (),
        )  # fmt: skip

    both = (
        variant("standard", standard, None, params[0]),
        variant("implicit", implicit, {"filters": "standard"}, params[1]),
    )
    return Results("study", ("filters",), both, (0, 1, 2))


STANDARD = {0: 0.90, 1: 0.92, 2: 0.97}
LOWER = {0: 0.89, 1: 0.90, 2: 0.94}  # by 1, 2 and 3 points: mean -2, std 1
BOUND = T2 * 0.01 / math.sqrt(3)  # 1.69 points


@pytest.fixture
def check(tmp_path):
    def run(gate, found, main=None):
        text = STUDY[: STUDY.index("gates:")].replace("[0, 1]", "[0, 1, 2]")
        study = load_study(write_study(tmp_path, f"{text}gates: [{gate}]\n"))
        return check_gates(study, found, main)

    return run


@pytest.mark.parametrize(
    ("margin", "verdict"), [("-3.7pp", "pass"), ("-3.6pp", "inconclusive"),
                            ("-0.4pp", "inconclusive"), ("-0.3pp", "fail")]
)  # fmt: skip
def test_paired_by_seed(check, margin, verdict):
    gate = f"{{metric: top1, versus: baseline, margin: {margin}}}"
    (found,) = check(gate, results(STANDARD, LOWER))
    assert found.verdict == verdict and found.variant == "filters=implicit" and found.n == 3
    assert found.value == pytest.approx(-0.02)
    assert (found.low, found.high) == pytest.approx((-0.02 - BOUND, -0.02 + BOUND))
    assert "-2.00pp (one-sided 95 % bounds -3.69pp to -0.31pp, 3 seeds)" in found.reason
    assert ("more seed" in found.reason) is (verdict == "inconclusive") is bool(found.more_seeds)


@pytest.mark.parametrize(
    ("margin", "verdict"), [("0.037", "pass"), ("0.036", "inconclusive"), ("0.003", "fail")]
)
def test_of_a_loss_more_is_worse(check, margin, verdict):
    gate = f"{{metric: loss, versus: baseline, margin: {margin}}}"
    assert check(gate, results(STANDARD, LOWER))[0].verdict == verdict


@pytest.mark.parametrize(
    ("limit", "verdicts"),
    [
        # Means 0.93 and 0.91; half-widths T2 * 0.0361 / sqrt(3) = 0.0608 and 0.0446.
        ("86%", ["pass", "pass"]),
        ("92%", ["inconclusive", "inconclusive"]),
        ("96%", ["inconclusive", "fail"]),
    ],
)
def test_against_a_fixed_limit(check, limit, verdicts):
    found = check(f"{{metric: top1, min: {limit}}}", results(STANDARD, LOWER))
    assert [gate.verdict for gate in found] == verdicts


@pytest.mark.parametrize(
    ("standard", "implicit", "words"),
    [
        ({}, LOWER, "no pairs of results: baseline (filters=standard) has none"),
        (STANDARD, {}, "no pairs of results: the variant has none yet"),
        ({0: 0.9}, {1: 0.9}, "the variant and baseline have no seed in common"),
        (STANDARD, {0: 0.9}, "+0.00pp from one seed: a bound needs at least two; not done: seeds"),
    ],
)
def test_too_little_data_never_passes(check, standard, implicit, words):
    gate = "{metric: top1, versus: baseline, margin: -50pp}"
    (found,) = check(gate, results(standard, implicit))
    assert found.verdict == "inconclusive" and words in found.reason


def test_a_seed_that_is_missing_stands_in_the_way_of_passing_but_not_of_failing(check):
    fewer = {0: 0.89, 1: 0.90}
    for margin, verdict in (("-50pp", "inconclusive"), ("50pp", "fail")):
        gate = f"{{metric: top1, versus: baseline, margin: {margin}}}"
        (found,) = check(gate, results(STANDARD, fewer))
        assert found.verdict == verdict and found.reason.endswith("not done: seed 2")


def test_equal_accuracies_are_known_to_one_image(check):
    gate = "{metric: top1, versus: baseline, margin: -0.16pp}"
    # 1 of 1000 images: T2 * 0.001 / sqrt(3) = 0.169 points.
    assert check(gate, results(STANDARD, STANDARD))[0].verdict == "inconclusive"
    wider = gate.replace("0.16", "0.17")
    assert check(wider, results(STANDARD, STANDARD))[0].verdict == "pass"


def test_costs_need_no_seeds(check):
    found = check("{metric: params, max: 320}", results({}, {}))
    assert [(g.verdict, g.value, g.n) for g in found] == [("fail", 350, 0), ("pass", 300, 0)]
    gate = "{metric: params, versus: baseline, max_increase: 5%}"
    for params, verdict in ((367, "pass"), (368, "fail")):
        (found,) = check(gate, results({}, {}, params=(350, params)))
        assert found.verdict == verdict and "baseline 350 (+" in found.reason


def test_versus_main(check, tmp_path):
    gate = "{metric: params, versus: main, max_increase: 5%}, "
    gate += "{metric: top1, versus: main, margin: -3.7pp}"
    for found in check(gate, results(STANDARD, LOWER)):
        assert found.verdict == "inconclusive" and "--main FILE" in found.reason
    path = tmp_path / "report.json"
    path.write_text(json.dumps(results(STANDARD, STANDARD, params=(350, 290)).document()))
    for place in (path, tmp_path):
        main = load_results(place)
        found = check(gate, results(STANDARD, LOWER), main)
        assert [g.verdict for g in found] == ["pass", "pass", "pass", "pass"]
    fewer = Results("main", ("filters",), main.variants[:1], (0, 1, 2))
    found = check(gate, results(STANDARD, LOWER), fewer)
    assert [g.verdict for g in found] == ["pass", "inconclusive", "pass", "inconclusive"]
    assert "the report of main has no variant filters=implicit" in found[1].reason


def test_reports_that_cannot_be_read(tmp_path):
    with pytest.raises(SpecError, match="there is no report at"):
        load_results(tmp_path)
    path = tmp_path / "report.json"
    for text, words in (("{", "is no report"), ("[]", "is no report"), ("{}", "KeyError"),
                        ('{"format": 99}', "another version")):  # fmt: skip
        path.write_text(text)
        with pytest.raises(RunError, match=words):
            load_results(path)


def test_overall(check):
    gate = "{metric: params, max: 320}, {metric: top1, min: 92%}"
    found = check(gate, results(STANDARD, LOWER))
    assert overall(found) == "fail"
    assert tally(found) == "1 of 4 checks pass, 1 fail, 2 inconclusive"
    assert overall(found[1:]) == "inconclusive" and overall(found[1:2]) == "pass"


def test_exit_codes(finished):
    study, folder, _ = finished
    # Nothing is there of `broken`: that is inconclusive, and never a pass.
    done = ablate("gate", study, "--dir", folder)
    assert done.exit_code == 3
    assert "no pairs of results: the variant has none yet" in done.stdout
    assert ablate("gate", study, "--dir", folder, "--allow-inconclusive").exit_code == 0
    said = document("gate", study, "--dir", folder)
    assert said["verdict"] == "inconclusive"
    assert [g["verdict"] for g in said["gates"]] == ["pass", "inconclusive", *["pass"] * 3]


def test_exit_codes_of_one_variant(finished, tmp_path):
    _, folder, _ = finished
    assert ablate("gate", write_study(tmp_path), "--dir", folder).exit_code == 0
    bad = write_study(tmp_path, STUDY.replace("max: 1M", "max: 100"))
    done = ablate("gate", bad, "--dir", folder, "--allow-inconclusive")
    assert done.exit_code == 3 and "fail         params at most 100" in done.stdout
    done = ablate("gate", bad, "--dir", folder, "--main", tmp_path / "none")
    assert done.exit_code == 2 and "there is no report at" in done.stderr
    done = ablate("gate", write_study(tmp_path, STUDY[: STUDY.index("gates:")]))
    assert done.exit_code == 2 and "has no gates" in done.stderr


def test_a_failed_cell_is_named():
    found = results(STANDARD, {0: 0.9}, failed=(Failed(1, "no memory", "log.txt", "..."),))
    assert found.document()["variants"][1]["failed"][0]["reason"] == "no memory"
