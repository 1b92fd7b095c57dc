"""Recipes: ways to train that any architecture can extend."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from nifbuild.cli.app import app
from nifbuild.errors import SpecError
from nifbuild.spec.optimizers import AdamW, Sgd
from nifbuild.spec.recipe import load_recipe
from nifbuild.spec.resolve import load_spec
from nifbuild.spec.schedules import Cosine, Step
from nifbuild.spec.shipped import shipped_folder, shipped_names

RECIPES = [name for name in shipped_names() if name.startswith("recipes/")]


def extended(folder: Path, *names: str, overrides: tuple[str, ...] = ()):
    path = folder / "mine.yaml"
    path.write_text(f"extends: [{', '.join(f'nifbuild:{name}' for name in names)}]\n")
    return load_spec(path, overrides=overrides).spec


@pytest.mark.parametrize("architecture", ["resnet18", "resnet50", "convnext_tiny"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_any_architecture_extends_any_recipe(tmp_path, architecture, recipe):
    names = (f"architectures/{architecture}", "data/imagenet", recipe)
    plain = extended(tmp_path, *names[:2])
    spec = extended(tmp_path, *names)
    assert load_recipe(f"nifbuild:{recipe}") == spec.train != plain.train
    assert spec.model == plain.model
    assert (spec.data.source, spec.data.id) == ("hub", "ILSVRC/imagenet-1k")


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_rate_is_in_proportion_to_the_batch(tmp_path, recipe):
    names = ("architectures/resnet18", "data/imagenet", recipe)
    one = extended(tmp_path, *names).train
    double = f"vars.batch_size={2 * one.batch_size}"
    two = extended(tmp_path, *names, overrides=(double,)).train
    assert two.batch_size == 2 * one.batch_size
    assert two.optimizer.lr == pytest.approx(2 * one.optimizer.lr)
    assert two.optimizer.weight_decay == one.optimizer.weight_decay


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_says_where_it_comes_from_and_what_it_aims_at(recipe):
    text = (shipped_folder() / f"{recipe}.yaml").read_text()
    head = text.partition("\nvars:")[0]
    for words in ("# Source: ", "# Published top-1 with it: ", " %", f"nifbuild:{recipe}]"):
        assert words in head


def test_torchvisions_reference():
    """As its README has it, and the defaults of its train.py; 8 GPUs of 32 images."""
    spec = load_spec("nifbuild:resnet18_imagenet").spec
    assert (spec.train.epochs, spec.train.batch_size, spec.train.label_smoothing) == (90, 256, 0)
    sgd = spec.train.optimizer
    assert isinstance(sgd, Sgd)
    assert (sgd.lr, sgd.momentum, sgd.nesterov, sgd.weight_decay) == (0.1, 0.9, False, 1e-4)
    assert spec.train.schedule == Step(name="step", at_epochs=(30, 60), factor=0.1, warmup_epochs=0)
    data = spec.data
    assert data is not None
    assert (data.size, data.crop_share, data.interpolation) == ((224, 224), 0.875, "bilinear")
    assert data.augment.resized_crop is not None
    assert data.augment.resized_crop.scale == (0.08, 1)
    assert (data.augment.flip, data.augment.randaugment, data.augment.blends) == (0.5, None, False)


def test_the_modern_ones(tmp_path):
    names = ("architectures/resnet50", "data/imagenet")
    sgd = extended(tmp_path, *names, "recipes/imagenet_modern")
    assert isinstance(sgd.train.optimizer, Sgd) and isinstance(sgd.train.schedule, Cosine)
    assert round(224 / sgd.data.crop_share) == 232
    adamw = extended(tmp_path, *names, "recipes/imagenet_adamw")
    assert isinstance(adamw.train.optimizer, AdamW)
    assert (adamw.train.optimizer.lr, adamw.train.optimizer.weight_decay) == (4e-3, 0.05)
    for spec in (sgd, adamw):
        augment = spec.data.augment
        assert augment.randaugment and augment.mixup and augment.cutmix and augment.erasing
        assert spec.train.ema and spec.train.label_smoothing == 0.1


def test_what_is_wrong_in_a_recipe_is_found_where_it_stands(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("train:\n  epoch: 9\ndata:\n  augment: {flip: 3}\n")
    with pytest.raises(SpecError) as caught:
        load_recipe(path)
    found = [str(problem).splitlines()[0] for problem in caught.value.problems]
    assert found == [
        f"{path}:2:3: train.epoch: unknown field 'epoch'",
        f"{path}:4:19: data.augment.flip: expected at most 1, got 3",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "train: {epochs: 3}\nmodel: [relu]",
        "train: {epochs: 3}\ndata: {source: digits}",
        "data: {augment: {flip: 0.5}}",
        "name: x",
    ],
)
def test_other_files_are_no_recipes(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    assert load_recipe(path) is None


def test_recipes_are_validated_and_listed(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("train: {epochs: 9}\n")
    done = CliRunner().invoke(app, ["validate", str(path)])
    assert (done.exit_code, done.stdout) == (0, f"{path}: ok, a recipe of 9 epochs\n")
    listed = CliRunner().invoke(app, ["specs"]).stdout
    assert all(recipe in listed for recipe in RECIPES)


@pytest.mark.parametrize(
    ("name", "what", "use"),
    [
        (RECIPES[0], "this is a recipe for training, without a model", "extends: ["),
        ("data/cifar10", "this describes data, without a model", "nifbuild train SPEC --data "),
    ],
)
def test_what_only_goes_with_a_spec_is_none(name, what, use):
    """A flag beside it changes nothing."""
    for overrides in ((), ("train.epochs=1",)):
        with pytest.raises(SpecError) as caught:
            load_spec(f"nifbuild:{name}", overrides=overrides)
        (problem,) = caught.value.problems
        assert problem.what == what and use in problem.fix and f"{name}.yaml" in problem.fix


def test_a_list_without_brackets():
    with pytest.raises(SpecError, match=r"\$depths is not a list, which is written \[3,4,6,3\]"):
        load_spec("nifbuild:resnet18", overrides=["vars.depths=3,4,6,3"])


def test_a_list_that_a_flag_makes_too_short():
    """What is wrong is in no file: the flag is named beside the line that uses it."""
    with pytest.raises(SpecError, match=r"no \[2\] \(--set vars.depths=\[3,4\]\)"):
        load_spec("nifbuild:resnet18", overrides=["vars.depths=[3,4]"])
