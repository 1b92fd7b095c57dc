import re

import pytest

from nifbuild.spec.resolve import load_spec


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("base", ["resnet18_nif", "nifbuild:everywhere/mobilenet_v2", "mine.yaml"])
def test_what_is_written_is_the_same_spec_with_and_without_its_comments(here, cli, base):
    (here / "mine.yaml").write_text(
        "extends: nifbuild:resnet18\nvars: {width: 8}\ntrain: {optimizer: {name: sgd, lr: 1e-5}}\n"
    )
    result = cli("new", "first", "--from", base)
    assert result.exit_code == 0 and "nifbuild train first.yaml" in result.stdout
    wanted = load_spec(base).text
    assert "name: first" in load_spec("first.yaml").text
    assert same(load_spec("first.yaml").text) == same(wanted)
    text = (here / "first.yaml").read_text()
    sections = re.split(r"\n\n", text)
    said = [s for s in sections if s.startswith(("# vars:", "# train:"))]
    assert "# train:\n#   epochs: " in text and len(said) == 2
    assert ("num_classes" in text) == ("everywhere" in base)  # else the data says how many
    active = "\n\n".join(re.sub("(?m)^# ?", "", s) if s in said else s for s in sections)
    (here / "all.yaml").write_text(active)
    assert same(load_spec("all.yaml").text) == same(wanted)


def same(text):
    return re.sub(r"(?m)^name: .*$", "", text)


def test_the_patch_that_is_proposed_fits(here, cli):
    assert cli("new", "second", "--from", "resnet18").exit_code == 0
    text = (here / "second.yaml").read_text()
    before, patch = text.split("# patch:\n")
    (here / "second.yaml").write_text(before + "patch:\n" + re.sub("(?m)^# ?", "", patch))
    assert load_spec("second.yaml").text.count("kind: implicit_frequency") == 13


def test_the_images_that_are_proposed_fit(here, cli):
    assert cli("new", "third").exit_code == 0
    text = (here / "third.yaml").read_text()
    assert "# input: {size: [224, 224]}\n" in text  # the digits of the base have 16x16
    active = text.replace("# data: {", "data: {").replace("# input: {", "input: {")
    (here / "third.yaml").write_text(active.replace("224, 224", "64, 48"))
    spec = load_spec("third.yaml").spec
    assert spec.data.path == "photos" and spec.input.size == (64, 48)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["bad name"], "bad name: expected letters, digits, dots"),
        (["../up/mine"], "there is no folder ../up"),
        (["mine", "--from", "resnet19"], "did you mean 'resnet18'"),
        (["there"], "there.yaml exists"),
        (["there", "--from", "there.yaml", "--overwrite"], "there.yaml cannot build on itself"),
    ],
)
def test_wrong_input(here, cli, words, told):
    (here / "there.yaml").write_text("extends: nifbuild:resnet18\n")
    result = cli("new", *words)
    assert result.exit_code == 2 and told in result.stderr
    assert (here / "there.yaml").read_text() == "extends: nifbuild:resnet18\n"


def test_one_that_is_there_is_named_once(here, cli):
    (here / "there.yaml").touch()
    told = "error: there.yaml exists\n  give another NAME, or add --overwrite\n"
    assert cli("new", "there").stderr == told
