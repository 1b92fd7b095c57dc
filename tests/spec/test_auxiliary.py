import pytest

from nifbuild.spec.resolve import load_text

HEAD = """
version: 1
name: twice
vars: {num_classes: 3}
input: {channels: 2, size: 8}
blocks:
  classifier: {body: [global_avg_pool, flatten, {id: fc, op: linear, out_features: $num_classes}]}
model:
  - {id: stem, op: sequence, body: [{id: conv, op: conv, out_channels: 4, kernel_size: 3}, relu]}
  - {id: deep, op: conv, out_channels: 6, kernel_size: 3}
  - classifier
"""
AUXILIARY = "auxiliary: {early: {from: stem, weight: 0.4, body: classifier}}\n"


def test_heads_are_nodes_after_those_of_the_model(resolve):
    graph = resolve(HEAD + AUXILIARY).graph
    paths = [node.path for node in graph.nodes]
    assert paths[-3:] == ["early.global_avg_pool", "early.flatten", "early.fc"]
    assert [node.path for node in graph.evaluated.nodes] == paths[:-3]
    assert graph.nodes[-3].inputs == (paths.index("stem.relu"),)
    assert [(head.name, head.output, head.weight) for head in graph.heads] == [
        ("early", len(paths) - 1, 0.4)
    ]
    assert str(graph.output_shape) == "3"


def test_written_out_it_says_the_same(resolve):
    resolved = resolve(HEAD + AUXILIARY)
    again = load_text(resolved.text, "written")
    assert again.text == resolved.text and again.graph == resolved.graph
    bare = resolved.without_auxiliary()
    assert load_text(bare.text, "bare").graph == resolved.graph.evaluated
    assert bare.text == resolve(HEAD).text  # a spec without heads says nothing of them
    assert bare.without_auxiliary() is bare


def test_patches_defaults_flags_and_classes_reach_heads(resolve):
    text = HEAD + "auxiliary: {early: {from: stem, weight: 0.4, body: [{op: conv}, classifier]}}\n"
    text += "defaults: {conv: {kernel_size: 5}}\n"
    text += "patch: [{match: early.conv, set: {kind: implicit_frequency}, expect: 1}]\n"
    resolved = resolve(text, overrides=["auxiliary.early.weight=0.1", "vars.num_classes=7"])
    (conv,) = [node.op for node in resolved.graph.nodes if node.path == "early.conv"]
    assert (conv.kind, conv.kernel_size) == ("implicit_frequency", (5, 5))
    assert resolved.graph.heads[0].weight == 0.1
    assert resolved.graph.nodes[-1].output_shape.channels == 7


def test_heads_may_be_changed_before_they_are_written_out(resolve):
    text = HEAD + AUXILIARY.replace("classifier", "[{id: top, op: classifier}]")
    text += "patch: [{match: early.top, insert: {before: relu}, expect: 1}]\n"
    paths = [node.path for node in resolve(text).graph.nodes]
    names = ("relu", "top.global_avg_pool", "top.flatten", "top.fc")
    assert paths[-4:] == [f"early.{name}" for name in names]


def test_an_extended_spec_may_do_without_them(resolve, write):
    write(HEAD + AUXILIARY, "base.yaml")
    assert resolve("extends: base.yaml\nauxiliary: null\n").graph.heads == ()
    assert (
        resolve("extends: base.yaml\nauxiliary: {early: {weight: 1}}\n").graph.heads[0].weight == 1
    )


WRONG = {
    "from: stem": (
        "from: steam",
        "early.from: no op has the id 'steam'",
        "did you mean 'stem'?",
    ),
    "weight: 0.4": ("weight: 0", "weight: expected a number above 0, got 0", ""),
    "body: classifier": (
        "body: [global_avg_pool, flatten]",
        "an auxiliary head gives what the model does, 3, and this one 4",
        "out_features: $num_classes",
    ),
    "classifier}}": ("clasifier}}", "unknown op 'clasifier'", "did you mean 'classifier'?"),
    "early:": ("deep:", "two modules are named 'deep'", "another id"),
    "{early: {from: stem, weight: 0.4, body: classifier}}": (
        "{early: {from: stem, body: classifier}}",
        "missing field `weight`",
        "What its loss is multiplied by",
    ),
    "weight: 0.4, body": (
        "weight: 1, wieght: 0.4, body",
        "unknown field 'wieght'",
        "did you mean 'weight'?",
    ),
}


@pytest.mark.parametrize("right", WRONG)
def test_mistakes(problems, right):
    wrong, what, fix = WRONG[right]
    found = "\n".join(problems(HEAD + AUXILIARY.replace(right, wrong)))
    assert "spec.yaml:12:" in found and what in found and fix in found


def test_an_op_that_only_a_head_takes_is_used(problems, resolve):
    """As its weights learn; without the head they would not."""
    side = "  - {id: side, op: conv, from: stem, out_channels: 4, kernel_size: 3}\n"
    text = HEAD.replace(
        "  - classifier\n", side + "  - {op: sequence, from: deep, body: classifier}\n"
    )
    assert "nothing takes the output" in problems(text)[0]
    resolve(text + AUXILIARY.replace("stem", "side"))
