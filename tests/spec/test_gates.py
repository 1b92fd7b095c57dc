import pytest

from nifbuild.errors import SpecError
from nifbuild.spec.ablation import load_study

BASE = """
version: 1
input: {channels: 1, size: [8, 8]}
model: [{id: conv, op: conv, out_channels: 2, kind: implicit_frequency}, global_avg_pool, flatten]
"""


@pytest.fixture
def gate(tmp_path):
    """Reads one gate, as it stands in a study."""

    def read(text):
        (tmp_path / "base.yaml").write_text(BASE)
        path = tmp_path / "study.yaml"
        path.write_text(
            "base: base.yaml\nbaseline: a\n"
            f"matrix: {{x: {{a: {{}}, b: {{}}}}}}\ngates:\n  - {{{text}}}\n"
        )
        return load_study(path).spec.gates[0]

    return read


@pytest.mark.parametrize(
    ("text", "limit", "at_least", "shown"),
    [
        ("metric: top1, versus: baseline, margin: -0.5pp", -0.005, True,
         "top1 within -0.5pp of baseline"),
        ("metric: top5, versus: main, margin: 1pp", 0.01, True, "top5 at least 1pp above main"),
        ("metric: top1, versus: baseline, margin: +40 pp", 0.4, True,
         "top1 at least 40 pp above baseline"),
        ("metric: top1, versus: baseline, margin: 0pp", 0, True, "top1 within 0pp of baseline"),
        ("metric: top1, min: 95%", 0.95, True, "top1 at least 95%"),
        ("metric: loss, versus: main, margin: 0.05", 0.05, False, "loss within 0.05 of main"),
        ("metric: loss, versus: {x: a}, margin: -0.1", -0.1, False, "loss at least 0.1 below x=a"),
        ("metric: effective_size, versus: main, margin: -2", -2, False,
         "effective_size at least 2 below main"),
        ("metric: effective_size, max: 9", 9, False, "effective_size at most 9"),
        ("metric: params, max: 12M", 12e6, False, "params at most 12M"),
        ("metric: macs, max: 2000", 2000, False, "macs at most 2000"),
        ("metric: inference_peak_bytes, max: 8GiB", 8 * 2**30, False,
         "inference_peak_bytes at most 8GiB"),
        ("metric: train_peak_bytes, versus: main, max_increase: 5%", 0.05, False,
         "train_peak_bytes at most 5% more than main"),
        ("metric: params, versus: main, max_increase: -5%", -0.05, False,
         "params at least 5% less than main"),
    ],
)  # fmt: skip
def test_amounts_are_held_in_plain_units(gate, text, limit, at_least, shown):
    found = gate(text)
    assert found.limit == pytest.approx(limit, rel=1e-15)
    assert found.at_least is at_least
    assert str(found) == shown


@pytest.mark.parametrize(
    ("text", "where", "words"),
    [
        ("metric: top2, min: 1%", "5:14: gates[0].metric", "did you mean 'top5' or 'top1'?"),
        ("metric: top1, versus: baseline, margin: -0.5", "gates[0].margin", "as in -0.5pp"),
        ("metric: top1, versus: baseline, margin: -0.5%", "gates[0].margin", "percentage points"),
        ("metric: top1, min: 0.95", "gates[0].min", "percent, as in 95%"),
        ("metric: loss, max: 5%", "gates[0].max", "a plain number"),
        ("metric: params, max: 12X", "gates[0].max", "units: k, M, G, T"),
        ("metric: train_peak_bytes, max: 12M", "gates[0].max", "8GiB"),
        ("metric: params, max_increase: 5%", "gates[0]", "no meaning of params without `versus`"),
        ("metric: params, versus: main, margin: 5", "gates[0]", "`max_increase`"),
        ("metric: top1, versus: main, max_increase: 5%", "gates[0]", "`margin`"),
        ("metric: top1, min: 1%, max: 2%", "gates[0]", "this one has max, min"),
        ("metric: top1", "gates[0]", "this one has none"),
        ("metric: params, max: 1M, confidence: 0.9", "gates[0].confidence", "no confidence"),
        ("metric: params, max: 1M, spread: 1", "gates[0].spread", "no spread enters"),
        ("metric: top1, min: 1%, spread: 1", "gates[0].spread", "percentage points"),
        ("metric: loss, max: 1, spread: 0", "gates[0].spread", "above 0"),
        ("metric: top1, min: 1%, confidence: 95", "gates[0].confidence", "below 1"),
        ("metric: top1, min: 1%, where: {x: c}", "gates[0].where.x", "labels of x: a, b"),
        ("metric: top1, versus: baseline, margin: 0pp, where: {x: a}", "gates[0]", "no variant"),
    ],
)
def test_wrong_gates(gate, text, where, words):
    with pytest.raises(SpecError) as caught:
        gate(text)
    assert where in str(caught.value) and words in str(caught.value)
    assert len(caught.value.problems) == 1
    assert caught.value.problems[0].where.line == 5
