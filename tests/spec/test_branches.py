"""Branches, joins and references: what the compiled model computes, against torch written out."""

import pytest
import torch
import torch.nn.functional as F

from nifbuild import build_model, load_spec
from nifbuild.nn.step_graph import StepGraph
from nifbuild.spec.names import PRIVATE, TAKEN

HEAD = "version: 1\ninput: {channels: 4, size: 8}\n"


@pytest.fixture
def compiled(resolve):
    """A model in evaluation mode, its weights by name, and an input."""

    def compile_text(text):
        torch.manual_seed(0)
        model = build_model(resolve(HEAD + text)).eval()
        return model, dict(model.state_dict()), torch.randn(2, 4, 8, 8)

    return compile_text


def conv(x, w, name, **options):
    return F.conv2d(x, w[f"{name}.weight"], w[f"{name}.bias"], **options)


def paths(resolved):
    return [node.path for node in resolved.graph.nodes]


def test_concat_of_named_branches(compiled):
    model, w, x = compiled(
        """
model:
  - id: mix
    op: concat
    branches:
      small: {op: conv, out_channels: 2, kernel_size: 1}
      large: [{id: a, op: conv, out_channels: 3}, relu]
      pooled: {op: max_pool, kernel_size: 3, stride: 1, padding: 1}
"""
    )
    expected = torch.cat(
        [
            conv(x, w, "mix.small.conv"),
            conv(x, w, "mix.large.a", padding=1).relu(),
            F.max_pool2d(x, 3, 1, 1),
        ],
        1,
    )
    torch.testing.assert_close(model(x), expected)


def test_listed_branches_add_no_level_and_may_be_repeated(resolve, compiled):
    text = """
model:
  - op: sum
    branches:
      - identity
      - [{id: a, op: conv, out_channels: 4}, relu]
      - {id: b$i, op: conv, out_channels: 4, repeat: 2, index: i}
"""
    assert paths(resolve(HEAD + text)) == ["identity", "a", "relu", "b0", "b1", "add"]
    model, w, x = compiled(text)
    a, b0, b1 = (conv(x, w, name, padding=1) for name in ("a", "b0", "b1"))
    torch.testing.assert_close(model(x), x + a.relu() + b0 + b1)


def test_squeeze_and_excitation(compiled):
    model, w, x = compiled(
        """
model:
  - op: multiply
    branches:
      - identity
      - - global_avg_pool
        - {id: fc1, op: conv, out_channels: 2, kernel_size: 1}
        - relu
        - {id: fc2, op: conv, out_channels: 4, kernel_size: 1}
        - sigmoid
"""
    )
    gate = conv(conv(x.mean((2, 3), keepdim=True), w, "fc1").relu(), w, "fc2").sigmoid()
    torch.testing.assert_close(model(x), x * gate)


def test_a_shuffle_unit(compiled):
    """Ma et al., arXiv 1807.11164, fig. 3 (c), without norms."""
    model, w, x = compiled(
        """
model:
  - op: concat
    split: even
    branches:
      - identity
      - - {id: a, op: conv, kernel_size: 1}
        - {id: b, op: conv, groups: depthwise}
  - {op: channel_shuffle, groups: 2}
"""
    )
    kept, taken = x.chunk(2, 1)
    joined = torch.cat([kept, conv(conv(taken, w, "a"), w, "b", padding=1, groups=2)], 1)
    torch.testing.assert_close(model(x), joined[:, [0, 2, 1, 3]])


def test_uneven_split(compiled):
    model, w, x = compiled(
        "model: [{op: concat, split: [1, 3], branches: "
        "{part1: identity, part2: {op: conv, out_channels: 5, kernel_size: 1}}}]"
    )
    expected = torch.cat([x[:, :1], conv(x[:, 1:], w, "part2.conv")], 1)
    torch.testing.assert_close(model(x), expected)


def test_references_to_earlier_ops(compiled):
    model, w, x = compiled(
        """
model:
  - {id: stem, op: conv, out_channels: 3}
  - id: down
    op: sequence
    body:
      - {id: pool, op: max_pool, kernel_size: 2}
      - {id: a, op: conv, out_channels: 6}
      - {op: concat, from: [previous, pool, pool]}
  - {op: upsample, scale: 2}
  - {id: all, op: concat, from: [stem, previous, input]}
  - {op: conv, id: side, kernel_size: 1, out_channels: 2, from: down.a}
  - {op: upsample, id: side_up}
  - {op: conv, id: head, kernel_size: 1, out_channels: 2, from: all}
  - {op: sum, from: [head, side_up]}
"""
    )
    stem = conv(x, w, "stem", padding=1)
    pool = F.max_pool2d(stem, 2)
    a = conv(pool, w, "down.a", padding=1)
    up = F.interpolate(torch.cat([a, pool, pool], 1), scale_factor=2)
    head = conv(torch.cat([stem, up, x], 1), w, "head")
    side = F.interpolate(conv(a, w, "side"), scale_factor=2)
    torch.testing.assert_close(model(x), head + side)


def test_the_closest_level_that_knows_a_name_counts(resolve):
    resolved = resolve(
        HEAD
        + """
blocks:
  unit: {body: [{id: a, op: relu}, gelu, {op: sum, from: [previous, a, top]}]}
model:
  - {id: a, op: silu}
  - {id: top, op: tanh, from: input}
  - {id: x, op: unit, from: a}
  - {id: y, op: unit}
  - {op: sum, from: [a, x.a, y]}
"""
    )
    index = {node.path: number for number, node in enumerate(resolved.graph.nodes)}
    inputs = {node.path: node.inputs for node in resolved.graph.nodes}
    assert inputs["top"] == (-1,) and inputs["x.a"] == (index["a"],)
    assert inputs["x.add"] == (index["x.gelu"], index["x.a"], index["top"])
    assert inputs["y.add"] == (index["y.gelu"], index["y.a"], index["top"])
    assert inputs["add"] == (index["a"], index["x.a"], index["y.add"])


def test_every_repetition_may_refer_to_its_own_op(resolve):
    """The top-down path of a feature pyramid (arXiv 1612.03144)."""
    resolved = resolve(
        HEAD
        + """
blocks:
  merge:
    args: {level: int}
    body:
      - {op: upsample, id: up}
      - {op: conv, id: lateral, kernel_size: 1, from: c$level}
      - {op: sum, from: [up, lateral]}
model:
  - {id: c$i, op: conv, out_channels: 4, stride: 2, repeat: 3, index: i}
  - {id: p$(1 - $i), op: merge, repeat: 2, index: i, level: 1 - $i}
"""
    )
    assert paths(resolved) == [
        "c0", "c1", "c2", "p1.up", "p1.lateral", "p1.add", "p0.up", "p0.lateral", "p0.add",
    ]  # fmt: skip
    assert [node.inputs[0] for node in resolved.graph.nodes] == [-1, 0, 1, 2, 1, 3, 5, 0, 6]


def test_from_of_repetitions(resolve):
    resolved = resolve(
        HEAD
        + """
model:
  - {id: a, op: relu}
  - {id: b, op: gelu}
  - {id: level, op: silu, repeat: 2, from: a}
  - {id: s$i, op: sum, repeat: 2, index: i, from: [b, level.$i]}
  - {op: concat, from: [s0, s1]}
"""
    )
    inputs = {node.path: node.inputs for node in resolved.graph.nodes}
    assert inputs == {
        "a": (-1,), "b": (0,), "level.0": (0,), "level.1": (2,),
        "s0.add": (1, 2), "s1.add": (1, 3), "concat": (4, 5),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("[{op: relu, from: stme}, {id: stem, op: relu}]", "no op has the id 'stme'\n  did you"),
        ("[{id: a, op: relu}, {op: gelu, from: b}]", "ids of earlier ops: a"),
        ("[{op: relu, from: b}, {id: b, op: relu}]", "3:26: from: 'b' comes later, and an op can"),
        (
            "[{id: s, op: sequence, body: [relu, {op: sum, from: [previous, s]}]}]",
            "this op is a part of 's' and cannot take its output",
        ),
        ("[{id: a, op: relu, from: a}]", "an op cannot take its own output"),
        (
            "[{id: s, op: sequence, body: {id: a, op: relu}}, "
            "{id: t, op: sequence, body: {id: a, op: relu}}, {op: sum, from: [previous, a]}]",
            "3:132: from: 'a' may be any of 2 ops\n  write the ids around it, too: s.a, t.a",
        ),
        (
            "[{id: s, op: sequence, body: {id: a, op: relu}}, {op: sum, from: [previous, a]}]",
            "no op has the id 'a'\n  write the ids around it, too: s.a",
        ),
        ("[{op: relu, from: [a, b]}]", "model[0].from: expected text, got"),
        ("[{op: relu, from: a..b}]", "from: expected an id, or ids joined by dots"),
        ("[relu, {op: sum}]", "sum joins either `branches` or what a list under `from` names"),
        (
            "[{id: a, op: relu}, {op: sum, from: [a, previous], branches: [relu, relu]}]",
            "3:44: sum: sum joins either `branches` or",
        ),
        ("[{id: a, op: relu}, {op: sum, from: [a, a], split: even}]", "`split` divides among"),
        ("[{op: concat, split: even, branches: [relu, relu, relu]}]", "4 channels cannot be div"),
        ("[{op: concat, split: [1, 2], branches: [relu, relu]}]", "split has 2 parts with 3 ch"),
        ("[{op: concat, split: [4], branches: [relu, relu]}]", "split has 1 parts with 4 channels"),
        (
            "[{op: sum, branches: [relu, {op: conv, out_channels: 8}]}]",
            "3:29: sum: tensors of different shapes cannot be added: 4x8x8, 8x8x8",
        ),
        (
            "[{id: a, op: relu}, {op: max_pool, kernel_size: 2}, "
            "{op: concat, from: [a, previous]}]",
            "3:79: concat: only tensors of one height and width can be concatenated: 4x8x8, 4x4x4",
        ),
        (
            "[{op: multiply, branches: [relu, [global_avg_pool, flatten]]}]",
            "tensors of these shapes cannot be multiplied: 4x8x8, 4",
        ),
        (
            "[{op: multiply, branches: [relu, {op: conv, out_channels: 2}]}]",
            "cannot be multiplied: 4x8x8, 2x8x8",
        ),
        ("[relu, {id: a, op: conv}, {op: gelu, from: input}]", "3:15: a: nothing takes the output"),
        ("[{id: half, op: relu}]", "no module can be named 'half'"),
        ("[{id: _modules, op: relu}]", "no module can be named '_modules'"),
        ("[{id: __call__, op: relu}]", "no module can be named '__call__'"),
        ("[{id: _steps, op: relu}]", "no module can be named '_steps'"),
        ("[{id: a.b, op: relu}]", "id: expected text without a dot"),
        ('[{id: "", op: relu}]', "id: expected text without a dot"),
        ("[{op: channel_slice, start: 2, stop: 5}]", "there are no channels 2 to 5 in an input of"),
        ("[{op: channel_shuffle, groups: 3}]", "3 groups do not divide 4 channels"),
        ("[{op: conv_transpose, padding: 9}]", "the padding cuts off all"),
        (
            "[{op: residual, body: [relu], stochastic_depth: {rate: 1}}]",
            "expected a number below 1",
        ),
        ("[{op: concat, branches: {a: [], b: relu}}]", "no ops here"),
        ("[{op: concat, branches: {a: {opp: conv}}}]", "is `op` meant by 'opp'?"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(problems, model, message):
    found = problems(HEAD + f"model: {model}\n")
    assert len(found) == 1 and message in found[0], found
    assert found[0].startswith("spec.yaml:3:")


def test_ids_that_torch_modules_have_no_room_for():
    attributes = {*dir(torch.nn.Module()), *dir(StepGraph({}, [], [0], [0]))}
    assert {name for name in attributes if not name.startswith("__")} <= TAKEN | PRIVATE
    for taken in ("half", "type", "train", "_modules"):
        with pytest.raises(KeyError):
            torch.nn.Module().add_module(taken, torch.nn.Identity())


def test_ids_may_be_words_that_the_graph_uses_itself(compiled):
    model, _, x = compiled(
        "model: [{id: inputs, op: relu}, {id: steps, op: gelu}, {id: outputs, op: tanh}]"
    )
    torch.testing.assert_close(model(x), F.gelu(x.relu()).tanh())


def test_patches_reach_into_branches(resolve):
    resolved = resolve(
        HEAD
        + """
model:
  - id: mix
    op: concat
    branches: {a: {op: conv, repeat: 2}, b: [relu, {id: c, op: conv}]}
  - {op: multiply, branches: [identity, {op: conv, id: d}]}
patch:
  - {match: mix.**, where: {op: conv}, set: {kind: implicit_frequency}, expect: 3}
  - {match: d, set: {kernel_size: 5}, expect: 1}
"""
    )
    ops = {node.path: node.op for node in resolved.graph.nodes}
    kinds = [ops[path].kind for path in ("mix.a.conv", "mix.a.conv_2", "mix.b.c", "d")]
    assert kinds == ["implicit_frequency"] * 3 + ["standard"]
    assert ops["d"].kernel_size == (5, 5)


def test_the_written_out_spec_is_the_same_one(resolve, write):
    text = """
model:
  - {id: position, op: conv, out_channels: 4, repeat: 2}
  - {op: concat, split: even, branches: {a: relu, b: [relu, {id: 0, op: gelu}]}}
  - {op: sum, from: [previous, 0, 1]}
"""
    resolved = resolve(HEAD + text)
    again = load_spec(write(resolved.text, "again.yaml"))
    assert again.spec == resolved.spec and again.text == resolved.text
    assert again.graph.nodes == resolved.graph.nodes
    assert paths(resolved)[:2] == ["0", "1"]


def test_a_norm_of_the_body_may_take_its_input_from_anywhere(resolve):
    """The shortcut has a norm of its kind, not of its place."""
    body = "{id: c, op: conv, stride: 2}, {op: batch_norm, from: c}, {op: conv, out_channels: 8}"
    resolved = resolve(f"{HEAD}model: [{{op: residual, body: [{body}]}}]")
    norm = next(n for n in resolved.graph.nodes if n.path == "downsample.1")
    assert resolved.graph.nodes[norm.inputs[0]].path == "downsample.0"


def test_a_norm_within_branches_is_the_one_of_the_shortcut(resolve):
    body = (
        "{op: concat, branches: [[{op: conv, out_channels: 4}, {op: group_norm, num_groups: 2}]]}"
    )
    resolved = resolve(f"{HEAD}model: [{{op: residual, body: [{body}, {{op: conv, stride: 2}}]}}]")
    assert next(n for n in resolved.graph.nodes if n.path == "downsample.1").op.num_groups == 2
