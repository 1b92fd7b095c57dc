from pathlib import Path

import jsonschema
import pytest

from nifbuild.spec.schema import json_schema, study_schema
from nifbuild.spec.source import load, parse, plain

SPECS = sorted((Path(__file__).parents[2] / "specs").rglob("*.yaml"))


@pytest.fixture(scope="module")
def validator():
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("path", SPECS, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_shipped_specs_are_accepted(validator, path):
    if path.parent.name == "ablations":
        validator = jsonschema.Draft202012Validator(study_schema())
    assert [e.message for e in validator.iter_errors(plain(load(path)))] == []


GOOD = [
    "version: 1\nmodel: [relu, {op: my_block, anything: 3, repeat: 2}]",
    "version: 1\nmodel: relu",
    "train: {epochs: $e}\ndata: {path: images}",
    "model: [{op: conv, kind: $kind, hidden: [8], id: 0}]",
    "model: [{op: conv, kernel_size: [3, 5], padding: auto, repeat: $n, first: {stride: 2}}]",
    "model: [{op: residual, shortcut: identity, then: relu, body: {op: conv}}]",
    "blocks: {b: {args: {n: int}, body: [relu]}}",
    "model: [{op: concat, branches: {a: relu, b: [relu, {op: conv}]}}]",
    "model: [{op: sum, branches: [relu, [relu, gelu]]}, {op: sum, branches: {op: relu}}]",
    "model: [{op: concat, from: [$skip, previous]}, {op: conv, kernel_size: [$k, 1]}]",
    "input: {size: [$s, $s]}",
    "train: {optimizer: {betas: [$b, 0.9]}, schedule: {name: step, at_epochs: [$e, 60]}}",
    "data: {normalize: {mean: [$m], std: [1.0]}}",
    "model: [{op: concat, from: [a, b.0]}, {op: relu, from: 0}, {op: relu, from: a$i}]",
    "model: [{op: relu, id: a$i, repeat: [{id: x}, {from: b}], index: i}]",
    "model: [{op: residual, body: relu, stochastic_depth: {rate: 0.1}}]",
    "patch: [{match: a, where: {op: conv}, set: {kind: standard}, expect: 3}]",
]
BAD = [
    "modle: [relu]",
    "version: 2",
    "model: 3",
    "model: [{op: conv, kernal_size: 3}]",
    "model: [{op: conv, kernel_size: 0}]",
    "model: [{op: conv, kind: implict}]",
    "model: [{op: conv, kind: standard, hidden: [8]}]",
    "model: [{op: dropout, p: 2}]",
    "model: [{op: residual}]",
    "model: [{op: residual, body: [{op: conv, bias: 3}]}]",
    "model: [{op: relu, repeat: 0}]",
    "model: [{kernel_size: 3}]",
    "model: [{op: concat, branches: 3}]",
    "model: [{op: concat, branches: {a: {op: conv, kernal_size: 3}}}]",
    "model: [{op: conv, from: [a, b]}]",
    "model: [{op: relu, repeat: [3]}]",
    "model: [{op: residual, body: relu, stochastic_depth: {rate: 2}}]",
    "train: {epochs: -1}",
    "train: {epochs: many}",
    "train: {precision: fp8}",
    "train: {optimizer: {name: sgd, betas: [0.9, 0.9]}}",
    "data: {source: digits, path: x}",
    "data: {source: nowhere}",
    "input: {size: [1, 2, 3]}",
    "input: {size: [$s, 1.5]}",
    "model: [{op: conv, kernel_size: [a, 1]}]",
    "train: {schedule: {name: step, at_epochs: [first]}}",
    "patch: [{set: {}}]",
    "blocks: {b: {bdy: [relu]}}",
    "vars: [1]",
]


@pytest.mark.parametrize("text", GOOD)
def test_what_people_may_write_is_accepted(validator, text):
    assert validator.is_valid(plain(parse(text, "f.yaml"))), text


@pytest.mark.parametrize("text", BAD)
def test_what_is_wrong_in_any_context_is_rejected(validator, text):
    assert not validator.is_valid(plain(parse(text, "f.yaml"))), text


def test_fields_carry_their_descriptions():
    definitions = json_schema()["$defs"]
    assert "pixels" in definitions["StandardConv"]["properties"]["kernel_size"]["description"]
