"""Ops that may be left out, ops as arguments, and types of arguments: what they come to."""

import pytest
import torch
import torch.nn.functional as F

from nifbuild import build_model
from nifbuild.spec.expressions import substitute
from nifbuild.spec.resolve import load_spec
from nifbuild.spec.source import Scalar, parse

HEAD = "version: 1\ninput: {channels: 4, size: 8}\n"


def paths(resolved):
    return [node.path for node in resolved.graph.nodes]


def test_what_when_leaves_out_is_no_position(resolve):
    """The inverted residual of MobileNet-v3, whose parts are optional."""
    text = (
        HEAD
        + """
blocks:
  bottleneck:
    args: {inputs: int, hidden: int, use_gate: true}
    body:
      - {id: position, op: conv, when: $hidden != $inputs, out_channels: $hidden, kernel_size: 1}
      - {id: position, op: conv, groups: depthwise}
      - {id: position, op: sequence, when: $use_gate, body: [{id: fc, op: conv}]}
      - {id: position, op: conv, out_channels: 4, kernel_size: 1}
model:
  - {id: a, op: bottleneck, inputs: 4, hidden: 4, use_gate: false}
  - {id: b, op: bottleneck, inputs: 4, hidden: 8}
  - {id: c, op: bottleneck, inputs: 4, hidden: 4}
"""
    )
    assert paths(resolve(text)) == [
        "a.0", "a.1", "b.0", "b.1", "b.2.fc", "b.3", "c.0", "c.1.fc", "c.2",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("op", "left"),
    [
        ("{op: relu, when: false}", []),
        ("{op: relu, when: $no}", []),
        ("{op: relu, when: not $no}", ["relu"]),
        ("{op: relu, repeat: 3, index: i, when: $i != 1}", ["relu", "relu_2"]),
        ("{id: x, op: relu, repeat: 3, index: i, when: $i > 1}", ["x.2"]),
        ("{op: relu, repeat: [{when: $no}, {}]}", ["relu"]),
        ("{op: relu, repeat: $none}", []),
        ("{op: relu, repeat: $none - 1, when: $none > 0}", []),
        ("{id: x, op: relu, repeat: '$stages[0]'}", []),
        ("{id: x, op: sequence, body: [{op: relu, when: $no}]}", []),
        ("{id: x, op: nothing}", []),
        ("{op: residual, body: [relu], then: '$stages[0]'}", ["relu", "add"]),
        ("{op: residual, body: [relu], then: {op: relu, when: $no}}", ["relu", "add"]),
        ("{op: residual, body: [relu], shortcut: {op: tanh, when: $no}}", ["relu", "add"]),
        ("{op: sum, branches: [relu, {op: tanh, when: $no}]}", ["relu", "add"]),
        ("{op: sum, branches: {a: relu, b: {op: tanh, when: $no}}}", ["a.relu", "add"]),
        ("{op: sum, branches: {a: relu, b: [{op: tanh, when: $no}]}}", ["a.relu", "b", "add"]),
        ("{op: sum, branches: [relu, '$stages[0]']}", ["relu", "identity", "add"]),
    ],
)
def test_what_is_left_out(resolve, op, left):
    text = (
        HEAD
        + f"""
vars: {{no: false, none: 0, stages: [[], 1]}}
blocks: {{nothing: {{body: [{{op: relu, when: false}}]}}}}
model: [{{id: first, op: gelu, when: not $no}}, {op}, {{id: last, op: gelu, repeat: '$stages[1]',
  when: $none == 0}}]
"""
    )
    resolved = resolve(text)
    assert paths(resolved) == ["first", *left, "last.0"]
    again = load_spec(resolved.source.mark.file)
    assert again.graph.nodes == resolved.graph.nodes


def test_a_list_of_ops_as_an_argument(resolve):
    text = (
        HEAD
        + """
vars: {width: 4}
blocks:
  wrapped:
    args: {width: 2, inner: ops, after: {type: ops, default: []}, act: {type: ops, default: relu}}
    body:
      - {op: residual, body: $inner, then: $after}
      - $act
  wrapped2: {args: {n: int}, body: {id: x, op: conv, out_channels: $n}}
  twice: {args: {ops: ops}, body: [$ops, {id: again, op: sequence, body: [tanh, $ops]}]}
model:
  - {id: a, op: wrapped, inner: {op: conv, out_channels: $width}}
  - id: b
    op: wrapped
    after: gelu
    act: []
    inner:
      - {id: c$i, op: conv, repeat: 2, index: i, kernel_size: 2 * $i + 1}
      - {id: d, op: wrapped, inner: identity}
  - {id: t, op: twice, ops: [silu, {id: x, op: wrapped2, n: $width}]}
"""
    )
    found = {node.path: node for node in resolve(text).graph.nodes}
    assert [*found] == [
        "a.conv", "a.add", "a.relu",
        "b.c0", "b.c1", "b.d.identity", "b.d.add", "b.d.relu", "b.add", "b.gelu",
        "t.silu", "t.x.x", "t.again.tanh", "t.again.silu", "t.again.x.x",
    ]  # fmt: skip
    assert [found[f"b.c{i}"].op.kernel_size for i in (0, 1)] == [(1, 1), (3, 3)]
    assert found["a.conv"].output_shape.channels == 4  # as its own $width says, not the block's


def test_an_empty_branch_hands_on_its_input(resolve):
    """The unit of ShuffleNet-v2: with a stride, the first branch has ops."""
    text = (
        HEAD
        + """
blocks:
  unit:
    args: {one: {type: ops, default: []}}
    body: {op: concat, split: even, branches: {one: $one, two: {id: c, op: conv}}}
model: [{id: u, op: unit}, {id: v, op: unit, one: {id: d, op: conv}}]
"""
    )
    torch.manual_seed(0)
    model, x = build_model(resolve(text)), torch.randn(2, 4, 8, 8)
    w = model.state_dict()
    assert {key.removesuffix(".weight").removesuffix(".bias") for key in w} == {
        "u.two.c", "v.one.d", "v.two.c",
    }  # fmt: skip

    def conv(x, name):
        return F.conv2d(x, w[f"{name}.weight"], w[f"{name}.bias"], padding=1)

    y = torch.cat([x[:, :2], conv(x[:, 2:], "u.two.c")], 1)
    y = torch.cat([conv(y[:, :2], "v.one.d"), conv(y[:, 2:], "v.two.c")], 1)
    torch.testing.assert_close(model(x), y)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("[{op: relu, when: 3}]", "9:26: when: `when` is true or false, not 3"),
        ("[{op: relu, when: $n}]", "`when` is true or false, not 2\n  write when: $use_gate"),
        ("[{op: relu, when: $n < two}]", "cannot evaluate '$n < two': write $two for the variable"),
        ("[{op: relu, when: not $n}]", "cannot evaluate 'not $n': $n is not true or false"),
        ("[{op: relu, when: $yes < 2}]", "$yes is not a number"),
        ("[{op: relu, when: false}]", "9:8: model: no ops here"),
        ("[{op: residual, body: {op: relu, when: false}}]", "body: no ops here"),
        ("[{op: concat, branches: [{op: relu, when: false}]}]", "branches: no ops here"),
        ("[$n]", "9:9: model: an op is its name, or a mapping with `op`"),
        ("[{op: wrapped, ops: 3}]", "9:28: ops: the argument 'ops' of block 'wrapped' is a list"),
        ("[{op: wrapped, ops: [{op: wrapped, ops: [{op: cnov}]}]}]", "9:54: model: unknown op"),
        ("[{op: wrapped, ops: $m}]", "9:28: unknown variable $m"),
        ("[{op: typed, n: a}]", "the argument 'n' of block 'typed' is int, not 'a'"),
        ("[{op: typed, n: [1, 2]}]", "the argument 'n' of block 'typed' is int, not a collection"),
        ("[{op: typed, b: ~}]", "the argument 'b' of block 'typed' is bool, not None"),
        ("[{op: round}]", "the block contains itself: round -> round"),
        ("[{op: bad1}]", "blocks.bad1.args.n.type: unknown type 'itn'\n  did you mean 'int'?"),
        ("[{op: bad2}]", "blocks.bad2.args.n: unknown field 'defualt'\n  did you mean 'default'?"),
        ("[{op: bad3}]", "blocks.bad3.args.n.default: the default is not of the type int"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(problems, model, message):
    text = f"""version: 1
input: {{channels: 4, size: 8}}
vars: {{n: 2, yes: true}}
blocks:
  unused: {{body: [{{op: relu, when: $yes, repeat: $n}}]}}
  wrapped: {{args: {{ops: ops}}, body: $ops}}
  typed: {{args: {{n: {{type: int, default: ~}}, b: {{type: bool, default: true}}}}, body: [relu]}}
BLOCKS
model: {model}
"""
    more = {
        "round": "  round: {body: {op: through, ops: {op: round}}}\n  through: {args: {ops: ops}, "
        "body: $ops}",
        "bad1": "  bad1: {args: {n: {type: itn}}, body: [relu]}",
        "bad2": "  bad2: {args: {n: {type: int, defualt: 1}}, body: [relu]}",
        "bad3": "  bad3: {args: {n: {type: int, default: [1]}}, body: [relu]}",
    }
    blocks = next((more[name] for name in more if f"op: {name}" in model), "  # no others")
    found = problems(text.replace("BLOCKS", blocks))
    assert any(message in problem for problem in found), found
    assert all(problem.startswith("spec.yaml:") for problem in found)


def test_an_argument_of_any_type_with_a_default(resolve):
    text = (
        HEAD
        + """
blocks:
  c: {args: {groups: {type: any, default: 1}, n: {type: int, default: ~}}, body:
      {op: conv, groups: $groups, out_channels: $n}}
model: [{op: c}, {op: c, groups: depthwise}, {op: c, n: 8, groups: 2}, {op: c, n: ~}]
"""
    )
    ops = [node.op for node in resolve(text).graph.nodes]
    assert [op.groups for op in ops] == [1, "depthwise", 2, 1]
    assert [op.out_channels for op in ops] == [None, None, 8, None]


@pytest.mark.parametrize("written", ["depthwise", "4"])
@pytest.mark.parametrize("asked", ["depthwise", "4"])
def test_depthwise_and_the_number_that_says_the_same(resolve, written, asked):
    model = f"model: [{{op: conv, groups: {written}}}, {{op: conv, groups: 2}}]\n"
    patch = f"patch: [{{where: {{groups: {asked}}}, set: {{bias: false}}, expect: 1}}]\n"
    assert [n.op.bias for n in resolve(HEAD + model + patch).graph.nodes] == [False, True]


@pytest.mark.parametrize(
    ("text", "value"),
    [("$a == 2", True), ("$a != 2", False), ("1 < $a <= 2", True), ("not $a > 1", False),
     ("$a * 2 >= $b + 1", True), ("not $c", True)],
)  # fmt: skip
def test_comparisons(text, value):
    scope = parse("{a: 2, b: 3, c: false}", "vars").entries
    found = substitute(Scalar(text, scope["a"].mark), scope)
    assert found.value is value


def test_very_many_empty_lists_of_ops_are_refused_at_once(problems):
    blocks = "".join(
        f"  b{i}: {{args: {{x: ops}}, body: {{op: b{i + 1}, x: [$x, $x]}}}}\n" for i in range(25)
    )
    text = f"{HEAD}blocks:\n{blocks}  b25: {{args: {{x: ops}}, body: [relu, $x]}}\n"
    (found,) = problems(text + "model: [{op: b0, x: []}]")
    assert "nested more than" in found or "more than 50,000 ops" in found


@pytest.mark.parametrize("id", ["block1-0", "a b", "été", "x/y:z*", "_fc", "1e3", "true"])
def test_ids_may_have_any_characters_but_a_dot(resolve, write, id):
    text = f"""{HEAD}
model:
  - {{id: "{id}", op: sequence, body: [{{id: "{id}", op: conv}}]}}
  - {{op: relu, from: "{id}.{id}"}}
  - {{op: sum, branches: {{"{id}2": identity}}}}
patch: [{{match: "{id}.{id}", set: {{bias: false}}, expect: 1}}]
"""
    resolved = resolve(text)
    assert paths(resolved) == [f"{id}.{id}", "relu", f"{id}2.identity", "add"]
    model = build_model(load_spec(write(resolved.text, "again.yaml")))
    assert list(model.state_dict()) == [f"{id}.{id}.weight"]
