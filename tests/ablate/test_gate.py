"""Verdicts on made-up results, whose bounds are known by hand."""

import json
import math
import re
import shutil
from dataclasses import replace

import pytest

from nifbuild.ablate.gate import check_gates, overall, tally
from nifbuild.ablate.interim_looks import Look
from nifbuild.ablate.results import Failed, Results, VariantResults, load_results
from nifbuild.errors import RunError, SpecError
from nifbuild.spec.ablation import load_study
from tests.ablate.conftest import (
    ENVIRONMENT,
    ORIGIN,
    STUDY,
    ablate,
    document,
    result_of,
    write_study,
)

T2 = 0.9 / math.sqrt(2 * 0.95 * 0.05)  # one-sided 95 % of Student's t with 2 degrees of freedom


def results(standard, implicit, params=(350, 300), failed=()):
    """A study's results: accuracies by seed of each variant."""

    def variant(label, values, baseline, count):
        found = {
            seed: result_of(top1=value, loss=1 - value, spec_hash=f"{label} {seed}")
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
    def run(gate, found, main=None, looks=()):
        text = STUDY[: STUDY.index("gates:")].replace("[0, 1]", "[0, 1, 2]")
        study = load_study(write_study(tmp_path, f"{text}gates: [{gate}]\n"))
        return check_gates(study, found, main, looks)

    return run


def test_versus_labels_is_as_versus_baseline(check):
    gate = "{metric: top1, versus: %s, margin: -3.7pp}"
    (one,) = check(gate % "baseline", results(STANDARD, LOWER))
    (other,) = check(gate % "{filters: standard}", results(STANDARD, LOWER))
    assert other.variant == "filters=implicit"
    assert (one.verdict, one.low, one.high) == (other.verdict, other.low, other.high)
    (turned,) = check(gate % "{filters: implicit}", results(STANDARD, LOWER))
    assert turned.variant == "filters=standard" and turned.value == pytest.approx(0.02)
    costs = "{metric: params, versus: {filters: standard}, max_increase: 5%}"
    (known,) = check(costs, results(STANDARD, LOWER))
    assert known.verdict == "pass" and "filters=standard" in known.reason


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
    assert ("all planned seeds are in" in found.reason) is (verdict == "inconclusive")
    assert found.more_seeds is None


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
        (STANDARD, {0: 0.9}, "+0.00pp from one seed: a bound needs at least two; "),
        (STANDARD, {0: 0.9}, "; not done: seeds 1, 2"),
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
        assert found.more_seeds == (1 if verdict == "inconclusive" else None)


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


OTHER_TORCH = {**ENVIRONMENT, "packages": {"nifbuild": "0.1.0", "torch": "2.12.1"}}
OTHER_NIFBUILD = {**ENVIRONMENT, "packages": {"nifbuild": "0.0.9", "torch": "2.13.0"}}
OTHER_PATCH = {**ENVIRONMENT, "packages": {"nifbuild": "0.1.0", "torch": "2.13.1"}}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"origin": {**ORIGIN, "data": "d2"}}, "data: d1 here, d2 there"),
        ({"split": "validation"}, "split: test here, validation there"),
        ({"num_samples": 500}, "number of test images: 1000 here, 500 there"),
        ({"environment": OTHER_TORCH}, "version of torch: 2.13 here, 2.12 there"),
        ({"environment": OTHER_NIFBUILD}, "version of nifbuild: 0.1.0 here, 0.0.9 there"),
        ({"environment": {**ENVIRONMENT, "precision": "bf16"}}, "precision: fp32 here, bf16 there"),
        ({"environment": OTHER_PATCH, "origin": {**ORIGIN, "code": "c2"}}, None),
    ],
)
def test_main_must_be_of_the_same_thing(check, change, words):
    """All but the code and the spec, which are what is compared."""
    gate = "{metric: top1, versus: main, margin: -50pp}"
    own = results(STANDARD, LOWER)
    changed = [
        replace(v, results={s: {**r, **change} for s, r in v.results.items()}) for v in own.variants
    ]
    found = check(gate, own, replace(own, variants=tuple(changed)))
    if words is None:
        assert overall(found) == "pass"
        return
    assert [g.verdict for g in found] == ["not comparable"] * 2 == [overall(found)] * 2
    assert all(words in g.reason for g in found)


def test_main_must_have_the_same_seeds(check):
    gate = "{metric: top1, versus: main, margin: -50pp}"
    own = results(STANDARD, LOWER)
    (found, _) = check(gate, own, replace(own, seeds=(0, 1)))
    assert found.verdict == "not comparable"
    assert "seeds: 0, 1, 2 here, 0, 1 there" in found.reason


def test_a_figure_that_is_not_finite_is_no_figure(check):
    for metric in ("top1, min: 1%", "loss, max: 9"):
        for bad in (math.nan, math.inf):
            (_, found) = check(f"{{metric: {metric}}}", results(STANDARD, {**LOWER, 1: bad}))
            assert found.verdict == "inconclusive" and found.n == 2
            assert found.reason.endswith("not done: seed 1")


def test_equal_losses_decide_themselves(check):
    for margin, verdict in (("0.02", "pass"), ("0.01", "fail")):
        gate = f"{{metric: loss, versus: baseline, margin: {margin}}}"
        half, less = (dict.fromkeys((0, 1, 2), value) for value in (0.5, 0.5 - 1 / 64))
        (found,) = check(gate, results(half, less))
        assert found.verdict == verdict
        assert "+0.01562 in all 3 seeds: no spread, so that it decides itself" in found.reason


def test_bounds_of_accuracies_are_accuracies(check):
    (found, _) = check("{metric: top1, min: 50%}", results({0: 0.99, 1: 0.9, 2: 0.99}, LOWER))
    assert found.high == 1 and "to 100.00%" in found.reason
    gate = "{metric: top1, versus: baseline, margin: 0pp}"
    (found,) = check(gate, results({0: 0.0, 1: 1.0, 2: 0.0}, {0: 1.0, 1: 0.0, 2: 1.0}))
    assert (found.low, found.high) == (-1, 1) and "-100.00pp to +100.00pp" in found.reason


def test_what_test_images_leave_uncertain_is_told(check):
    gate = "{metric: top1, versus: baseline, margin: -50pp}"
    (found,) = check(gate, results(STANDARD, LOWER))
    # Means 0.93 and 0.91 of 1,000 images: (930 + 1) / 1002 and (910 + 1) / 1002.
    shares = [931 / 1002, 911 / 1002]
    width = 1.644854 * math.sqrt(sum(p * (1 - p) for p in shares) / 1002)
    assert (found.low_images, found.high_images) == pytest.approx(
        (-0.02 - width, -0.02 + width), abs=1e-7
    )
    assert "over 1,000 test images, left out there: -4.0" in found.reason
    assert found.document()["low_images"] == found.low_images
    (found,) = check("{metric: loss, versus: baseline, margin: 1}", results(STANDARD, LOWER))
    assert found.low_images is None and "test images" not in found.reason


def test_seeds_chosen_after_a_look_do_not_pass(check):
    """Adding seeds until a gate passes, and leaving out those in its way."""
    found = results(STANDARD, LOWER)
    gate = "{metric: top1, versus: baseline, margin: -50pp}, {metric: params, max: 1M}"
    keys = found.variants[1].cells
    same = Look(frozenset({0, 1, 2}), frozenset(keys))
    assert overall(check(gate, found, looks=[same])) == "pass"
    others = Look(frozenset({0, 1}), frozenset({"0" * 16}))  # of cells of something else
    assert overall(check(gate, found, looks=[same, others])) == "pass"
    for planned, shown in (({0, 1}, "0, 1"), ({0, 1, 2, 3}, "0, 1, 2, 3")):
        look = Look(frozenset(planned), frozenset(list(keys)[:1]))
        measured, *known = check(gate, found, looks=[look])
        assert measured.verdict == "inconclusive" and overall(known) == "pass"
        assert f"results of these were shown when seeds {shown} were planned" in measured.reason
        assert ", and seeds 0, 1, 2 are planned now: " in measured.reason
        new = "[3, 4, 5]" if 3 not in planned else "[4, 5, 6]"
        assert f"seeds that are all new, as in `seeds: {new}`" in measured.reason
    several = [same, Look(frozenset({0}), frozenset(keys)), look]
    assert (
        check(gate, found, looks=several)[0].reason.count(
            "; results of these were shown when seed 0 was planned and when seeds 0, 1, 2, 3 were "
            "planned, and seeds 0, 1, 2 are planned now: "
        )
        == 1
    )
    failing = gate.replace("-50pp", "50pp")
    assert check(failing, found, looks=[look])[0].verdict == "fail"


def test_sizes_are_asked_of_variants_that_have_them(check):
    (found,) = check("{metric: effective_size, max: 9}", results(STANDARD, LOWER))
    assert found.variant == "filters=implicit"
    assert found.reason.endswith("not for filters=standard, without filters as large as the image")
    for gate, words in (
        ("metric: effective_size, max: 9, where: {filters: standard}", "it is for no variant"),
        ("metric: effective_size, versus: baseline, margin: 1",
         "filters=standard, the baseline of filters=implicit, has no filters as large"),
    ):  # fmt: skip
        with pytest.raises(SpecError, match=words):
            check(f"{{{gate}}}", results(STANDARD, LOWER))


@pytest.mark.parametrize(
    ("where", "words"),
    [("", "all are baselines"), (", where: {filters: standard}", "`where` leaves none")],
)
def test_why_a_gate_is_for_no_variant(tmp_path, where, words):
    gate = f"  - {{metric: top1, versus: baseline, margin: -5pp{where}}}\n"
    text = re.sub(r"    implicit: .*\n", "" if not where else r"\g<0>", STUDY)
    study = write_study(tmp_path, f"{text[: text.index('gates:')]}gates:\n{gate}")
    said = ablate("plan", study)
    assert said.exit_code == 2 and "it is for no variant" in said.stderr
    assert words in said.stderr and "or leave the gate out" in said.stderr


def test_states_that_do_not_count_are_told(check):
    own = results(STANDARD, {0: 0.9})
    states = {0: "done", 1: "stale", 2: "damaged"}
    implicit = replace(own.variants[1], states=states)
    gate = "{metric: top1, versus: baseline, margin: -50pp}"
    (found,) = check(gate, replace(own, variants=(own.variants[0], implicit)))
    assert found.reason.endswith("stale: seed 1; damaged: seed 2")
    none = replace(implicit, results={}, states=dict.fromkeys((0, 1, 2), "stale"))
    (found,) = check(gate, replace(own, variants=(own.variants[0], none)))
    assert found.verdict == "inconclusive"
    assert found.reason == "no pairs of results: those of the variant are stale"


def test_results_of_what_was_changed_are_told(finished, tmp_path):
    folder = tmp_path / "cells"
    shutil.copytree(finished[1], folder)
    study = write_study(tmp_path, STUDY.replace("base:", "set: {train.batch_size: 8}\nbase:"))
    found = document("gate", study, "--dir", folder)["gates"][0]
    expected = "no pairs of results: the variant has none yet (results in the folder: 4 of other "
    assert found["reason"] == expected + "specs or seeds; what was changed is a new cell)"
    found = document("gate", study, "--dir", tmp_path)["gates"][0]
    assert found["reason"] == "no pairs of results: the variant has none yet"


def test_reports_that_cannot_be_read(tmp_path):
    with pytest.raises(SpecError, match="there is no report at"):
        load_results(tmp_path)
    path = tmp_path / "report.json"
    sound = json.dumps(results(STANDARD, LOWER).document())
    for text, words in (
        ("{", "is no report"),
        ("[]", "is no report"),
        ("[" * 100_000, "is no report"),
        ("{}", "format: Field required"),
        ('{"format": 99}', "another version"),
        (sound.replace('"top1": 0.92', '"top1": "0.92"'), r"results\.1\.top1"),
        (sound.replace('"top1": 0.92', '"top1": NaN'), r"results\.1\.top1"),
        (sound.replace('"macs": 10', '"macs": -1'), r"costs\.macs"),
        (sound.replace('"macs": 10, ', ""), "lacks the costs macs"),
        (sound.replace('"done"', '"good"'), r"states\.0"),
    ):
        path.write_text(text)
        with pytest.raises(RunError, match=words):
            load_results(path)
    path.write_bytes(b"\xff" + sound.encode())
    with pytest.raises(RunError, match="is no report"):
        load_results(path)


def test_a_report_of_main_that_was_changed_is_refused(finished, tmp_path):
    study, folder, _ = finished
    written = document("report", study, "--dir", folder, "--out", tmp_path / "main")
    path = tmp_path / "main" / "report.json"
    path.write_text(json.dumps(dict(reversed(written.items())), indent=4))
    assert load_results(path).done == 4  # in another layout
    written["variants"][0]["results"]["0"]["top1"] = 0.5
    path.write_text(json.dumps(written))
    done = ablate("gate", study, "--dir", folder, "--main", path)
    assert done.exit_code == 1 and done.stderr.count("error") == 1
    assert "report.json was changed after it was written" in done.stderr
    assert "written by: nifbuild ablate report STUDY" in done.stderr
    del written["seal"]  # as of an earlier version
    path.write_text(json.dumps(written))
    assert load_results(path).variants[0].values("top1")[0] == 0.5


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
