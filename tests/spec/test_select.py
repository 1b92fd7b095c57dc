"""Selectors find what their definition says, in time that grows with their length."""

import random
import time
from collections import OrderedDict

import pytest
from torch import nn

from nifbuild import replace_convs
from nifbuild.errors import SpecError
from nifbuild.spec.select import path_pattern, select_weights


def finds(selector: str, path: str) -> bool:
    """The definition, tried out in every way; the oracle."""
    if not selector:
        return not path
    if selector.startswith("**."):
        name, dot, rest = path.partition(".")
        return finds(selector[3:], path) or bool(name and dot and finds(selector, rest))
    if selector.startswith("**"):
        return any(finds(selector[2:], path[start:]) for start in range(len(path) + 1))
    if selector.startswith("*"):
        length = len(path.partition(".")[0])
        return any(finds(selector[1:], path[start:]) for start in range(length + 1))
    if not path or (selector[0] == "?" and path[0] == "."):
        return False
    return selector[0] in ("?", path[0]) and finds(selector[1:], path[1:])


def test_selectors_find_what_the_definition_says():
    rng = random.Random(0)
    found = 0
    for _ in range(4000):
        selector = "".join(rng.choices(["*", "**", "**.", "?", ".", "a", "b"], k=rng.randint(1, 6)))
        path = "".join(rng.choices("ab.", k=rng.randint(0, 7)))
        found += finds(selector, path)
        assert path_pattern(selector).fullmatch(path) is finds(selector, path), (selector, path)
    assert found > 200


ROW = "********************x"
HEAD = "version: 1\ninput: {channels: 3, size: 8}\nmodel: [{id: s, op: sequence, body: [{id: "
MODEL = HEAD + "a" * 60 + ", op: conv}]}]\n"


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (f"patch: [{{match: '{ROW}', set: {{bias: true}}}}]", "spec.yaml:4:17: patch: the patch"),
        (f"train: {{gradient_checkpointing: ['{ROW}']}}", "selects no block of the model"),
        (f"patch: [{{match: '{'*' * 501}', set: {{bias: true}}}}]", "text of at most 500 charac"),
    ],
)
def test_a_row_of_stars_takes_no_time(problems, section, message):
    started = time.process_time()
    (problem,) = problems(MODEL + section)
    assert message in problem
    assert time.process_time() - started < 2  # backtracking takes hours


def test_a_row_of_stars_among_modules_and_weights():
    name = "a" * 60
    model = nn.Sequential(OrderedDict([(name, nn.Conv2d(3, 3, 3)), ("b", nn.Conv2d(3, 3, 3))]))
    started = time.process_time()
    with pytest.raises(SpecError, match="found 0"):
        replace_convs(model, match=ROW)
    assert select_weights(ROW, model.state_dict()) == []
    assert select_weights("*" * 20, model.state_dict())[:2] == [f"{name}.weight", f"{name}.bias"]
    assert time.process_time() - started < 5


def test_a_selector_has_a_length():
    with pytest.raises(SpecError, match="at most 500 characters, and this one 1,000,000"):
        path_pattern("*" * 1_000_000)
