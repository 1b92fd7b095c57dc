"""Shipped specs by name, from anywhere."""

import pytest

from nifbuild.errors import SpecError
from nifbuild.spec.ablation import is_study, load_study
from nifbuild.spec.resolve import load_spec
from nifbuild.spec.shipped import shipped, shipped_folder, shipped_names, spec_path


def test_every_shipped_file_has_a_name():
    assert len(shipped_names()) == len(list(shipped_folder().rglob("*.yaml"))) > 30
    assert {"resnet18_nif", "architectures/resnet18", "paper/resnet18_full"} <= {*shipped_names()}


def test_by_name_from_another_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    spec = load_spec("nifbuild:resnet18_nif", data="nifbuild:data/cifar10")
    assert spec.spec.data is not None and spec.spec.data.source == "hub"
    assert spec.name == "resnet18_nif"
    assert is_study("nifbuild:ablations/digits")
    assert load_study("nifbuild:ablations/digits").name == "digits"


def test_a_spec_and_a_study_that_build_on_one(tmp_path):
    spec = tmp_path / "mine.yaml"
    spec.write_text("extends: nifbuild:resnet18_nif\nvars: {width: 8}\n")
    assert load_spec(spec).graph.nodes[0].output_shape.channels == 8
    study = tmp_path / "study.yaml"
    text = "base: nifbuild:resnet18\ndata: nifbuild:data/digits\nmatrix: {vars.width: [4, 8]}\n"
    study.write_text(text)
    assert len(load_study(study).variants) == 2


def test_unknown_names(tmp_path):
    with pytest.raises(SpecError, match="did you mean 'resnet18'"):
        spec_path("nifbuild:resnet19")
    with pytest.raises(SpecError, match="shipped: ablations/"):
        spec_path("nifbuild:xyzzy")
    mine = tmp_path / "mine.yaml"
    mine.write_text("name: x\nextends: [nifbuild:resnet18_ni]\n")
    with pytest.raises(SpecError, match=r"mine.yaml:2:11: extends: no spec 'resnet18_ni'"):
        load_spec(mine)


def test_each_says_what_it_is():
    found = {one.name: one.purpose for one in shipped()}
    assert {name.removeprefix("nifbuild:") for name in found} == {*shipped_names()}
    assert all(purpose.endswith((".", "?")) for purpose in found.values())
    assert found["nifbuild:architectures/resnet18"].endswith("11,689,512 parameters.")
    assert next(iter(found)) == "nifbuild:resnet18"


def test_a_shipped_name_without_its_prefix_is_hinted_at(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SpecError, match=r"did you mean nifbuild:resnet18_nif\?"):
        load_spec("resnet18_nif")
    (tmp_path / "resnet18_nif").write_text("extends: nifbuild:resnet18_nif\nname: mine\n")
    assert load_spec("resnet18_nif").name == "mine"
