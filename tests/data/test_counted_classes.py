"""Classes of folders are counted before anything is opened, and told as training tells them."""

import pytest
from PIL import Image

from nifbuild.data.counted_classes import load_counted
from nifbuild.errors import NifbuildError
from nifbuild.runs.opened_data import open_for
from nifbuild.spec.resolve import load_spec

SPEC = """\
version: 1
vars: {num_classes: 7}
input: {size: 8}
model:
  - global_avg_pool
  - flatten
  - {id: fc, op: linear, out_features: $num_classes}
"""


@pytest.fixture
def spec(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for split in (
        "photos/cat",
        "photos/dog",
        "parts/train/ant",
        "parts/train/bee",
        "parts/val/ant",
    ):
        (tmp_path / split).mkdir(parents=True)
        for number in range(4):
            Image.new("RGB", (9, 9)).save(tmp_path / split / f"{number}.png")
    (tmp_path / "parts/train/wasp").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "parts/train/wasp/0.png")
    path = tmp_path / "spec.yaml"
    path.write_text(SPEC)
    return path


@pytest.mark.parametrize(("folder", "classes"), [("photos", 2), ("parts", 3)])
def test_the_model_is_that_which_is_trained(spec, folder, classes):
    counted = load_counted(spec, data=folder)
    assert counted.graph.output_shape.channels == classes
    _, trained = open_for(load_spec(spec, data=folder))
    assert counted.text == trained.text


@pytest.mark.parametrize(
    ("folder", "overrides", "told"),
    [
        ("photos", ["vars.num_classes=5"], "num_classes is 5, and the data has 2 classes"),
        ("photos", ["data.num_classes=5"], "the data has 2 classes (cat, dog), not 5"),
        (
            "photos",
            ["model.2.out_features=$num_classes + 3"],
            "gives 5 outputs, and the data has 2 classes",
        ),
        ("photos/cat", [], "'photos/cat' has no class folders"),
        ("parts/val", [], "the data has only one class, 'ant'"),
    ],
)
def test_what_does_not_suit_is_told_as_training_tells_it(spec, folder, overrides, told):
    with pytest.raises(NifbuildError) as before:
        load_counted(spec, data=folder, overrides=overrides)
    with pytest.raises(NifbuildError) as training:
        resolved = load_spec(spec, data=folder, overrides=overrides)
        with resolved.placing():
            open_for(resolved)
    assert told in str(before.value) and before.value.problems == training.value.problems


def test_a_folder_that_is_elsewhere_is_no_error(spec):
    spec.write_text(SPEC + "data: {source: imagefolder, path: far_away}\n")
    assert load_counted(spec).graph.output_shape.channels == 7


@pytest.mark.parametrize("command", ["validate", "inspect", "resolve"])
def test_commands_count(spec, cli, command):
    done = cli(command, str(spec), "--data", "parts")
    assert done.exit_code == 0
    shown = {"validate": "-> 3\n", "inspect": "linear", "resolve": "out_features: 3"}[command]
    assert shown in done.stdout
    conflict = cli(command, str(spec), "--data", "parts", "--set", "vars.num_classes=4")
    assert conflict.exit_code == 2
    assert "num_classes is 4, and the data has 3 classes\n  set it to 3" in conflict.stderr


def test_a_class_without_images_is_told_as_training_tells_it(spec, tmp_path):
    (tmp_path / "photos/elk").mkdir()
    told = []
    for look in (
        lambda: load_counted(spec, data="photos"),
        lambda: open_for(load_spec(spec, data="photos")),
    ):
        with pytest.raises(NifbuildError) as caught:
            look()
        told.append(caught.value.problems[0].what)
    assert told == ["the class folder 'photos/elk' has no image"] * 2
