import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nifbuild import load_spec
from nifbuild.cli.app import app
from nifbuild.report.diff import difference_text, spec_difference

A = """
version: 1
name: first
input: {channels: 3, size: 8}
model:
  - {id: stem, op: conv, out_channels: 4, kernel_size: 3}
  - {id: body, op: sequence, body: [{id: a, op: conv}, {id: b, op: conv}, relu]}
  - {id: old, op: sequence, body: [batch_norm, relu]}
  - global_avg_pool
  - flatten
  - {id: fc, op: linear, out_features: 10}
train: {epochs: 3}
"""
B = """
version: 1
name: second
input: {channels: 3, size: 8}
model:
  - {id: stem, op: conv, out_channels: 6, kernel_size: 3}
  - id: body
    op: sequence
    body: [{id: a, op: conv, kind: free_frequency}, {id: b, op: conv, kind: free_frequency}, relu]
  - {id: new, op: dropout, p: 0.5}
  - global_avg_pool
  - flatten
  - {id: fc, op: linear, out_features: 10}
data: {source: digits}
"""


@pytest.fixture
def specs(tmp_path):
    for name, text in (("a.yaml", A), ("b.yaml", B)):
        (tmp_path / name).write_text(text)
    return [load_spec(tmp_path / name) for name in ("a.yaml", "b.yaml")]


def test_modules_are_added_removed_and_changed(specs):
    document = json.loads(json.dumps(spec_difference(*specs).as_document()))
    assert (document["same"], document["a"], document["b"]) == (False, "first", "second")
    modules = {module.pop("path"): module for module in document["modules"]}
    assert list(modules) == [
        "stem", "body.a", "body.b", "body.relu", "new", "global_avg_pool", "flatten", "fc",
        "old.batch_norm", "old.relu",
    ]  # fmt: skip
    assert modules["new"] == {"change": "added", "op": {"b": "dropout"}, "fields": {}}
    assert modules["old.relu"] == {"change": "removed", "op": {"a": "relu"}, "fields": {}}
    assert modules["stem"]["fields"] == {
        "out_channels": {"a": 4, "b": 6},
        "output_shape": {"a": "4x8x8", "b": "6x8x8"},
    }
    fields = modules["body.a"]["fields"]
    assert fields["kind"] == {"a": "standard", "b": "free_frequency"}
    assert fields["mixing"] == {"b": "auto"}
    assert "stride" not in fields
    assert modules["global_avg_pool"]["fields"]["inputs"] == {"a": ["old.relu"], "b": ["new"]}


def test_sections_value_by_value(specs):
    sections = spec_difference(*specs).as_document()["sections"]
    assert sections["name"] == {"a": "first", "b": "second"}
    assert sections["train.epochs"] == {"a": 3, "b": 50}
    assert sections["data.source"] == {"b": "digits"}
    assert not any(key.startswith(("model", "input")) for key in sections)


def test_budgets_count_the_weights(specs):
    def linear(inputs):
        return inputs * 10 + 10

    def convs(channels, kernel):
        return 2 * channels * (channels * kernel + 1)

    first = 4 * 28 + convs(4, 9) + 2 * 4 + linear(4)
    # separable: a real and an imaginary weight for each of 8 x 5 frequencies, then a 1x1
    second = 6 * 28 + convs(6, 1) + 2 * 6 * 2 * 8 * 5 + linear(6)
    found = spec_difference(*specs).as_document()["budgets"]
    assert found["params"] == {"a": first, "b": second}
    assert found["weights_bytes"] == {"a": 4 * first, "b": 4 * second}
    assert found["optimizer_bytes"]["b"] >= 8 * second  # AdamW: two moments


def test_budgets_are_those_of_inspect(specs, tmp_path):
    inspected = []
    for name in ("a.yaml", "b.yaml"):
        done = CliRunner().invoke(app, ["inspect", str(tmp_path / name), "--json"])
        inspected.append(json.loads(done.stdout))
    found = spec_difference(*specs).as_document()["budgets"]
    for side, document in zip("ab", inspected, strict=True):
        assert found["macs"][side] == document["macs"]
        assert found["batch_size"][side] == document["batch_size"] == 128
        for name in ("activations_bytes", "train_peak_bytes", "inference_peak_bytes"):
            assert found[name][side] == document["memory"][name]


def test_text_tells_equal_changes_once(specs):
    text = difference_text(spec_difference(*specs))
    lines = text.splitlines()
    assert "~ train.epochs: 3 -> 50" in lines
    assert any(line.startswith("+ data: ") and "source: digits" in line for line in lines)
    assert "null" not in text
    at = lines.index("~ body.a, body.b")
    assert lines[at + 1] == "    ~ kind: standard -> free_frequency"
    assert "+ new" in lines
    assert lines[lines.index("- old") + 1] == "    batch_norm, relu"
    assert "~ 3 modules have other shapes only, from body.relu on: 4x8x8 -> 6x8x8" in lines
    cells = [line.split() for line in lines]
    assert ["parameters", "466", "1,282", "+175.1%"] in cells
    assert ["images", "in", "a", "batch", "128", "128", "same"] in cells
    assert lines[-1].startswith("inference peak")


def test_equal_specs(specs):
    difference = spec_difference(specs[0], specs[0])
    assert not difference
    assert difference.as_document()["same"] is True
    assert difference_text(difference).endswith("/a.yaml are the same, written out")


def test_specs_of_one_name_are_told_apart_by_their_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("one", "two"):
        Path(folder).mkdir()
        Path(folder, "my.yaml").write_text(A.replace("name: first\n", ""))
    one, two = Path("one/my.yaml"), Path("two/my.yaml")
    text = difference_text(spec_difference(load_spec(one), load_spec(two)))
    assert text == f"{one} and {two} are the same, written out"
    two.write_text(two.read_text().replace("epochs: 3", "epochs: 4"))
    text = difference_text(spec_difference(load_spec(one), load_spec(two)))
    assert [str(one), str(two)] in [line.split() for line in text.splitlines()]


def test_the_command(specs, tmp_path):
    arguments = ["diff", str(tmp_path / "a.yaml"), str(tmp_path / "b.yaml")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0
    assert done.stdout == difference_text(spec_difference(*specs)) + "\n"
    done = CliRunner().invoke(app, [*arguments, "--json"])
    assert json.loads(done.stdout) == spec_difference(*specs).as_document()


def test_the_command_says_what_is_wrong(tmp_path):
    (tmp_path / "a.yaml").write_text(A)
    command = [sys.executable, "-m", "nifbuild", "diff", "a.yaml", "c.yaml"]
    env_root = str(Path(__file__).parents[2])
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, env={"PYTHONPATH": env_root}
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "c.yaml" in done.stderr and "Traceback" not in done.stderr
