"""Blocks, repeats and names: what the model section comes to."""

import time

import pytest

from nifbuild.spec.resolve import load_spec

HEAD = "version: 1\ninput: {channels: 3, size: 8}\n"


def paths(resolved):
    return [node.path for node in resolved.graph.nodes]


def test_names_come_from_ids_and_structures_without_id_add_no_level(resolve):
    resolved = resolve(
        HEAD
        + """
blocks:
  unit:
    args: {width: int}
    body:
      - op: residual
        body: [{id: conv, op: conv, out_channels: $width}, relu, relu]
model:
  - relu
  - {id: stage, op: unit, width: 4}
  - {id: 0, op: relu}
  - {op: sequence, body: [{id: inner, op: relu}, relu]}
  - {id: level, op: sequence, body: [relu, {id: relu, op: gelu}]}
"""
    )
    assert paths(resolved) == [
        "relu",
        "stage.conv",
        "stage.relu",
        "stage.relu_2",
        "stage.downsample.0",
        "stage.add",
        "0",
        "inner",
        "relu_2",
        "level.relu_2",
        "level.relu",
    ]


def test_repeat_with_first_and_last(resolve):
    resolved = resolve(
        HEAD
        + """
model:
  - {id: convs, op: conv, out_channels: 8, repeat: 3, first: {stride: 2}, last: {out_channels: 5}}
  - {op: relu, repeat: 2}
"""
    )
    assert paths(resolved) == ["convs.0", "convs.1", "convs.2", "relu", "relu_2"]
    assert [str(n.output_shape) for n in resolved.graph.nodes[:3]] == ["8x4x4", "8x4x4", "5x4x4"]


def test_blocks_see_variables_and_their_own_arguments_only(resolve, problems):
    text = (
        HEAD
        + """
vars: {base: 4}
blocks:
  inner: {args: {n: 2}, body: [{op: conv, out_channels: $n * $base}]}
  outer: {args: {n: int, m: $base}, body: [{op: inner}, {op: inner, n: $n}, {op: inner, n: $m}]}
model: [{op: outer, n: 5}]
"""
    )
    widths = [node.output_shape.channels for node in resolve(text).graph.nodes]
    assert widths == [8, 20, 16]
    assert "unknown variable $m" in problems(text.replace("$n * $base", "$n * $m"))[0]


def test_defaults_apply_by_op_and_kind(resolve):
    resolved = resolve(
        HEAD
        + """
defaults: {conv: {bias: false, hidden: [3], kernel_size: 5}}
model:
  - {op: conv, kernel_size: 1}
  - {op: conv, kind: implicit_frequency}
  - {op: conv, bias: true}
"""
    )
    first, second, third = (node.op for node in resolved.graph.nodes)
    assert (first.kernel_size, first.bias) == ((1, 1), False)
    assert (second.hidden, second.kernel_size) == ((3,), (5, 5))
    assert third.bias is True


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("[{op: cnov}]", "7:14: model: unknown op 'cnov'\n  did you mean 'conv'?"),
        ("[{op: unitt}]", "unknown op 'unitt'\n  did you mean 'unit'?"),
        ("[3]", "7:9: model: an op is its name, or a mapping with `op`"),
        ("[{opp: relu}]", "an op is its name, or a mapping with `op`\n  is `op` meant by 'opp'?"),
        ("[]", "7:8: model: no ops here"),
        ("[{op: unit}]", "7:9: width: block 'unit' needs the argument 'width' (int)"),
        ("[{op: unit, width: 3, hight: 2}]", "7:30: hight: block 'unit' has no argument 'hight'"),
        (
            "[{op: unit, width: a}]",
            "the argument 'width' of block 'unit' is int, not 'a'\n  the block declares it as",
        ),
        ("[{op: unit, width: 3, scale: x}]", "the argument 'scale' of block 'unit' is float"),
        ("[{op: relu, repeat: 0}]", "or a list with the fields of each repetition, not 0"),
        ("[{op: relu, repeat: two}]", "repetition, not 'two'"),
        ("[{op: relu, repeat: 1000000000}]", "gives more ops than a model may have"),
        ("[{op: relu, repeat: 2, first: 3}]", "first is a mapping of fields"),
        ("[{op: loop}]", "the block contains itself: loop -> loop"),
        ("[{op: conv, kind: implict_frequency}]", "did you mean 'implicit_frequency'?"),
        ("[{id: a, op: relu}, {id: a, op: relu}]", "7:33: a: two modules are named 'a'"),
        ("[{op: relu, first: {id: a}}]", "7:20: first: `first` is for ops that have `repeat`"),
        ("[{op: relu, repeat: []}]", "or a list with the fields of each repetition, not []"),
        ("[{op: relu, repeat: [3]}]", "an entry of a list under repeat is a mapping of fields"),
        ("[{op: relu, repeat: 2, index: 3}]", "7:38: index: index is the name of a variable"),
        ("[{op: relu, id: a$j, repeat: 2, index: i}]", "unknown variable $j"),
        ("[{op: relu, repeat: 2, first: 3}]", "first is a mapping of fields"),
        ("[{op: residual, shortcut: auro, body: [relu]}]", "unknown op 'auro'"),
    ],
)
def test_bad_models(problems, model, message):
    text = f"""version: 1
input: {{channels: 3, size: 8}}
blocks:
  unit: {{args: {{width: int, scale: 1.5}}, body: [{{op: conv, out_channels: $width, bias: true}}]}}
  loop: {{body: [{{op: loop}}]}}
  deep: {{body: [{{op: relu, repeat: 1000}}]}}
model: {model}
"""
    found = problems(text)
    assert any(message in problem for problem in found), found
    assert all(problem.startswith("spec.yaml:") for problem in found)


def test_the_index_of_a_repetition(resolve):
    resolved = resolve(
        HEAD
        + """
vars: {widths: [4, 8, 16]}
blocks:
  unit: {args: {width: int, extra: 1}, body: [{id: "a$extra", op: conv, out_channels: $width}]}
model:
  - id: stage
    op: unit
    repeat: 3
    index: i
    width: $widths[$i]
    extra: $i + 1
  - {id: "last$($i * 2)", op: conv, repeat: 2, index: i, out_channels: 2 + $i}
  - {id: position, op: conv, repeat: 2, first: {stride: 2}}
"""
    )
    assert {n.path: n.output_shape.channels for n in resolved.graph.nodes} == {
        "stage.0.a1": 4, "stage.1.a2": 8, "stage.2.a3": 16, "last0": 2, "last2": 3, "3": 3, "4": 3,
    }  # fmt: skip


def test_a_default_says_the_type_of_each_entry_of_a_list_too(resolve, problems):
    text = (
        HEAD
        + """
blocks: {unit: {args: {size: 3}, body: [{op: conv, kernel_size: $size}]}}
model: [{op: unit, size: [1, 5]}]
"""
    )
    assert resolve(text).graph.nodes[0].op.kernel_size == (1, 5)
    assert "argument 'size' of block 'unit' is int" in problems(text.replace("5]", "x]"))[0]


def test_a_list_under_repeat_has_the_fields_of_each_repetition(resolve):
    resolved = resolve(
        HEAD
        + """
vars:
  stages: [{out_channels: 4, repeat: 2}, {out_channels: 8, stride: 2}]
model:
  - {op: conv, kernel_size: 1, repeat: $stages, last: {id: end}}
  - {id: level, op: conv, repeat: [{}, {id: named}]}
"""
    )
    assert [(n.path, n.output_shape.channels, n.op.stride[0]) for n in resolved.graph.nodes] == [
        ("conv", 4, 1), ("conv_2", 4, 1), ("end", 8, 2), ("level.0", 8, 1), ("level.named", 8, 1),
    ]  # fmt: skip


def test_defaults_and_arguments_see_variables_but_not_the_caller(resolve, problems):
    text = (
        HEAD
        + """
vars: {base: 4}
defaults: {conv: {kernel_size: $base + 1}}
blocks:
  inner: {args: {n: $base * 2, m: $n + 1}, body: [{op: conv, out_channels: $m}]}
  outer: {args: {base2: int}, body: [{op: inner}]}
model: [{op: outer, base2: 3}]
"""
    )
    node = resolve(text).graph.nodes[0]
    assert node.output_shape.channels == 9 and node.op.kernel_size == (5, 5)
    assert "unknown variable $base2" in problems(text.replace("n: $base * 2", "n: $base2"))[0]


def test_positions_count_all_modules_of_a_level(resolve):
    resolved = resolve(
        HEAD
        + """
model:
  - id: features
    op: sequence
    body:
      - {id: position, op: conv}
      - relu
      - {op: sequence, body: [{id: position, op: conv}, relu]}
      - {id: position, op: sequence, body: [{id: position, op: conv}]}
      - {id: position, op: conv}
"""
    )
    assert paths(resolved) == [
        "features.0", "features.relu", "features.2", "features.relu_2", "features.4.0",
        "features.5",
    ]  # fmt: skip


def test_repeats_within_repeats_are_bounded(problems):
    text = (
        HEAD
        + """
blocks:
  a: {body: [{op: relu, repeat: 1000}]}
  b: {body: [{op: a, repeat: 1000}]}
model: [{op: b, repeat: 1000}]
"""
    )
    assert "the model has more than 50,000 ops" in problems(text)[0]


def chain(body: str, last: str, length: int) -> str:
    """Blocks b0, b1, ... of which each uses the next."""
    blocks = "".join(f"  b{i}: {body.replace('NEXT', f'b{i + 1}')}\n" for i in range(length))
    return f"{HEAD}blocks:\n{blocks}  b{length}: {last}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            chain("{body: [{op: residual, body: [{op: NEXT}]}]}", "{body: [relu]}", 40)
            + "model: [{op: b0}]",
            "ops are nested more than 30 levels deep",
        ),
        (
            chain("{body: [{op: NEXT}, {op: NEXT}]}", "{body: [relu]}", 20) + "model: [{op: b0}]",
            "the model has more than 50,000 ops",
        ),
        (
            chain(
                "{args: {x: any}, body: [{op: NEXT, x: [$x, $x]}]}",
                "{args: {x: any}, body: [{op: conv, kernel_size: $x}]}",
                25,
            )
            + "model: [{op: b0, x: [1, 1]}]",
            "variables expand to more than 200,000 values",
        ),
        (
            HEAD
            + "vars: {a0: [1, 1]"
            + "".join(f", a{i}: [$a{i - 1}, $a{i - 1}]" for i in range(1, 40))
            + "}\nmodel: [{op: conv, kernel_size: $a39}]",
            "variables expand to more than 200,000 values",
        ),
    ],
    ids=["depth", "ops", "arguments", "variables"],
)
def test_specs_that_grow_without_measure_are_refused_at_once(problems, text, message):
    started = time.process_time()  # others of this machine do not count
    found = problems(text)
    assert len(found) == 1 and message in found[0], found
    assert time.process_time() - started < 5


def test_a_model_at_the_deepest_nesting_can_be_written_out_and_read_again(resolve, write):
    body = "relu"
    for _ in range(29):
        body = f"{{op: residual, body: [{body}]}}"
    blocks = chain("{body: [{op: residual, body: [{op: NEXT}]}]}", "{body: [relu]}", 14)
    for text in (blocks + "model: [{op: b0}]", f"{HEAD}model: [{body}]"):
        resolved = resolve(text)
        assert load_spec(write(resolved.text, "again.yaml")).spec == resolved.spec


def test_unused_blocks_are_checked_too(problems):
    found = problems(
        HEAD
        + """
blocks:
  a: {args: {n: int}, body: [{op: cnov}, {op: conv, out_channels: $m}]}
  b: {bdy: [relu]}
  gelu: {body: [relu]}
  named: {args: {id: int}, body: [relu]}
  nameless: {body: [{id: a}]}
model: [relu]
"""
    )
    assert [problem.split("\n")[0] for problem in found] == [
        "spec.yaml:5:35: model: unknown op 'cnov'",
        "spec.yaml:5:42: a: unknown variable $m in block 'a'",
        "spec.yaml:6:7: blocks.b: unknown field 'bdy'",
        "spec.yaml:7:3: blocks.gelu: 'gelu' is an op already",
        "spec.yaml:8:18: blocks.named.args: an argument cannot be named 'id', as a field of every "
        "op is",
        "spec.yaml:9:21: model: an op is its name, or a mapping with `op`",
    ]
