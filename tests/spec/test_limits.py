"""What is too large, too deep, too much or no file at all ends in one placed error, at once."""

import math
import os
import socket
import time

import pytest

from nifbuild.compile import build_skeleton
from nifbuild.errors import MAX_PROBLEMS, SpecError, shown
from nifbuild.spec.budget import parse_bytes, parse_count
from nifbuild.spec.document import SpecFile
from nifbuild.spec.image_size import parse_size
from nifbuild.spec.resolve import load_spec
from nifbuild.spec.value_origins import value_origins

HEAD = "version: 1\ninput: {channels: 1, size: [8, 8]}\n"
MODEL = "model: [{id: c, op: conv}, global_avg_pool, flatten, {op: linear, out_features: 10}]\n"


@pytest.fixture(autouse=True)
def _at_once():
    started = time.process_time()
    yield
    assert time.process_time() - started < 10  # without its limit each takes minutes, or for ever


def test_only_plain_files_are_read(tmp_path, problems):
    os.mkfifo(tmp_path / "pipe.yaml")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "socket.yaml"))
    with (tmp_path / "large.yaml").open("wb") as large:
        large.truncate(2**30)
    (tmp_path / "circle.yaml").symlink_to("circle.yaml")
    for name, what in {
        "/dev/zero": "this is a pipe, a socket or a device",
        "pipe.yaml": "this is a pipe, a socket or a device",
        "socket.yaml": "this is a pipe, a socket or a device",
        "large.yaml": "the file has 1,073,741,824 bytes; a spec has at most 4,194,304",
        "circle.yaml": "cannot read the file: Too many levels of symbolic links",
    }.items():
        with pytest.raises(SpecError, match=what):
            load_spec(tmp_path / name)
        (problem,) = problems(f"extends: {name}")
        assert problem.startswith(f"spec.yaml:1:10: extends: {what}")


def test_files_extend_no_more_than_64(write, problems, resolve):
    names = ", ".join(f"../b{i}.yaml" for i in range(8))
    for level in ("a", "b"):
        for i in range(8):
            content = "extends: [" + names.replace("../b", "b") + "]" if level == "a" else "{}"
            write(content, f"{level}{i}.yaml")
    for i in range(64):
        write(f"extends: chain{i + 1}.yaml", f"chain{i}.yaml")
    write(HEAD + MODEL, "chain64.yaml")
    assert resolve("extends: chain1.yaml").name == "spec"
    (problem,) = problems("extends: chain0.yaml")
    assert problem.startswith("chain63.yaml:1:10: extends: a spec extends at most 64 files")
    bases = ", ".join(f"a{i}.yaml" for i in range(8))
    (problem,) = problems(f"extends: [{bases}]")
    assert problem.startswith("a7.yaml:1:11: extends: a spec extends at most 64 files")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("version: 1\n".encode("utf-16"), "the file is UTF-16 text\n  save it as UTF-8"),
        ("version: 1\n".encode("utf-16-le"), "the file is UTF-16 text\n  save it as UTF-8"),
        (b"name: caf\xe9\n", "the file is not UTF-8 text (byte 9)\n  save it as UTF-8"),
        (b"a: 1\nb: '\x1b'\n", "2:5: the character '\\x1b' cannot stand in a spec"),
        (b'a: 1\nb: "\\0"\n', "2:4: the character '\\x00' cannot stand in a spec"),
        (b"a: [&t " + b"t" * 9999 + b", *t" * 2000 + b"]", "more than 200,000 values"),
        (b"a: " + b"x " * 10_000, "a text of 19,999 characters; a value has at most 10,000"),
        (b"x" * 501 + b": 1", "a key of 501 characters; it has at most 500"),
        (b"a: {" + b", ".join(b"k%d: 1" % i for i in range(100_000)) + b"}", "more than 10,000 k"),
    ],
)
def test_text_that_no_spec_has(tmp_path, content, what):
    path = tmp_path / "spec.yaml"
    path.write_bytes(content)
    with pytest.raises(SpecError) as caught:
        load_spec(path)
    assert what in str(caught.value)


@pytest.mark.parametrize("value", ["32", "[3, 32, 32]", "~", "[]", "x", "true", "1.5", "$w"])
@pytest.mark.parametrize("section", ["input", "train", "vars", "blocks", "defaults", "budget"])
def test_a_section_that_is_no_mapping(section, value, problems):
    """Also where data sets the size of the input."""
    known = "" if section == "vars" else "vars: {w: 3}\n"
    sections = {"input": "input: {channels: $w}\n", section: f"{section}: {value}\n"}
    optional = ("vars", "blocks", "defaults", "budget")
    if value == "~" and section in optional:
        return
    text = known + "".join(sections.values()) + MODEL + "data: {source: digits, size: [8, 8]}\n"
    found = problems("version: 1\n" + text)
    assert any(
        f": {section}: expected a mapping" in p
        or f": {section}: {section} is a mapping" in p
        or f"vars.w: {section}: expected a mapping" in p
        for p in found
    ), found


def test_input_may_be_a_variable_that_holds_a_mapping(resolve):
    text = "version: 1\nvars: {images: {channels: 1, size: 8}}\ninput: $images\n" + MODEL
    for data in ("", "data: {source: digits, size: [8, 8]}"):
        found = resolve(text + data).spec.input
        assert (found.channels, found.size) == (1, (8, 8))


LONG = [30 * "9", 320 * "9", "1e300", "1e999", ".nan"]


def number_fields(schema: dict, path: tuple[str, ...] = ()):
    """The paths of all numbers in a JSON Schema, and what it says of them."""
    for key, value in schema.items():
        inner = value if isinstance(value, list) else [value]
        for part in inner:
            if isinstance(part, dict):
                if part.get("type") in ("integer", "number"):
                    yield (*path, key), part
                yield from number_fields(part, (*path, key))


def test_every_number_has_bounds():
    # What augmentation takes is bounded by what it means.
    open_ended = {"Augment", "RandAugment"}
    for path, field in number_fields(SpecFile.model_json_schema()):
        if not open_ended & {*path} and path[-1] != "version":
            bounds = {*field} & {"maximum", "exclusiveMaximum"}
            assert bounds and {*field} & {"minimum", "exclusiveMinimum"}, (path, field)
            assert all(math.isfinite(field[bound]) for bound in bounds)


@pytest.mark.parametrize("number", LONG)
@pytest.mark.parametrize(
    "section",
    [
        "budget: {max_params: %s}",
        "budget: {max_train_memory: '%sGiB'}",
        "train: {batch_size: %s}",
        "train: {optimizer: {lr: %s}}",
        "train: {optimizer: {name: sgd, momentum: %s}}",
        "train: {schedule: {warmup_epochs: %s}}",
        "train: {device: 'cuda:%s'}",
        "train: {seed: %s}",
        "data: {source: digits, limit: {train: %s}}",
        "data: {source: digits, normalize: {mean: [%s], std: [1]}}",
        "data: {source: distant_pair, distance: %s}",
        "vars: {n: %s}\npatch: [{match: c, set: {out_channels: $n * 2}}]",
    ],
)
def test_numbers_beyond_measure(problems, section, number):
    found = problems(HEAD + MODEL + section.replace("%s", number))
    assert all(p.startswith("spec.yaml:") and ("got" in p or "cannot eval" in p) for p in found)


def test_amounts_and_sizes_of_the_command_line():
    with pytest.raises(ValueError, match="got more than 1e"):
        parse_count("9" * 400 + "T")
    with pytest.raises(ValueError, match="got more than 1e"):
        parse_bytes("1000000000TiB")
    assert parse_bytes("1TiB") == 2**40
    for text in ("9" * 5000, "8x1000000"):
        with pytest.raises(ValueError, match="is no size"):
            parse_size(text)


def test_drawn_images_have_bounds(problems):
    data = "data: {source: distant_pair, distance: 2, images: 1000, size: [60000, 60000]}"
    (problem,) = problems(HEAD + MODEL + data)
    assert "data.images: 1,000 images of 60,000 x 60,000 pixels are more than" in problem


def test_a_place_asked_for_has_bounds(resolve):
    with pytest.raises(SpecError, match="no value"):
        value_origins(resolve(HEAD + MODEL), f"model[{'9' * 5000}]")


@pytest.mark.parametrize(
    ("expression", "what"),
    [
        ("10**10**10 + $n", "is not arithmetic"),
        ("round($n, 0 - 999999999)", "round to at most 15 digits"),
        ("$n * 1e300", "a result beyond 1e+15"),
        ("'a' * $n", "is not a number"),
    ],
)
def test_arithmetic_that_grows(problems, expression, what):
    text = f'vars: {{n: 7}}\nmodel: [{{op: conv, out_channels: "{expression}"}}]'
    (problem,) = problems(HEAD + text)
    assert "spec.yaml:4:" in problem and what.split("'")[-1] in problem


def test_names_and_variables_that_grow(problems):
    (problem,) = problems(f"{HEAD}vars: {{n: {'a' * 900}}}\nmodel: [{{op: relu, id: '$n$n'}}]")
    assert "a name of more than 1,000 characters" in problem
    nested = ", ".join(f"v{i}: [$v{i - 1}]" for i in range(1, 100))
    (problem,) = problems(f"{HEAD}vars: {{v0: [1], {nested}}}\nmodel: [{{op: conv, id: $v99}}]")
    assert "variables nest values more than 64 levels deep" in problem
    chain = ", ".join(f"v{i}: $v{i - 1} + 1" for i in range(1, 5000))
    (problem,) = problems(f"{HEAD}vars: {{v0: 0, {chain}}}\nmodel: [relu]")
    assert "nothing uses the variable 'v4999'" in problem


@pytest.mark.parametrize(
    ("flag", "what"),
    [
        ("a." * 3000 + "a=1", "a path of 3,001 names; a spec has at most 64 levels"),
        ("train.epochs=" + "[" * 3000, "nested more than 64 levels deep"),
        (f"model.{'9' * 5000}.stride=1", "is not there to be set"),
        ("name=\udcff", "the character '\\udcff' cannot stand in a spec"),
        ("\udcff=1", "the character '\\udcff' cannot stand in a spec"),
    ],
)
def test_flags_that_no_spec_has(problems, flag, what):
    (problem,) = problems(HEAD + MODEL, overrides=[flag])
    assert problem.startswith(f"--set {shown(flag[:100])}") and what in problem


@pytest.mark.parametrize(
    ("ops", "what"),
    [
        (
            "{op: upsample, scale: 1000000000}",
            "upsample: the output of 1x8000000000x8000000000 has",
        ),
        ("{op: conv, out_channels: 1000000000}", "c: the output of 1000000000x8x8 has"),
    ],
)
def test_shapes_have_bounds(problems, ops, what):
    (problem,) = problems(f"{HEAD}model: [{ops.replace('op: conv', 'id: c, op: conv')}]")
    assert problem.startswith("spec.yaml:3:9: ") and what in problem
    assert "values, and an image at most 10,000,000,000" in problem


def test_an_input_has_bounds(problems):
    (problem,) = problems("version: 1\ninput: {channels: 3, size: 100000000}\nmodel: [relu]")
    assert problem.startswith("spec.yaml:2:28: input: an input of 3x100000000x100000000 has")


def test_more_weights_than_torch_can_count(resolve):
    """So many are told of by the op, without a byte taken."""
    resolved = resolve(f"{HEAD}model: [relu, {{op: conv, kernel_size: 100000000001}}]")
    with pytest.raises(SpecError, match=r"spec.yaml:3:15: conv: conv has more weights than torch"):
        build_skeleton(resolved)


def many(form: str, count: int = 2000) -> str:
    return ", ".join(form.replace("%", str(i)) for i in range(count))


@pytest.mark.parametrize(
    "text",
    [
        MODEL + f"train: {{{many('epoch%: 1')}}}",
        MODEL + many("trainn%: 1").replace(", ", "\n"),
        MODEL + f"defaults: {{{many('cnov%: {}')}}}",
        MODEL + f"vars: {{{many('width%: 1')}}}",
        f"model: [{many('cnov%')}]",
        f"model: [{many('{op: conv, kernal%: 3}')}]",
        f"model: [{many('{id: c, op: relu}')}]",
        f"model: [{many('{op: relu, from: input}')}]",
        f"model: [{many('{op: conv, groups: $q%r}')}]",
    ],
    ids=range(9),
)
def test_of_very_many_problems_the_first_are_told(problems, text):
    found = problems(HEAD + text)
    assert len(found) == MAX_PROBLEMS + 1
    assert all(problem.startswith("spec.yaml:") for problem in found)
    (last,) = (p for p in found if "there are more problems" in p)
    assert "than the 50 before this one\n  mend those first" in last


def test_many_repetitions(resolve, problems):
    """One mistake in each of them is one problem."""
    assert len(resolve(f"{HEAD}model: [{{op: conv, repeat: 4096}}]").graph.nodes) == 4096
    for op in ("{op: conv, out_chanels: 4, repeat: 4096}", "{op: cnov, repeat: 4096}"):
        (problem,) = problems(f"{HEAD}model: [{op}]")
        assert "did you mean" in problem


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ("version: '1'", "write 1 without quotes"),
        ("train: {epochs: '3'}", "write 3 without quotes"),
        ("train: {channels_last: 'true'}", "write true without quotes"),
        ("train: {optimizer: {lr: '1e-3'}}", "write 1e-3 without quotes"),
        ("train: {epochs: 'true'}", "epochs: Passes over"),
        (f"train: {{epochs: {'9' * 41}}}", "a number has at most 40 characters"),
        ("train: {precision: 'bf15'}", "did you mean 'bf16'?"),
    ],
)
def test_what_quotes_hide(problems, text, fix):
    head = HEAD.replace("version: 1\n", "") if text.startswith("version") else HEAD
    (problem,) = problems(f"{text}\n{head}{MODEL}")
    assert fix in problem
