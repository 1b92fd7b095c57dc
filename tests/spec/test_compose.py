import pytest

from nifbuild.errors import SpecError
from nifbuild.spec.compose import compose
from nifbuild.spec.source import plain

BASE = """
version: 1
vars: {width: 64, classes: 10}
blocks:
  basic: {args: {out: int}, body: [relu]}
data: {source: imagefolder, path: images, test: 0.5}
train: {epochs: 3, optimizer: {name: adamw, lr: 0.1, eps: 1e-9}}
model: [relu, {op: linear, out_features: $classes}]
patch: [{match: a, set: {x: 1}}]
"""


def test_merging(write):
    write(BASE, "base/base.yaml")
    path = write(
        """
        extends: base/base.yaml
        vars: {width: 32}
        blocks: {basic: {body: [gelu]}}
        data: {source: digits}
        train: {optimizer: {name: sgd, lr: 1}, epochs: 4}
        patch: [{match: b, set: {x: 2}}]
        """
    )
    assert plain(compose(path)) == {
        "version": 1,
        "vars": {"width": 32, "classes": 10},
        "blocks": {"basic": {"body": ["gelu"]}},
        "data": {"source": "digits"},
        "train": {"epochs": 4, "optimizer": {"name": "sgd", "lr": 1}},
        "model": ["relu", {"op": "linear", "out_features": "$classes"}],
        "patch": [{"match": "a", "set": {"x": 1}}, {"match": "b", "set": {"x": 2}}],
    }


def test_same_source_and_optimizer_merge(write):
    write(BASE, "base.yaml")
    path = write(
        "extends: base.yaml\ndata: {test: 0.1}\ntrain: {optimizer: {name: adamw, lr: 0.2}}\n"
    )
    merged = plain(compose(path))
    assert merged["data"] == {"source": "imagefolder", "path": "images", "test": 0.1}
    assert merged["train"]["optimizer"] == {"name": "adamw", "lr": 0.2, "eps": 1e-9}


def test_several_bases_the_later_wins(write):
    write("vars: {a: 1, b: 1}", "one.yaml")
    write("vars: {b: 2, c: 2}", "two.yaml")
    path = write("extends: [one.yaml, two.yaml]\nvars: {c: 3}\n")
    assert plain(compose(path)) == {"vars": {"a": 1, "b": 2, "c": 3}}


def test_places_survive_merging(write):
    write(BASE, "base.yaml")
    path = write("extends: base.yaml\ntrain: {epochs: 9}\n")
    train = compose(path).entries["train"]
    assert train.entries["epochs"].mark.file == str(path)
    assert train.entries["optimizer"].mark.file.endswith("base.yaml")


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("train.epochs=7", ("train", "epochs"), 7),
        (
            "train.optimizer={name: sgd, lr: 0.5}",
            ("train", "optimizer"),
            {"name": "sgd", "lr": 0.5},
        ),
        ("train.seed=1", ("train", "seed"), 1),
        ("vars.width=$classes * 2", ("vars", "width"), "$classes * 2"),
        ("model.1.out_features=3", ("model", 1, "out_features"), 3),
        ("name=x", ("name",), "x"),
        ("data.test=", ("data", "test"), None),
        ("train.epochs=a=b", ("train", "epochs"), "a=b"),
    ],
)
def test_overrides(write, override, path, value):
    found = plain(compose(write(BASE), overrides=[override]))
    for key in path:
        found = found[key]
    assert found == value


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epochs", "--set train.epochs: not of the form a.b.c=value"),
        ("=3", "not of the form"),
        ("vars.widht=3", "no variable 'widht'\n  did you mean 'width'?"),
        ("model.9.id=a", "'9' is not there to be set"),
        ("train.epochs.x=1", "'x' is not there to be set"),
        ("patch=[]", "patch cannot be set by a flag"),
        ("train={", "--set train={: not valid YAML"),
    ],
)
def test_bad_overrides(write, override, message):
    with pytest.raises(SpecError) as caught:
        compose(write(BASE), overrides=[override])
    assert message in str(caught.value)


def test_data_file_takes_the_place_of_the_section(write):
    data = write("version: 1\ndata: {source: digits}\n", "data.yaml")
    assert plain(compose(write(BASE), data))["data"] == {"source": "digits"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("source: digits", "data.yaml: data: no `data` section"),
        ("data: {source: digits}\ntrain: {epochs: 1}", "data.yaml:2:1: 'train' has no place in a"),
    ],
)
def test_bad_data_file(write, text, message):
    with pytest.raises(SpecError) as caught:
        compose(write(BASE), write(text, "data.yaml"))
    assert message in str(caught.value)


def test_circles_and_missing_bases_are_told_where_they_are_named(write):
    write("extends: b.yaml", "a.yaml")
    write("extends: c.yaml", "b.yaml")
    path = write("extends: a.yaml", "c.yaml")
    with pytest.raises(
        SpecError, match=r"a\.yaml:1:10|circle: c.yaml -> a.yaml -> b.yaml -> c.yaml"
    ):
        compose(path)
    with pytest.raises(SpecError) as caught:
        compose(write("version: 1\nextends: aa.yaml"))
    message = str(caught.value)
    assert "spec.yaml:2:10: extends: no such file" in message and "did you mean 'a.yaml'" in message
    with pytest.raises(SpecError, match=r"spec.yaml:1:11: extends: not a file name"):
        compose(write("extends: [3]"))


@pytest.mark.parametrize("section", ["", "train: {optimizer: {weight_decay: 0}}\n"])
def test_a_flag_sets_a_field_of_the_default_optimizer(resolve, section):
    text = "version: 1\nmodel: [relu]\n" + section
    flags = ["train.optimizer.lr=0.5", "train.schedule.min_lr=0.25"]
    train = resolve(text, overrides=flags).spec.train
    assert (train.optimizer.name, train.optimizer.lr) == ("adamw", 0.5)
    assert train.optimizer.weight_decay == (0 if section else 0.05)
    assert (train.schedule.name, train.schedule.min_lr) == ("cosine", 0.25)
