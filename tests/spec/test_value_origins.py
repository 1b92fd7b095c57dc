"""Where values come from: through extends, variables, blocks, defaults, patches and flags."""

import pytest

from nifbuild.errors import SpecError
from nifbuild.spec.value_origins import value_origins

BASE = """\
version: 1
vars: {width: 4, num_classes: 9}
input: {size: 16}
defaults: {conv: {bias: false}}
blocks:
  unit:
    args: {channels: int, size: 3}
    body:
      - op: residual
        id: r
        body: [{id: c, op: conv, out_channels: $channels, kernel_size: $size}]
model:
  - {id: a, op: unit, channels: $width * 2}
  - global_avg_pool
  - flatten
  - {id: head, op: linear, out_features: $num_classes}
train: {epochs: 2}
"""
SPEC = """\
extends: base.yaml
data: {source: digits}
train: {batch_size: 8}
patch:
  - {match: a.r.c, set: {kernel_size: 5}, expect: 1}
"""


@pytest.fixture
def places(write, resolve):
    """The places of the values at a path, as `line:column` with the file if it is the base."""
    base = write(BASE, "base.yaml")

    def find(path, **options):
        found = value_origins(resolve(SPEC, **options), path)
        return {
            o.path: (o.value, [str(m).replace(f"{base.parent}/", "") for m in o.places])
            for o in found
        }

    return find


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("train.epochs", 2, ["base.yaml:17:17"]),
        ("train.batch_size", 8, ["spec.yaml:3:21"]),
        ("train.seed", 0, []),
        ("data.source", "digits", ["spec.yaml:2:16"]),
        ("a.r.c.bias", False, ["base.yaml:4:25"]),
        ("a.r.c.kernel_size", 5, ["spec.yaml:5:39"]),
        ("a.r.c.stride", 1, []),
        (
            "a.r.c.out_channels",
            8,
            ["base.yaml:11:48", "base.yaml:13:33", "base.yaml:2:15"],
        ),
        ("model[3].out_features", 10, ["base.yaml:16:42", "spec.yaml:2:7"]),
        ("head.out_features", 10, ["base.yaml:16:42", "spec.yaml:2:7"]),
        ("a.r.add.op", "add", ["base.yaml:9:9"]),
        ("a.r.downsample.0.kernel_size", 1, ["base.yaml:9:9"]),
        ("name", "spec", ["spec.yaml"]),
    ],
)
def test_places(places, path, value, expected):
    assert list(places(path).values()) == [(value, expected)]


def test_flags(places):
    options = {"overrides": ["train.epochs=7", "vars.width=5"]}
    assert places("train.epochs", **options) == {"train.epochs": (7, ["--set train.epochs=7"])}
    ((value, marks),) = places("a.r.c.out_channels", **options).values()
    assert value == 10 and marks[-1] == "--set vars.width=5"


def test_sections_and_modules_have_all_their_fields(places):
    found = places("input")
    assert found == {"input.channels": (3, []), "input.size": (16, ["base.yaml:3:15"])}
    fields = places("a.r.c")
    assert {"a.r.c.kind", "a.r.c.padding", "a.r.c.from"} <= fields.keys()


def test_levels_of_modules_list_what_is_below(places):
    written = ["base.yaml:11:16"]
    assert (
        places("a")
        == places("a.r")
        == {
            "a.r.c": ("conv, standard", written),
            "a.r.add": ("add", ["base.yaml:9:9"]),
            "a.r.downsample.0": ("conv, standard", ["base.yaml:9:9"]),
        }
    )
    assert {*places("model")} == {*places("a"), "global_avg_pool", "flatten", "head"}


def test_a_module_that_a_patch_made_another_one_names_the_patch(write, resolve):
    base = write(BASE, "base.yaml")
    spec = resolve(SPEC.replace("{kernel_size: 5}", "{kind: implicit_frequency}"))
    (origin,) = [o for o in value_origins(spec, "a") if o.path == "a.r.c"]
    assert origin.value == "conv, implicit_frequency"
    assert [str(m).replace(f"{base.parent}/", "") for m in origin.places] == [
        "base.yaml:11:16",
        "spec.yaml:5:32",
    ]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (
            "vars",
            {"vars.width": (4, ["base.yaml:2:15"]), "vars.num_classes": (10, ["spec.yaml:2:7"])},
        ),
        ("vars.width", {"vars.width": (4, ["base.yaml:2:15"])}),
        ("width", {"vars.width": (4, ["base.yaml:2:15"])}),
        ("defaults.conv.bias", {"defaults.conv.bias": (False, ["base.yaml:4:25"])}),
        (
            "unit.args",
            {
                "blocks.unit.args.channels": ("int", ["base.yaml:7:22"]),
                "blocks.unit.args.size": (3, ["base.yaml:7:33"]),
            },
        ),
        ("blocks.unit.args.size", {"blocks.unit.args.size": (3, ["base.yaml:7:33"])}),
        ("patch[0].set", {"patch[0].set.kernel_size": (5, ["spec.yaml:5:39"])}),
    ],
)
def test_what_only_helps_to_write_a_spec_is_found_too(places, path, expected):
    assert places(path) == expected


def test_a_list_of_mappings_is_told_one_by_one(places):
    assert [*places("unit.body")] == ["blocks.unit.body[0]"]
    assert [*places("patch").values()] == [
        ({"match": "a.r.c", "set": {"kernel_size": 5}, "expect": 1}, ["spec.yaml:5:5"])
    ]


def test_what_the_data_says_is_where_it_says_so(places):
    data = "data={source: imagefolder, path: x, size: [8, 8], num_classes: 7}"
    found = places("input.size", overrides=[data, "data.size=[24, 24]"])
    assert found == {"input.size": (24, ["--set data.size=[24, 24]"])}
    ((value, marks),) = places("head.out_features", overrides=[data, "data.num_classes=6"]).values()
    assert value == 6 and marks[-1] == "--set data.num_classes=6"


def test_as_text(write, resolve):
    base = write(BASE, "base.yaml")
    (origin,) = value_origins(resolve(SPEC, overrides=["vars.width=5"]), "a.r.c.out_channels")
    assert str(origin).replace(f"{base.parent}/", "").splitlines() == [
        "a.r.c.out_channels: 10",
        "  base.yaml:11:48: body: [{id: c, op: conv, out_channels: $channels, kernel_size: $size}]",
        "  base.yaml:13:33: - {id: a, op: unit, channels: $width * 2}",
        "  --set vars.width=5",
    ]
    (origin,) = value_origins(resolve(SPEC), "train.compile")
    assert str(origin) == "train.compile: false\n  the default"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("a.r.c.strid", "did you mean 'stride'?\n  fields of a.r.c: op, id"),
        ("trian.epochs", "no value 'trian.epochs' in this spec"),
        ("inptu", "did you mean 'input' or 'init'?\n  sections: version, name"),
        ("a.r.cc", "did you mean 'a.r.c'"),
        ("widht", "did you mean 'width'"),
        ("unti", "did you mean 'unit'"),
        ("vars.x", "no value 'vars.x'"),
        ("model[9]", "no value 'model[9]'"),
        ("train.epochs.x", "no value 'train.epochs.x'"),
        ("", "no value ''"),
    ],
)
def test_unknown_paths(write, resolve, path, message):
    write(BASE, "base.yaml")
    with pytest.raises(SpecError) as caught:
        value_origins(resolve(SPEC), path)
    assert message in str(caught.value) and str(caught.value).startswith("--explain")
