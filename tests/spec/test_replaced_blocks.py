"""A block that takes the place of another: `blocks` are replaced whole."""

import pytest

BASE = """\
version: 1
name: base
input: {channels: 4, size: 8}
vars: {width: 4}
blocks:
  unit:
    args: {out: int, stride: 1}
    body: [{id: c, op: conv, out_channels: $out, stride: $stride}]
model:
  - {op: unit, out: $width}
  - {id: a, op: unit, out: 4}
  - {id: b, op: unit, out: 4, repeat: 3}
  - {id: c, op: unit, out: 4, stride: 2, repeat: 2}
"""
WHOLE = "`blocks` are replaced whole, while `vars` and `defaults` merge"


def replaced(args: str, body: str = "[{op: conv, out_channels: $out, stride: $stride}]") -> str:
    return f"extends: base.yaml\nblocks:\n  unit: {{{args}body: {body}}}\n"


@pytest.mark.parametrize(
    ("text", "lost"),
    [
        (replaced(""), "out, stride"),
        (replaced("", "[{op: conv}]"), "out, stride"),
        (replaced("args: {}, "), "out, stride"),
        (replaced("args: {out: int}, "), "stride"),
        (replaced("args: {stride: 1}, "), "out"),
    ],
)
def test_without_its_arguments(problems, write, text, lost):
    write(BASE, "base.yaml")
    (found,) = problems(text)
    assert found.replace("stride: 1, out: int", "out: int, stride: 1") == (
        "spec.yaml:3:3: blocks.unit: this takes the place of the block at base.yaml:7:5, and lacks "
        f"arguments of it: {lost}\n  {WHOLE}: write args: {{out: int, stride: 1}}"
    )


def test_with_an_argument_that_its_uses_do_not_give(problems, write):
    write(BASE, "base.yaml")
    (found,) = problems(replaced("args: {out: int, stride: 1, kernel: int}, "))
    assert found == (
        "spec.yaml:3:3: blocks.unit: this takes the place of the block at base.yaml:7:5, whose "
        "uses do not give the new argument 'kernel'\n"
        f"  {WHOLE}: give it a default, such as `kernel: 1`"
    )


def test_with_an_argument_alone(problems, write):
    write(BASE, "base.yaml")
    (found,) = problems("extends: base.yaml\nblocks: {unit: {args: {out: int}}}")
    assert "blocks.unit: missing field `body`" in found and WHOLE in found


def test_arguments_that_nothing_gives_may_go(resolve, write):
    write(BASE, "base.yaml")
    model = "model: [{op: unit}, {op: unit}]\n"
    resolve(replaced("", "[{op: conv}]") + model)
    # `out` is a variable here.
    resolve(replaced("", "[{op: conv, out_channels: $out}]") + model + "vars: {out: 4}\n")


def test_its_own_uses_are_wrong_where_they_stand(problems, write):
    write(BASE, "base.yaml")
    text = replaced("args: {out: int, stride: 1, kernel: int}, ") + "model: [{op: unit, out: 3}]\n"
    (found,) = problems(text)
    assert found.startswith("spec.yaml:4:9: kernel: block 'unit' needs the argument 'kernel' (int)")
