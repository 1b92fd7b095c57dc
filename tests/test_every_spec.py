"""Every shipped spec: validates, builds without memory, and its shapes are the real ones."""

from pathlib import Path

import pytest
import torch

from nifbuild import build_model, load_spec
from nifbuild.spec.resolve import load_data_spec

ROOT = Path(__file__).parents[1] / "specs"
SPECS = sorted(ROOT.rglob("*.yaml"))
MODELS = [path for path in SPECS if path.parent.name != "data"]


def test_the_specs_are_found():
    assert len(MODELS) >= 3 and len(SPECS) - len(MODELS) >= 4


@pytest.mark.parametrize("path", [p for p in SPECS if p not in MODELS], ids=lambda p: p.name)
def test_data_specs(path):
    data = load_data_spec(path)
    assert data is not None
    resolved = load_spec(ROOT / "architectures/resnet18.yaml", data=path)
    assert resolved.spec.data == data
    if data.known_num_classes is not None:
        assert resolved.graph.output_shape.channels == data.known_num_classes


@pytest.mark.parametrize("path", MODELS, ids=lambda p: str(p.relative_to(ROOT)))
def test_shapes_of_all_nodes_are_those_of_the_modules(path):
    resolved = load_spec(path)
    with torch.device("meta"):
        model = build_model(resolved)
    found = {}
    for node in resolved.graph.nodes:

        def note(module, inputs, output, path=node.path):
            found[path] = tuple(output.shape)

        model.get_submodule(node.path).register_forward_hook(note)
    shape = resolved.graph.input_shape
    model(torch.zeros(2, shape.channels, *shape.size, device="meta"))
    for node in resolved.graph.nodes:
        expected = (2, node.output_shape.channels, *node.output_shape.size)
        assert found[node.path] == expected, node.path


@pytest.mark.parametrize("path", MODELS, ids=lambda p: str(p.relative_to(ROOT)))
def test_forward_and_backward_at_a_small_size(path):
    resolved = load_spec(path, overrides=["input.size=[32, 32]", "data=~"])
    model = build_model(resolved)
    logits = model(torch.randn(2, 3, 32, 32))
    logits.square().mean().backward()
    gradients = [p.grad for p in model.parameters()]
    assert all(g is not None and g.isfinite().all() for g in gradients)


def test_resnet18_is_the_usual_one():
    resolved = load_spec(ROOT / "architectures/resnet18.yaml")
    with torch.device("meta"):
        model = build_model(resolved)
    assert sum(p.numel() for p in model.parameters()) == 11_689_512
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    assert len(shapes) == 122
    assert shapes["layer1.0.conv1.weight"] == (64, 64, 3, 3)
    assert shapes["layer3.0.downsample.0.weight"] == (256, 128, 1, 1)
    assert shapes["layer3.0.downsample.1.running_var"] == (256,)
    assert shapes["layer4.1.bn2.num_batches_tracked"] == ()
    assert shapes["fc.bias"] == (1000,)


def test_resnet18_nif_differs_in_thirteen_filters():
    ordinary = load_spec(ROOT / "resnet18.yaml")
    implicit = load_spec(ROOT / "resnet18_nif.yaml")
    changed = [
        (a.path, b.op.kind)
        for a, b in zip(ordinary.graph.nodes, implicit.graph.nodes, strict=True)
        if a.op != b.op
    ]
    assert len(changed) == 13 and {kind for _, kind in changed} == {"implicit_frequency"}
    for node in implicit.graph.nodes:
        is_candidate = node.op.op == "conv" and node.path.startswith("layer")
        if is_candidate and (node.op.kernel_size, node.op.stride) == ((3, 3), (1, 1)):
            assert node.op.kind == "implicit_frequency"


def test_resnet18_against_the_paper_written_out():
    """The same network by hand, in the words of He et al., with the same weights."""
    from torch import nn
    from torch.nn import functional as F

    resolved = load_spec(ROOT / "architectures/resnet18.yaml", overrides=["vars.width=8"])
    torch.manual_seed(0)
    model = build_model(resolved).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    w = model.state_dict()

    def norm(x, name):
        return F.batch_norm(
            x, w[f"{name}.running_mean"], w[f"{name}.running_var"], w[f"{name}.weight"],
            w[f"{name}.bias"],
        )  # fmt: skip

    def unit(x, name, stride):
        y = F.relu(norm(F.conv2d(x, w[f"{name}.conv1.weight"], None, stride, 1), f"{name}.bn1"))
        y = norm(F.conv2d(y, w[f"{name}.conv2.weight"], None, 1, 1), f"{name}.bn2")
        if f"{name}.downsample.0.weight" in w:
            x = F.conv2d(x, w[f"{name}.downsample.0.weight"], None, stride)
            x = norm(x, f"{name}.downsample.1")
        return F.relu(x + y)

    x = torch.randn(2, 3, 64, 64)
    y = F.max_pool2d(F.relu(norm(F.conv2d(x, w["conv1.weight"], None, 2, 3), "bn1")), 3, 2, 1)
    for stage in range(1, 5):
        y = unit(y, f"layer{stage}.0", 1 if stage == 1 else 2)
        y = unit(y, f"layer{stage}.1", 1)
    logits = y.mean((2, 3)) @ w["fc.weight"].T + w["fc.bias"]
    with torch.no_grad():
        torch.testing.assert_close(model(x), logits)
