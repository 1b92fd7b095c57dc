"""Damaged specs end in positioned errors, never in a traceback."""

import random
import re
from pathlib import Path

import pytest

from nifbuild.errors import SpecError
from nifbuild.spec.resolve import load_spec

SPECS = Path(__file__).parents[2] / "specs"
SOURCES = (
    "architectures/resnet18.yaml",
    "resnet18.yaml",
    "resnet18_nif.yaml",
    "architectures/densenet121.yaml",
    "architectures/mobilenet_v2.yaml",
    "architectures/mobilenet_v3_large.yaml",
    "architectures/convnext_tiny.yaml",
    "paper/convnext_tiny_split.yaml",
)
NUM_MUTATIONS = 300
NUM_SLOW = 500

JUNK = [
    "", "~", "-1", "0", "1e400", "[]", "{}", "[[1], 2]", "{a: 1}", "yes", "$", "$nope", "'", '"',
    "$width *", "&a", "*a", "!!int 3", "\t", ":", "- -", "1 2", "true", "9" * 400, "é\u2028", "#",
    "9" * 39, "1e39", ".inf", "[3, 8, 8]", "'1'", '"\\0"', "\x1b", "{<<: {}}", "cuda:99999999999",
    "'**'", "/dev/zero", "repeat: 99999", "from: input", "{repeat: [{}]}", "$(", "{id: position}",
    "?", "[relu, relu]", "conv", "{op: conv}", "{op: residual, body: [conv]}", "|", "--- a", "%TAG",
]  # fmt: skip


def rename_key(text: str, rng: random.Random) -> str:
    keys = [m.span(1) for m in re.finditer(r"([A-Za-z_]\w*):", text)]
    start, end = rng.choice(keys)
    word = text[start:end]
    new = rng.choice([word[:-1], word + "s", word[::-1], word.upper(), "x", rng.choice(JUNK)])
    return text[:start] + new + text[end:]


def change_value(text: str, rng: random.Random) -> str:
    values = [m.span(1) for m in re.finditer(r": ([^\s,{}\[\]][^,{}\[\]\n]*)", text)]
    start, end = rng.choice(values)
    return text[:start] + rng.choice(JUNK) + text[end:]


def swap_lines(text: str, rng: random.Random) -> str:
    lines = text.splitlines()
    i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
    lines[i], lines[j] = lines[j], lines[i]
    return "\n".join(lines)


def cut_lines(text: str, rng: random.Random) -> str:
    lines = text.splitlines()
    start = rng.randrange(len(lines))
    del lines[start : start + rng.randint(1, 4)]
    return "\n".join(lines)


def cut_characters(text: str, rng: random.Random) -> str:
    start = rng.randrange(len(text))
    return text[:start] + text[start + rng.randint(1, 12) :]


def insert_junk(text: str, rng: random.Random) -> str:
    start = rng.randrange(len(text))
    return text[:start] + rng.choice(JUNK) + text[start:]


def reindent(text: str, rng: random.Random) -> str:
    lines = text.splitlines()
    i = rng.randrange(len(lines))
    lines[i] = " " * rng.randint(0, 8) + lines[i].lstrip()
    return "\n".join(lines)


MUTATIONS = (
    rename_key, change_value, swap_lines, cut_lines, cut_characters, insert_junk, reindent,
)  # fmt: skip


def mutated(seed: int) -> tuple[str, str]:
    """The source's name and its text with one to three mutations."""
    rng = random.Random(seed)
    source = rng.choice(SOURCES)
    text = (SPECS / source).read_text()
    for _ in range(rng.randint(1, 3)):
        text = rng.choice(MUTATIONS)(text, rng)
    return source, text


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("specs")
    for source in SOURCES:
        (folder / source).parent.mkdir(exist_ok=True)
        (folder / source).write_text((SPECS / source).read_text())
    return folder


def outcome(folder: Path, seed: int) -> str:
    source, text = mutated(seed)
    path = folder / Path(source).parent / f"mutated_{seed}.yaml"
    path.write_text(text)
    try:
        load_spec(path)
    except SpecError as error:
        for problem in error.problems:
            assert problem.what and problem.where is not None, (seed, text, str(error))
            place = str(problem.where)
            assert place.startswith(str(folder)), (seed, text, str(error))
            # A character that YAML forbids has a file, but libyaml does not say which line.
            assert problem.where.line > 0 or problem.code == "yaml", (seed, text, str(error))
        return "error"
    finally:
        path.unlink()
    return "valid"


@pytest.mark.parametrize(
    "start",
    [
        *range(0, NUM_MUTATIONS, 50),
        *(pytest.param(s, marks=pytest.mark.slow) for s in range(NUM_MUTATIONS, NUM_SLOW, 50)),
    ],
)
def test_mutated_specs_validate_or_end_in_positioned_errors(folder, start):
    outcomes = [outcome(folder, seed) for seed in range(start, start + 50)]
    # Most damage is found; some, such as another width, makes another valid spec.
    assert outcomes.count("error") > 25 and len(outcomes) == 50
