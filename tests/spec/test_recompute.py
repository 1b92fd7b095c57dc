import pytest

from nifbuild.spec.recompute import recomputed_blocks

MODEL = """
version: 1
input: {channels: 4, size: 8}
blocks:
  unit: {body: [{op: residual, body: [{id: conv, op: conv}, {id: bn, op: batch_norm}]}]}
model:
  - {id: stem, op: conv}
  - {id: layer1, op: unit, repeat: 2}
  - {id: layer2, op: unit, repeat: 2}
train:
  gradient_checkpointing: SELECTORS
"""


@pytest.mark.parametrize(
    ("selectors", "found"),
    [
        ("[layer1.*]", {"layer1.0", "layer1.1"}),
        ("[layer2, '*.1']", {"layer1.1", "layer2"}),
        ("['**']", {"layer1", "layer2"}),
        ("[]", set()),
    ],
)
def test_blocks_are_selected_the_outermost_first(resolve, selectors, found):
    resolved = resolve(MODEL.replace("SELECTORS", selectors))
    selected = resolved.spec.train.gradient_checkpointing
    assert recomputed_blocks(resolved.graph, selected) == found


def test_selectors_that_select_nothing(problems):
    listed = "blocks of the model: layer1, layer1.0, layer1.1, layer2, layer2.0, layer2.1"
    where = "train.gradient_checkpointing"
    text = MODEL.replace("SELECTORS", "[layer1.2, layer1, stem, nothing]")
    assert problems(text) == [
        f"spec.yaml:11:28: {where}: 'layer1.2' selects no block of the model\n"
        "  did you mean 'layer1.1' or 'layer1.0'?",
        f"spec.yaml:11:46: {where}: 'stem' selects no block of the model, but the layer stem\n"
        f"  what is computed again is a block of several layers\n  {listed}",
        f"spec.yaml:11:52: {where}: 'nothing' selects no block of the model\n  {listed}",
    ]


def test_a_model_without_blocks(problems):
    head = "version: 1\ninput: {channels: 4, size: 8}\nmodel: [{op: conv}]\n"
    (problem,) = problems(head + "train: {gradient_checkpointing: ['*.*']}")
    assert "the model has no blocks: give structures an id" in problem
