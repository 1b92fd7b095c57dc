"""Patches, what the data knows, and the canonical text."""

import pytest

from nifbuild.errors import Problem, SpecError
from nifbuild.spec.resolve import load_spec

NET = """
version: 1
vars: {width: 4, num_classes: 1000}
input: {channels: 3, size: 16}
model:
  - {id: stem, op: conv, out_channels: $width}
  - id: block
    op: residual
    then: relu
    body:
      - {id: conv1, op: conv, out_channels: $width * 2, stride: 2}
      - {id: norm, op: group_norm, num_groups: 2}
      - {id: conv2, op: conv, out_channels: $width * 2, kernel_size: [3, 5]}
  - global_avg_pool
  - flatten
  - {id: head, op: linear, out_features: $num_classes}
"""


def ops(resolved):
    return {node.path: node.op for node in resolved.graph.nodes}


@pytest.mark.parametrize(
    ("selector", "found"),
    [
        ("match: stem", ["stem"]),
        (
            "match: '**', where: {op: conv}",
            ["stem", "block.conv1", "block.conv2", "block.downsample.0"],
        ),
        ("where: {op: conv, kernel_size: 3}", ["stem", "block.conv1"]),
        ("where: {op: conv, kernel_size: [3, 3], stride: 2}", ["block.conv1"]),
        ("where: {kernel_size: [3, 5]}", ["block.conv2"]),
        ("where: {in_channels: 8, op: conv}", ["block.conv2"]),
        ("where: {out_channels: 8, kernel_size: 1}", ["block.downsample.0"]),
        ("match: block.conv*", ["block.conv1", "block.conv2"]),
        ("match: '*.conv?'", ["block.conv1", "block.conv2"]),
        ("match: '**.0'", ["block.downsample.0"]),
    ],
)
def test_selectors(resolve, selector, found):
    text = (
        f"{NET}\npatch: [{{{selector}, set: {{padding_mode: circular}}, expect: {len(found)}}}]\n"
    )
    changed = ops(resolve(text))
    assert [
        p for p, op in changed.items() if getattr(op, "padding_mode", "") == "circular"
    ] == found


def test_depthwise_is_as_many_groups_as_channels(resolve):
    resolved = resolve("""
    version: 1
    input: {channels: 1, size: [8, 8]}
    model:
      - {id: one, op: conv, out_channels: 8}
      - {id: word, op: conv, groups: depthwise}
      - {id: number, op: conv, groups: 8}
      - {id: few, op: conv, groups: 4}
    patch:
      - {where: {op: conv, groups: depthwise}, set: {padding_mode: circular}, expect: 2}
      - {where: {op: conv, groups: 8}, set: {bias: false}, expect: 2}
      - {where: {op: conv, groups: 4}, set: {bias: false}, expect: 1}
    """)
    found = [p for p, op in ops(resolved).items() if op.padding_mode == "circular"]
    assert found == ["word", "number"]
    assert [p for p, op in ops(resolved).items() if not op.bias] == ["word", "number", "few"]


def test_patches_apply_in_order_and_see_earlier_ones(resolve):
    resolved = resolve(
        NET
        + """
patch:
  - {match: stem, set: {stride: 2}}
  - {where: {op: conv, stride: 2}, set: {kind: implicit_frequency, hidden: [$width]}, expect: 3}
  - {match: stem, set: {kind: standard}}
"""
    )
    found = ops(resolved)
    assert found["stem"].kind == "standard" and not hasattr(found["stem"], "hidden")
    assert found["block.conv1"].hidden == (4,)
    assert found["block.downsample.0"].kind == "implicit_frequency"
    assert found["block.downsample.1"].op == "group_norm"


def test_a_patch_may_replace_the_op(resolve):
    found = ops(resolve(f"{NET}\npatch: [{{match: block.conv2, set: {{op: identity}}}}]"))
    assert found["block.conv2"].op == "identity"


@pytest.mark.parametrize(
    ("patch", "message"),
    [
        (
            "{match: stem, set: {bias: false}, expect: 2}",
            "18:47: patch: the patch is for 2 ops and ",
        ),
        ("{match: stemm, set: {bias: false}}", "did you mean 'stem'?"),
        ("{match: stem, where: {stride: 2}, set: {bias: false}}", "none agrees with `where`: stem"),
        ("{match: stem, where: {strid: 2}, set: {bias: false}}", "no op has a field 'strid'"),
        ("{match: stem, set: {bais: false}}", "18:25: model[0].bais: unknown field 'bais'"),
        ("{match: stem, set: {kind: implicit_frequency, rank: 2}}", "no meaning with separable"),
        ("{match: stem, set: {}}", "patch[0].set: expected at least 1 entries"),
        ("{match: stem, sett: {bias: false}}", "did you mean 'set'?"),
        ("{match: stem, set: {bias: $x}}", "unknown variable $x"),
    ],
)
def test_bad_patches(problems, patch, message):
    found = problems(f"{NET}\npatch:\n  - {patch}\n".lstrip("\n"))
    assert any(part in problem for part in message.split("|") for problem in found), found


def test_data_sets_the_number_of_classes_and_the_size(resolve, write):
    data = write("data: {source: digits, size: [8, 8]}", "data.yaml")
    resolved = resolve(NET, data=data)
    assert resolved.graph.output_shape.channels == 10
    assert resolved.graph.input_shape.size == (8, 8)
    assert resolved.spec.input.size == (8, 8)


def test_classes_found_when_the_data_is_opened(resolve, write):
    data = write("data: {source: imagefolder, path: images}", "data.yaml")
    resolved = resolve(NET, data=data)
    assert resolved.graph.output_shape.channels == 1000
    assert resolved.adopt(7).graph.output_shape.channels == 7


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (
            NET,
            {"overrides": ["data.source=digits", "vars.num_classes=9"]},
            "num_classes is 9, and the data has 10 classes",
        ),
        (
            NET + "data: {source: digits, num_classes: 7}",
            {},
            "data.num_classes: the data has 10 classes, not 7\n  write `num_classes: 10`, or leave",
        ),
        (
            # Which of the two is wrong is not known before the data is opened.
            NET + "data: {source: imagefolder, path: images, num_classes: 7}",
            {},
            "spec.yaml:16:56: data.num_classes: num_classes is 1000 under vars (",
        ),
        (
            NET.replace("$num_classes", "7").replace(", num_classes: 1000", "")
            + "data: {source: digits}",
            {},
            "spec.yaml:15:5: head: the model gives 7 outputs, and the data has 10 classes",
        ),
        (
            NET.replace(", num_classes: 1000", "")
            .replace("$num_classes", "10")
            + "data: {source: digits, size: [8, 8]}",
            {},
            "input.size is 16, and the data wants [8, 8]",
        ),
        (
            "version: 1\nmodel: [relu]\ndata: {source: digits}",
            {},
            "the model ends in an image of 3x224x224, and classes need a vector",
        ),
    ],
)  # fmt: skip
def test_conflicts_with_the_data(problems, text, options, message):
    found = problems(text.lstrip("\n"), **options)
    assert any(message in problem for problem in found), found


def test_canonical_text_loads_to_the_same_spec(resolve, write):
    resolved = resolve(
        NET.replace("1000", "10")
        + "\nname: '1e5'\ndata: {source: digits, test: 0.25}\ntrain: {epochs: 3}"
    )
    again = load_spec(write(resolved.text, "again.yaml"))
    assert again.spec == resolved.spec and again.text == resolved.text
    assert again.name == "1e5"
    assert [n.path for n in again.graph.nodes] == [n.path for n in resolved.graph.nodes]


def test_name_defaults_to_the_file(resolve):
    assert resolve(NET).name == "spec"


def test_flags_are_checked_like_the_file(problems):
    found = problems(NET, overrides=["train.epochs=many", "train.optimiser.lr=1"])
    assert 'train.epochs: expected a whole number, got "many"' in found[0]
    assert found[0].startswith("--set train.epochs=many: ")
    assert any("did you mean 'optimizer'?" in problem for problem in found)


def test_errors_found_later_get_the_place_of_the_value_they_name(resolve):
    resolved = resolve(NET.lstrip("\n") + "train: {batch_size: 512}\n")
    with pytest.raises(SpecError) as caught, resolved.placing():
        raise SpecError(
            [Problem("too large", path="train.batch_size"), Problem("odd", path="elsewhere")]
        )
    first, second = caught.value.problems
    assert str(first).endswith("spec.yaml:16:21: train.batch_size: too large")
    assert second.where is None
