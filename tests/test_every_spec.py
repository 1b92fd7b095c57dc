"""Every shipped spec: validates, builds without memory, and its shapes are the real ones."""

import io
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import torch
from PIL import Image

from nifbuild import build_model, load_spec
from nifbuild.ablate.cells import Store
from nifbuild.ablate.plan import make_plan
from nifbuild.ablate.search_plan import ends_plan
from nifbuild.spec.ablation import load_study
from nifbuild.spec.data_file import load_data_spec
from nifbuild.spec.recipe import load_recipe

ROOT = Path(__file__).parents[1] / "specs"
SPECS = sorted(ROOT.rglob("*.yaml"))
STUDIES = [path for path in SPECS if path.parent.name == "ablations"]
SEARCHES = [path for path in STUDIES if path.stem == "search"]
GRIDS = [path for path in STUDIES if path not in SEARCHES]
DATA = [path for path in SPECS if path.parent.name == "data"]
RECIPES = [path for path in SPECS if path.parent.name == "recipes"]
MODELS = [path for path in SPECS if path not in (*STUDIES, *DATA, *RECIPES)]
_LARGER = (
    "resnet101",
    "resnet152",
    "densenet169",
    "densenet201",
    "convnext_small",
    "convnext_base",
)
"""Of which a smaller one has the same ops and blocks, only fewer."""


def each_model(*slow_folders):
    """Parameters of a test of all models; what says little that is new is slow."""
    marked = []
    for path in MODELS:
        is_slow = path.stem.startswith(_LARGER) or path.parent.name in slow_folders
        name = str(path.relative_to(ROOT))
        marked.append(pytest.param(path, id=name, marks=[pytest.mark.slow] if is_slow else []))
    return pytest.mark.parametrize("path", marked)


def test_the_specs_are_found():
    assert len(MODELS) >= 14 and len(DATA) >= 4 and len(STUDIES) >= 6
    assert len(RECIPES) >= 4


@pytest.mark.parametrize("path", DATA, ids=lambda p: p.name)
def test_data_specs(path):
    data = load_data_spec(path)
    assert data is not None
    resolved = load_spec(ROOT / "architectures/resnet18.yaml", data=path)
    assert resolved.spec.data == data
    if data.known_num_classes is not None:
        assert resolved.graph.output_shape.channels == data.known_num_classes


@each_model()
def test_inferred_shapes_are_those_of_the_modules(path):
    """On the meta device, at the spec's own size, forward and backward."""
    resolved = load_spec(path)
    with torch.device("meta"):
        model = build_model(resolved)
    nodes = {node.path: node for node in resolved.graph.nodes}
    found = {}
    for name, module in model.named_modules():
        if name in nodes:

            def note(module, inputs, output, name=name):
                shapes = [tuple(x.shape) for x in (*inputs, output)]
                found[name] = ([s[1:] for s in shapes], {s[0] for s in shapes})

            module.register_forward_hook(note)
    shape = resolved.graph.input_shape
    outputs = of_all(model(torch.zeros(2, shape.channels, *shape.size, device="meta")))
    sum(output.sum() for output in outputs).backward()
    assert all(p.grad is not None and p.grad.shape == p.shape for p in model.parameters())
    scales = nodes.keys() - found.keys()
    # A layer scale is a parameter; that its output is right shows in the input of what follows.
    assert {nodes[name].op.op for name in scales} <= {"layer_scale"}
    assert scales <= dict(model.named_parameters()).keys()
    for name, (shapes, batches) in found.items():
        expected = (*nodes[name].input_shapes, nodes[name].output_shape)
        assert shapes == [(s.channels, *s.size) for s in expected], name
        assert batches == {2}, name


@each_model()
def test_the_spec_written_out_is_the_same_one(path, tmp_path):
    resolved = load_spec(path)
    copy = tmp_path / "copy.yaml"
    copy.write_text(resolved.text)
    again = load_spec(copy)
    assert again.spec == resolved.spec and again.text == resolved.text
    assert again.graph.nodes == resolved.graph.nodes


@each_model("paper", "everywhere")
def test_forward_and_backward_at_a_small_size(path):
    resolved = load_spec(path, overrides=["input.size=[32, 32]", "data=~"])
    model = build_model(resolved)
    outputs = of_all(model(torch.randn(2, 3, 32, 32)))
    sum(output.square().mean() for output in outputs).backward()
    gradients = [p.grad for p in model.parameters()]
    assert all(g is not None and g.isfinite().all() for g in gradients)


def of_all(outputs):
    """The output of a model, and those of its auxiliary heads."""
    return outputs if isinstance(outputs, tuple) else (outputs,)


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.name)
def test_recipes(path):
    recipe = load_recipe(path)
    assert recipe is not None and recipe.epochs >= 90


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


@pytest.mark.parametrize("path", GRIDS, ids=lambda p: p.name)
def test_studies_resolve_in_all_variants(path):
    study = load_study(path)
    assert len(study.variants) >= 4 and len(study.spec.seeds) >= 3 and study.reference
    assert len({variant.text(0) for variant in study.variants}) == len(study.variants)


def write_cifar10(path):
    """The file that `specs/data/cifar10_file.yaml` names, with few images."""
    with io.BytesIO() as file:
        Image.new("RGB", (32, 32)).save(file, "PNG")
        image = {"bytes": file.getvalue(), "path": None}
    table = pyarrow.table({"img": [image] * 1000, "label": [*range(10)] * 100})
    pyarrow.parquet.write_table(table, path)


@pytest.mark.parametrize(
    "path",
    [p if p.stem == "digits" else pytest.param(p, marks=pytest.mark.slow) for p in GRIDS],
    ids=lambda p: p.name,
)
def test_studies_are_planned(path, tmp_path, monkeypatch):
    """Every variant is inspected; no data is fetched for it."""
    monkeypatch.chdir(tmp_path)
    write_cifar10(tmp_path / "cifar10-train.parquet")
    plan = make_plan(load_study(path), Store(tmp_path))
    assert plan.exceeded == () and len(plan.remaining) == plan.cells
    assert all(row.costs.params > 1000 < row.costs.train_peak_bytes for row in plan.rows)


@pytest.mark.parametrize("path", SEARCHES, ids=lambda p: p.name)
def test_searches_work_at_all_ends_of_their_ranges(path, tmp_path):
    search = load_study(path).spec.search
    assert search is not None and search.trials >= 10 and len(search.space) >= 2
    plan = ends_plan(load_study(path), Store(tmp_path))
    assert plan.exceeded == () and len(plan.rows) >= 2
    assert len({row.variant.text(0) for row in plan.rows}) == len(plan.rows)
    assert all(row.train_images for row in plan.rows)  # there is a validation split, too
