"""Patches of structure: what stands in the model afterwards, and what is said where they are wrong.

The expected networks are written out by hand, as a second spec.
"""

import pytest

from nifbuild.spec.resolve import load_spec

NET = """
version: 1
vars: {width: 4}
input: {channels: 3, size: 8}
defaults: {conv: {bias: false}}
blocks:
  gate:
    args: {hidden: 2}
    body:
      op: multiply
      branches:
        - identity
        - [global_avg_pool, {id: fc, op: conv, out_channels: $hidden, kernel_size: 1}]
  unit:
    args: {out_channels: int, stride: 1}
    body:
      - op: residual
        then: relu
        body:
          - {id: conv1, op: conv, out_channels: $out_channels, stride: $stride}
          - relu
          - {id: conv2, op: conv, out_channels: $out_channels}
model:
  - {id: stem, op: conv, out_channels: $width}
  - {id: layer1, op: unit, repeat: 2, out_channels: $width}
  - {id: layer2, op: unit, repeat: 2, out_channels: $width * 2, first: {stride: 2}}
  - global_avg_pool
  - {op: conv, kernel_size: 1, repeat: 2}
"""


def patched(*patches: str) -> str:
    return NET + "patch:\n" + "".join(f"  - {patch}\n" for patch in patches)


def modules(resolved):
    return {node.path: node for node in resolved.graph.nodes}


def changes(resolve, *patches: str) -> tuple[list[str], list[str]]:
    """The modules that patches take away, and those that they add."""
    before, after = modules(resolve(NET)), modules(resolve(patched(*patches)))
    return [p for p in before if p not in after], [p for p in after if p not in before]


def test_a_stage_is_repeated_more_often(resolve):
    taken, added = changes(resolve, "{match: layer1, set: {repeat: 3}, expect: 1}")
    assert taken == []
    assert added == [f"layer1.2.{n}" for n in ("conv1", "relu", "conv2", "add", "relu_2")]
    assert changes(resolve, "{match: layer2, set: {repeat: 1}}")[0][0] == "layer2.1.conv1"


def test_arguments_of_blocks_and_of_single_repetitions(resolve):
    found = modules(resolve(patched("{match: layer2, set: {out_channels: $width * 4}}")))
    assert str(found["layer2.1.add"].output_shape) == "16x4x4"
    found = modules(
        resolve(
            patched(
                "{match: layer1.1, set: {stride: 2}}",
                "{match: layer*.0, set: {op: gate, hidden: 1}}",
            )
        )
    )
    assert str(found["layer1.1.add"].output_shape) == "4x4x4"
    assert "layer1.0.multiply" in found and "layer1.0.conv1" not in found


def test_a_patch_of_modules_that_also_fits_levels_stays_one_of_modules(resolve):
    found = modules(resolve(patched("{match: '**', where: {op: conv}, set: {bias: true}}")))
    convs = [node.op.bias for node in found.values() if node.op.op == "conv"]
    assert len(convs) == 12 and all(convs)


def test_a_body_of_one_call_with_its_arguments(resolve):
    text = "{match: layer2.0, set: {body: {id: only, op: conv, out_channels: $out_channels}}}"
    found = modules(resolve(patched(text)))
    assert "layer2.0.only" in found and "layer2.0.conv1" not in found
    assert "layer2.1.conv1" in found and found["layer2.0.only"].output_shape.channels == 8
    every = modules(resolve(patched("{match: layer1, set: {body: [relu]}}")))
    assert [p for p in every if p.startswith("layer1")] == ["layer1.0.relu", "layer1.1.relu"]


def test_fields_of_structures_without_an_id(resolve):
    found = modules(resolve(patched("{match: layer*.*.residual, set: {then: gelu}, expect: 4}")))
    assert {"layer1.0.gelu", "layer2.1.gelu"} <= found.keys() and "layer1.0.relu_2" not in found


def test_insert_puts_ops_beside_all_that_is_found_and_they_see_its_variables(resolve):
    gate = "{id: gate, op: gate, hidden: $out_channels}"
    text = f"{{match: layer*.*.conv2, insert: {{after: {gate}}}, expect: 4}}"
    found = modules(resolve(patched(text)))
    order = [p for p in found if p.startswith("layer2.0")]
    assert order[2:4] == ["layer2.0.conv2", "layer2.0.gate.identity"]
    assert found["layer2.0.gate.fc"].output_shape.channels == 8
    loop = "[{id: n$i, op: batch_norm, repeat: 2, index: i}]"
    both = f"{{match: stem, insert: {{before: relu, after: {loop}}}}}"
    assert list(modules(resolve(patched(both))))[:4] == ["relu", "stem", "n0", "n1"]


def test_replace_and_delete(resolve):
    text = "{match: layer2, replace: {id: layer2, op: gate, hidden: 4}}"
    found = modules(resolve(patched(text)))
    assert [p.removeprefix("layer2.") for p in found if p.startswith("layer2")] == [
        "identity", "global_avg_pool", "fc", "multiply",
    ]  # fmt: skip
    taken, added = changes(resolve, "{match: layer2, delete: true}")
    assert added == [] and all(path.startswith("layer2") for path in taken) and len(taken) == 11
    taken, added = changes(resolve, "{match: layer1.0.relu, delete: true}")
    assert (taken, added) == (["layer1.0.relu_2"], [])  # the other one is the first now


def test_patches_of_structure_follow_one_another_and_then_those_of_modules(resolve):
    """A patch finds what one before it puts there, and none finds what it puts there itself."""
    found = modules(
        resolve(
            patched(
                "{match: '**', where: {op: conv}, set: {padding_mode: circular}, expect: 21}",
                "{match: stem, insert: {after: {id: layer0, op: unit, out_channels: 4}}}",
                "{match: layer0, set: {repeat: 2}, expect: 1}",
                "{match: layer1, set: {repeat: 4}}",
                "{match: layer1.*, insert: {after: relu}, expect: 4}",
                "{match: layer0.*.conv1, set: {out_channels: 3, kernel_size: 5}, expect: 2}",
                "{match: layer0.1.conv2, replace: {id: conv2, op: unit, out_channels: 4}}",
            )
        )
    )
    assert found["layer0.1.conv1"].op.kernel_size == (5, 5)
    assert {"layer1.3.conv1", "layer1.relu_4", "layer0.1.conv2.conv1"} - found.keys() == set()


def test_positions_are_counted_as_the_modules_will_be(resolve):
    text = """
version: 1
input: {channels: 3, size: 8}
blocks:
  pair: {args: {n: 3}, body: [{id: position, op: conv, out_channels: $n}, {id: position, op: relu}]}
model:
  - id: features
    op: sequence
    body:
      - {id: position, op: conv}
      - {op: pair}
      - {id: position, op: pair, repeat: 2, index: i, n: $i + 4}
      - {id: position, op: pair}
patch:
  - {match: features.3, set: {n: 7}, expect: 1}
  - {match: features.*.1, where: {op: relu}, delete: true, expect: 3}
"""
    found = modules(resolve(text))
    assert [*found] == ["features.0", "features.1", "features.2"] + [
        f"features.{n}.0" for n in (3, 4, 5)
    ]
    assert [n.output_shape.channels for n in found.values()][3:] == [7, 5, 3]


def test_a_spec_that_extends_a_patched_one_and_the_text_written_out(resolve, write):
    write(
        patched("{match: layer1.*.conv2, insert: {after: {id: bn, op: batch_norm}}}"), "base.yaml"
    )
    resolved = resolve(
        """
extends: base.yaml
patch:
  - {match: layer1, set: {repeat: 3}}
  - {match: layer1.*.bn, set: {eps: 0.5}, expect: 3}
"""
    )
    assert modules(resolved)["layer1.2.bn"].op.eps == 0.5
    again = load_spec(write(resolved.text, "again.yaml"))
    assert again.spec == resolved.spec and "patch" not in resolved.text


@pytest.mark.parametrize(
    ("patch", "message"),
    [
        ("{match: layer1, set: {repeat: 0}}", "30:35: repeat: repeat is a whole number of at"),
        (
            "{match: layer*, set: {repeat: 3}, expect: 3}",
            "30:47: patch: the patch is for 3 ops and finds 2\n  found: layer1, layer2",
        ),
        ("{match: layr1, set: {repeat: 3}}", "did you mean 'layer1'?"),
        ("{match: layr1, set: {stride: 2}}", "did you mean 'layer1'"),
        (
            "{match: layer1, where: {op: gate}, delete: true}",
            "`match` finds 1 ops, but none agrees with `where`: layer1",
        ),
        ("{match: layer1, set: {chanels: 3}}", "30:27: chanels: block 'unit' has no argument"),
        ("{match: layer1, set: {op: untt}}", "30:31: model: unknown op 'untt'\n  did you mean"),
        ("{match: layer1, insert: {after: [{op: cnov}]}}", "30:43: model: unknown op 'cnov'"),
        ("{match: layer1, insert: {after: []}}", "30:37: patch: no ops here"),
        ("{match: layer1, insert: {}}", "patch[0].insert: insert has neither `before` nor `after`"),
        ("{match: layer1, insert: {afer: relu}}", "patch[0].insert.afer: unknown field 'afer'"),
        ("{match: layer1, set: {repeat: 2}, delete: true}", "this one says set and delete"),
        ("{match: layer1}", "patch[0]: a patch says one of set, insert, replace, delete; this one"),
        ("{match: layer1, delete: 3}", "patch[0].delete: expected true or false, got 3"),
        ("{match: layer1, set: {body: [{op: conv, out_channels: $m}]}}", "unknown variable $m"),
        ("{match: layer1, set: {stride: $m}}", "30:35: unknown variable $m"),
        ("{match: stem, set: {bias: $m}}", "30:31: unknown variable $m"),
        ("{match: '**', delete: true}", "no ops here"),
    ],
)
def test_what_is_wrong_is_said_at_the_patch(problems, patch, message):
    found = problems(patched(patch))
    assert any(message in problem for problem in found), found
    assert all(problem.startswith("spec.yaml:") for problem in found)


@pytest.mark.parametrize(
    "three_lines",
    [
        "vars: {depths: [3, 4, 6, 3]}\npatch:\n",
        "patch:\n"
        + "".join(f"  - {{match: layer{n}, set: {{repeat: {d}}}}}\n" for n, d in [(1, 3), (2, 4)])
        + "  - {match: layer3, set: {repeat: 6}}\n  - {match: layer4, set: {repeat: 3}}\n",
    ],
    ids=["by its variable", "by patches"],
)
def test_resnet34_with_implicit_filters_from_the_shipped_resnet18(resolve, three_lines):
    """He et al., arXiv 1512.03385, table 1: 3, 4, 6 and 3 blocks of two 3x3 convolutions."""
    patch = "{match: layer*.*.conv*, where: {kernel_size: 3, stride: 1}, "
    patch += "set: {kind: implicit_frequency}, expect: 29}"
    text = f"extends: nifbuild:architectures/resnet18\n{three_lines}  - {patch}\n"
    found = modules(resolve(text))
    convs = {path: node.op for path, node in found.items() if ".conv" in path}
    assert len(convs) == 32 and "layer3.5.conv2" in convs and "layer3.6.conv1" not in convs
    strided = [path for path, op in convs.items() if op.kind == "standard"]
    assert strided == ["layer2.0.conv1", "layer3.0.conv1", "layer4.0.conv1"]
