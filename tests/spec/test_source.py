import math
import re
import tarfile

import pytest

from nifbuild.errors import Mark, SpecError
from nifbuild.spec.source import MAX_DEPTH, List, Map, Scalar, at, parse, plain


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("3e8", 3e8),
        (".5", 0.5),
        ("-2.", -2.0),
        ("012", 12),
        ("0x10", 16),
        ("0o17", 15),
        ("12:30", "12:30"),
        ("on", "on"),
        ("no", "no"),
        ("yes", "yes"),
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        (".inf", math.inf),
        ("1_000", "1_000"),
        ("2001-01-01", "2001-01-01"),
        ("'1'", "1"),
        ('"true"', "true"),
        ("9" * 5000, "9" * 5000),
    ],
)
def test_scalars_follow_yaml_1_2(text, value):
    found = plain(parse(f"key: {text}", "f.yaml"))["key"]
    assert found == value and type(found) is type(value)


def test_every_value_and_key_knows_its_place():
    tree = parse("a: 1\nb:\n  - x\n  - {c: $w}\n", "f.yaml")
    assert isinstance(tree, Map)
    assert tree.key_marks["b"] == Mark("f.yaml", 2, 1)
    assert at(tree, ("a",)) == Scalar(1, Mark("f.yaml", 1, 4))
    assert at(tree, ("b", 1, "c")) == Scalar("$w", Mark("f.yaml", 4, 9))
    assert at(tree, ("b", 2)) is None and at(tree, ("a", "x")) is None


def test_anchors_share_values():
    tree = parse("a: &x [1, 2]\nb: *x\n", "f.yaml")
    assert plain(tree) == {"a": [1, 2], "b": [1, 2]}
    assert isinstance(at(tree, ("b",)), List)


BOMB = "a0: &a0 [x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "f.yaml:3:1: the key 'a' is given twice\n  it stands first at line 1"),
        ("a:\n\tb: 1", "f.yaml:2:1: a tab indents this line\n  indent with spaces"),
        ("a: !!python/object:os.system x", "f.yaml:1:4: the tag tag:yaml.org,2002:python/object:"),
        ("a: 1\n---\nb: 2", "f.yaml:2:1: a spec file holds one document"),
        ("a: &a [*a]", "f.yaml:1:8: the alias *a contains itself"),
        ("a: *nope", "f.yaml:1:4: the alias *nope is not defined above"),
        ("a: &x {b: 1}\nc:\n  <<: *x", "f.yaml:3:3: merge keys (<<) are not supported"),
        ("[a]: 1", "f.yaml:1:3: a key must be a single word or number"),
        ("a: [1, 2", "f.yaml:2:1: not valid YAML"),
        ("a: b: c", "f.yaml:1:5: not valid YAML: mapping values are not allowed in this context"),
        ("a: {b: $w[0]}", "within {...} quote an entry of a list: '$widths[0]'"),
        ("a: 1\nb: \x07", "f.yaml:2:4: the character '\\x07' cannot stand in a spec"),
        (BOMB, "aliases expand to more than 200,000 values"),
        ("[" * 500, f"f.yaml:1:{MAX_DEPTH + 1}: nested more than {MAX_DEPTH} levels deep"),
        ("[" * 100_000, f"nested more than {MAX_DEPTH} levels deep"),
        ("{a: " * 100_000, f"nested more than {MAX_DEPTH} levels deep"),
        ("".join("- " * 1000), "nested more than"),
    ],
)
def test_refused_yaml(text, message):
    with pytest.raises(SpecError) as caught:
        parse(text, "f.yaml")
    assert message in str(caught.value)


@pytest.mark.parametrize("text", ["", "# nothing\n", "- a\n", "text"])
def test_a_spec_is_a_mapping(write, text):
    from nifbuild.spec.source import load

    with pytest.raises(SpecError, match="a spec is a mapping of keys to values"):
        load(write(text))


def test_files_that_cannot_be_read(tmp_path):
    from nifbuild.spec.source import load

    (tmp_path / "resnet.yaml").write_text("a: 1")
    (tmp_path / "latin.yaml").write_bytes(b"a: \xff")
    with pytest.raises(SpecError, match=r"no such file\n.*did you mean 'resnet.yaml'"):
        load(tmp_path / "resnett.yaml")
    with pytest.raises(SpecError, match=r"there is no folder"):
        load(tmp_path / "nowhere" / "a.yaml")
    with pytest.raises(SpecError, match=r"this is a folder"):
        load(tmp_path)
    with pytest.raises(SpecError, match=r"not UTF-8 text \(byte 3\)"):
        load(tmp_path / "latin.yaml")
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(SpecError, match=r"this is an image\n.*--data FOLDER"):
        load(tmp_path / "photo.jpg")
    photos = tmp_path / "photos.parquet"  # larger than any spec, as such files are
    photos.write_bytes(b"PAR1" + bytes(5 * 2**20))
    fix = f"`data: {{source: parquet, files: {{train: {photos}}}}}`"
    with pytest.raises(SpecError, match=rf"this is a Parquet file\n.*{re.escape(fix)}"):
        load(photos)
    with tarfile.open(tmp_path / "photos.tar", "w") as tar:
        tar.add(tmp_path / "photo.jpg")
    with pytest.raises(SpecError, match=r"this is a tar file\n.*source: webdataset"):
        load(tmp_path / "photos.tar")
    with pytest.raises(SpecError) as caught:  # the suffix alone makes no two names alike
        load(tmp_path / "nosuch.yaml")
    assert "did you mean" not in str(caught.value)
