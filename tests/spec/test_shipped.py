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


_COMES = "one of this name comes with nifbuild: extends: nifbuild:"


@pytest.mark.parametrize(
    ("copy", "missing", "fix"),
    [
        ("mine", "resnet18.yaml", f"{_COMES}resnet18\ndid you mean 'resnet-18.yaml'?"),
        ("resnet18_", "resnet18.yaml", f"{_COMES}resnet18\ndid you mean 'resnet-18.yaml'?"),
        ("mine", "../architectures/resnet18.yaml", f"{_COMES}architectures/resnet18"),
        ("mine", "nothing_like_it.yaml", ""),
        ("mine_copy", "mine_copied.yaml", ""),
    ],
)
def test_a_copy_whose_base_is_not_there(tmp_path, copy, missing, fix):
    for name in ("se", "nope", "resnet-18"):
        (tmp_path / f"{name}.yaml").write_text("matrix: {}\n")
    (tmp_path / f"{copy}.yaml").write_text(f"extends: {missing}\n")
    with pytest.raises(SpecError, match=f"{copy}.yaml:1:10: extends: no such file") as caught:
        load_spec(tmp_path / f"{copy}.yaml")
    assert [problem.fix for problem in caught.value.problems] == [fix]


def test_who_extends_a_patch_that_no_longer_fits_writes_it_anew(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("extends: nifbuild:resnet18_nif\n")
    with pytest.raises(SpecError) as caught:
        load_spec(mine, overrides=["vars.depths=[1, 1, 1, 1]"])
    (problem,) = caught.value.problems
    assert "`expect: 5` in the patch" in problem.fix
    assert "in a spec of your own, with `extends: nifbuild:resnet18`" in problem.fix
    mine.write_text(
        "extends: nifbuild:resnet18\nname: mine\npatch:\n"
        "  - {match: layer*.*.conv*, where: {op: conv, kernel_size: 3, stride: 1},\n"
        "     set: {kind: implicit_frequency}, expect: 5}\n"
    )
    load_spec(mine, overrides=["vars.depths=[1, 1, 1, 1]"])


def test_each_says_what_it_is():
    found = {one.name: one.purpose for one in shipped()}
    assert {name.removeprefix("nifbuild:") for name in found} == {*shipped_names()}
    assert all(purpose.endswith((".", "?")) for purpose in found.values())
    assert found["nifbuild:architectures/resnet18"].endswith("11,689,512 parameters.")
    assert next(iter(found)) == "nifbuild:resnet18"


def test_a_shipped_name_alone_will_do_where_no_file_has_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_spec("resnet18_nif").text == load_spec("nifbuild:resnet18_nif").text
    (tmp_path / "resnet18_nif").write_text("extends: nifbuild:resnet18_nif\nname: mine\n")
    assert load_spec("resnet18_nif").name == "mine"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("resnet19", "did you mean 'resnet18'"),
        ("specs/resnet18.yaml", r"did you mean nifbuild:resnet18\?"),
        ("specs/architectures/resnet18.yaml", r"did you mean nifbuild:architectures/resnet18\?"),
        ("resnet50", "did you mean 'architectures/resnet50'?"),
        ("photos", "photos: no such file or folder, and nothing of this name comes with nifbuild"),
        ("photos", "`nifbuild specs` lists what does"),
        ("mine.yaml", "mine.yaml: no such file"),
        ("nowhere/mine.yaml", "no such file: there is no folder nowhere"),
    ],
)
def test_what_is_not_there(tmp_path, monkeypatch, name, told):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SpecError, match=told):
        load_spec(name)


def test_a_home_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.yaml").write_text("extends: nifbuild:resnet18\nname: mine\n")
    (tmp_path / "other.yaml").write_text("extends: ~/mine.yaml\n")
    assert load_spec("~/mine.yaml").name == "mine"
    assert load_spec(tmp_path / "other.yaml").name == "mine"


def test_folders(tmp_path):
    (tmp_path / "images").mkdir()
    run = tmp_path / "run"
    run.mkdir()
    (run / "spec.yaml").touch()
    (run / "environment.json").touch()
    with pytest.raises(SpecError, match=r"a run, not a spec\n.*run/spec.yaml; .*evaluate"):
        load_spec(run)
    with pytest.raises(SpecError, match=r"this is a folder\n.*--data FOLDER"):
        load_spec(tmp_path / "images")
    spec = load_spec("nifbuild:resnet18", data=tmp_path / "images").spec
    assert (spec.data.source, spec.data.path) == ("imagefolder", str(tmp_path / "images"))
