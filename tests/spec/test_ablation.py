"""Studies: which variants there are, what each of them is, and what is wrong with a study."""

import subprocess
import sys

import jsonschema
import pytest
import yaml

from nifbuild.errors import SpecError
from nifbuild.spec.ablation import is_study, load_study
from nifbuild.spec.resolve import load_spec
from nifbuild.spec.schema import study_schema

BASE = """
version: 1
vars: {width: 4, num_classes: 10}
input: {channels: 1, size: [8, 8]}
model:
  - {id: conv1, op: conv, out_channels: $width}
  - {id: conv2, op: conv}
  - global_avg_pool
  - flatten
  - {id: fc, op: linear, out_features: $num_classes}
data: {source: digits}
train: {epochs: 3}
"""
STUDY = """
base: base.yaml
baseline: standard
matrix:
  filters:
    standard: {}
    both: {patch: [{match: "conv*", set: {kind: implicit_frequency}, expect: 2}]}
    last: {patch: [{match: conv2, set: {kind: free_frequency}}], train: {label_smoothing: 0}}
  vars.width: [4, 6]
"""


@pytest.fixture
def study(tmp_path):
    def read(text=STUDY, base=BASE):
        (tmp_path / "base.yaml").write_text(base)
        path = tmp_path / "study.yaml"
        path.write_text(text)
        return load_study(path)

    return read


def problems(study, text, **options):
    with pytest.raises(SpecError) as caught:
        study(text, **options)
    return [str(problem).split("study.yaml:")[-1] for problem in caught.value.problems]


@pytest.mark.parametrize("text", ["", "- a", "3"])
def test_what_a_study_starts_with(tmp_path, text):
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(SpecError, match="a study is a mapping") as caught:
        load_study(tmp_path / "s.yaml")
    assert "`base:` and `matrix:`" in str(caught.value) and "model:" not in str(caught.value)


def test_a_study_is_no_spec(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text("base: tiny.yaml\nmatrix: {a: {b: {}}}\nseeds: [0]\n")
    with pytest.raises(SpecError) as caught:
        load_spec(path)
    (problem,) = caught.value.problems
    assert "this is a study" in problem.what and f"ablate plan {path}" in problem.fix


def test_variants_are_all_combinations_in_order(study):
    found = study()
    assert [v.name for v in found.variants] == [
        "filters=standard, vars.width=4",
        "filters=standard, vars.width=6",
        "filters=both, vars.width=4",
        "filters=both, vars.width=6",
        "filters=last, vars.width=4",
        "filters=last, vars.width=6",
    ]
    assert found.name == "study" and found.axes == ("filters", "vars.width")


def test_a_variant_is_the_base_with_its_fragments(study, tmp_path):
    found = study()
    by_hand = tmp_path / "by_hand.yaml"
    by_hand.write_text(
        "extends: base.yaml\nname: base\nvars: {width: 6}\ntrain: {label_smoothing: 0}\n"
        "patch: [{match: conv2, set: {kind: free_frequency}}]\n"
    )
    assert found.variants[5].resolved.text == load_spec(by_hand).text
    assert (
        found.variants[0].text(7)
        == load_spec(tmp_path / "base.yaml", overrides=["train.seed=7"]).text
    )


def test_data_and_values_for_all(study, tmp_path):
    (tmp_path / "data.yaml").write_text("data: {source: digits, size: [12, 12], test: 0.5}\n")
    text = STUDY + "data: data.yaml\nset: {train.epochs: 9, data.seed: 4}\n"
    for variant in study(text).variants:
        spec = variant.resolved.spec
        assert (spec.data.size, spec.data.test, spec.data.seed) == ((12, 12), 0.5, 4)
        assert spec.train.epochs == 9 and spec.input.size == (12, 12)
    merged = study(STUDY + "data: {limit: {train: 30}}\n").variants[0].resolved.spec.data
    assert merged.source == "digits" and merged.limit.train == 30


def test_a_fragment_may_bring_its_own_variables(study):
    text = """
base: base.yaml
matrix:
  hidden:
    small: {vars: {h: 2}, patch: [{match: conv2, set: {kind: implicit_frequency, hidden: [$h]}}]}
"""
    assert study(text).variants[0].resolved.spec.model[1].hidden == (2,)
    unused = text.replace("[$h]", "[3]")
    assert "5:20: vars.h: nothing uses the variable 'h'" in problems(study, unused)[0]


def test_exclude_and_include(study):
    text = STUDY + (
        "exclude: [{filters: both}, {filters: last, vars.width: 6}]\n"
        "include: [{filters: both, vars.width: 8}]\n"
    )
    found = study(text)
    assert [tuple(v.labels.values()) for v in found.variants] == [
        ("standard", "4"),
        ("standard", "6"),
        ("last", "4"),
        ("both", "8"),
    ]
    assert found.variants[3].resolved.spec.model[0].out_channels == 8


def test_the_baseline_keeps_the_other_labels(study):
    found = study()
    assert found.baseline_of(found.variants[0]) is None
    assert found.baseline_of(found.variants[3]) is found.variants[1]
    fixed = study(STUDY.replace("standard\n", "{filters: standard, vars.width: 4}\n", 1))
    assert fixed.baseline_of(fixed.variants[3]) is fixed.variants[0]
    assert fixed.baseline_of(fixed.variants[1]) is fixed.variants[0]
    assert study(STUDY.replace("baseline: standard\n", "")).reference == {}


def test_gates_are_for_the_variants_that_they_name(study):
    text = STUDY + (
        "gates:\n  - {metric: top1, versus: baseline, margin: 0pp, where: {vars.width: 6}}\n"
        "  - {metric: params, max: 1M}\n"
    )
    found = study(text)
    first, second = found.spec.gates
    assert [v.name for v in found.variants_of(first)] == [
        "filters=both, vars.width=6",
        "filters=last, vars.width=6",
    ]
    assert len(found.variants_of(second)) == 6


def test_gates_may_compare_with_any_variant(study):
    gate = "{metric: top1, versus: {filters: last}, margin: 0pp, where: {vars.width: 6}}"
    found = study(STUDY.replace("baseline: standard\n", "") + f"gates: [{gate}]\n")
    gate = found.spec.gates[0]
    assert str(gate) == "top1 within 0pp of filters=last"
    named = found.variants_of(gate)
    assert [v.labels["filters"] for v in named] == ["standard", "both"]
    assert {found.compared_with(gate, v).name for v in named} == {"filters=last, vars.width=6"}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("matrix:", "gates: [{metric: top1, versus: {filters: lst}, margin: 0pp}]\nmatrix:"),
         "there is no label 'lst'"),
        (("matrix:", "gates: [{metric: top1, versus: {filter: last}, margin: 0pp}]\nmatrix:"),
         "there is no axis 'filter'"),
        (("matrix:", "exclude: [{filters: last, vars.width: 4}]\n"
          "gates: [{metric: top1, versus: {filters: last}, margin: 0pp}]\nmatrix:"),
         "filters=standard, vars.width=4 has no filters=last in this study"),
        (("base: base.yaml", "base: bse.yaml"), "2:7: base: no such file: "),
        (("baseline: standard", "baseline: standrd"), "3:11: baseline: there is no label"),
        (("baseline: standard", "baseline: {filter: both}"), "there is no axis 'filter'"),
        (("base: base.yaml", "base: base.yaml\nmatrx: 3"), "3:1: matrx: unknown field 'matrx'"),
        (("vars.width: [4, 6]", "vars.widht: [4, 6]"), "9:16: vars.widht: no variable 'widht'"),
        (("vars.width: [4, 6]", "width: [4, 6]"), "9:3: matrix.width: 'width' has a list of"),
        (("vars.width: [4, 6]", "vars.width: [4, 4]"), "a value is given twice"),
        (("vars.width: [4, 6]", "vars.width: []"), "it has no labels"),
        (("vars.width: [4, 6]", "vars.width: 4"), "neither values nor labels"),
        (("vars.width: [4, 6]", "patch: [4, 6]"), "patch cannot be set by a path"),
        (("vars.width: [4, 6]", "train.seed: [4, 6]"), "use `seeds`"),
        (("vars.width: [4, 6]", "train: [{epochs: 2}, {seed: 4}]"),
         "9:10: matrix.train: train.seed is no axis"),
        (("matrix:", "set: {train.seed: 5}\nmatrix:"),
         "4:19: set.train.seed: train.seed is nothing to set: each run has one of `seeds`"),
        (("matrix:", "set: {train: {epochs: 2, seed: 5}}\nmatrix:"), "4:32: set.train: train.seed"),
        (("standard: {}", "standard: {train: {seed: 5}}"),
         "6:30: matrix.filters.standard.train.seed: train.seed is nothing to set"),
        (("vars.width: [4, 6]", "train.epoch: [4, 6]"), "train.epoch: unknown field 'epoch'"),
        (("vars.width: [4, 6]", "vars.width: [4, x]"), 'expected a whole number, got "x"'),
        (("expect: 2", "expect: 3"), "7:78: patch: the patch is for 3 ops and finds 2"),
        (("standard: {}", "standard: 3"), "a label has a fragment of a spec"),
        (("standard: {}", "standard: {extends: x}"), "`extends` has no place in a fragment"),
        (("standard: {}", "standard: {trian: {}}"), "6:16: trian: unknown section 'trian'"),
        (("standard: {}", "standard: {trian.epochs: 2}"), "did you mean 'train'?"),
        (("matrix:", "seeds: [1, 1]\nmatrix:"), "a seed is given twice"),
        (("matrix:", "set: {train.epohcs: 2}\nmatrix:"), "unknown field 'epohcs'"),
        (("matrix:", "exclude: [{filters: bth}]\nmatrix:"), "did you mean 'both'?"),
        (("matrix:", "exclude: [{filters: both, vars.width: 5}]\nmatrix:"), "no label '5'"),
        (("matrix:", "exclude: [{}, {}]\nmatrix:"), "all combinations are excluded"),
        (("matrix:", "include: [{filters: both}]\nmatrix:"), "missing: vars.width"),
        (("matrix:", "include: [{filters: both, vars.width: 4}]\nmatrix:"), "already"),
        (
            ("matrix:", "exclude: [{filters: standard, vars.width: 4}]\n"
             "gates: [{metric: top1, versus: baseline, margin: 0pp}]\nmatrix:"),
            "filters=both, vars.width=4 has no baseline in this study",
        ),
        (
            ("baseline: standard", "gates: [{metric: top1, versus: baseline, margin: 0pp}]"),
            "the study has no baseline",
        ),
    ],
)  # fmt: skip
def test_wrong_studies(study, change, expected):
    found = problems(study, STUDY.replace(*change, 1))
    assert any(expected in problem for problem in found), found


def test_what_is_not_there_to_compare_with_is_told_once(study):
    gate = "gates: [{metric: top1, versus: {filters: nope}, margin: 0pp}]\nmatrix:"
    found = problems(study, STUDY.replace("matrix:", gate, 1))
    assert len(found) == 1 and "there is no label 'nope'" in found[0]


def test_a_label_of_two_axes_is_no_baseline(study):
    text = STUDY.replace("vars.width: [4, 6]", "train.monitor: [loss, top1]")
    text = text.replace("baseline: standard", "baseline: loss").replace("last:", "loss:")
    assert "'loss' is a label of filters and of train.monitor" in problems(study, text)[0]


def test_a_problem_of_several_variants_is_told_once(study):
    found = problems(study, STUDY.replace("expect: 2", "expect: 3"))
    assert len(found) == 1
    assert found[0].endswith("in the variant filters=both, vars.width=4 and 1 more")


def test_too_many_combinations(study):
    values = ", ".join(map(str, range(1, 500)))
    found = problems(study, STUDY.replace("[4, 6]", f"[{values}]"))
    assert "matrix: 1,497 combinations; at most 1,000" in found[0] and len(found) == 1


def test_studies_are_told_from_specs(study, tmp_path):
    study()
    assert is_study(tmp_path / "study.yaml") and not is_study(tmp_path / "base.yaml")


def test_schema_takes_studies_and_refuses_slips():
    schema = study_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    good = yaml.safe_load(STUDY)
    assert list(validator.iter_errors(good)) == []
    for change in (("patch:", "pacth:"), ("base:", "bsae:"), ("vars.width: [4, 6]", "w: 4")):
        assert list(validator.iter_errors(yaml.safe_load(STUDY.replace(*change, 1)))), change


def test_reading_a_study_loads_no_torch():
    code = (
        "import sys, nifbuild.spec.ablation, nifbuild.cli.ablate\nsys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_spec_is_no_study(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("extends: nifbuild:resnet18\n")
    with pytest.raises(SpecError, match=r"1:1: this is a spec, not a study") as caught:
        load_study(path)
    assert f"nifbuild train {path}" in str(caught.value)
