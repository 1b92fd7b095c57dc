"""What Python users are told of arguments that a command's function does not take."""

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

import nifbuild
from nifbuild.errors import SpecError
from nifbuild.machine.options import fits

COMMANDS = ["analyze", "bench", "compare_runs", "evaluate_run", "export", "inspect", "list_runs"]
COMMANDS += ["predict", "shrink", "train_spec"]


@pytest.mark.parametrize(
    ("value", "annotation", "expected"),
    [
        (3, int, True),
        (np.int64(3), int, True),
        (True, int, False),
        (3.0, int, False),
        (3, float, True),
        (np.float32(3), float, True),
        ("3", float, False),
        (1, bool, False),
        (None, int | None, True),
        (Path("x"), str | Path, True),
        ("x", Sequence[str], False),
        (["x", 3], Sequence[str], False),
        (("x", "y"), Sequence[str], True),
        ((3, 4), int | tuple[int, int], True),
        ([3, 4], int | tuple[int, int], True),
        ((3, 4, 5), int | tuple[int, int], False),
        ("a", Literal["a", "b"], True),
        ("c", Literal["a", "b"], False),
    ],
)
def test_fits(value, annotation, expected):
    assert fits(value, annotation) is expected


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: nifbuild.inspect(3), "inspect(specs=3): expected str"),
        (lambda: nifbuild.inspect("x", overrides=[6]), "expected Sequence[str], got list[int]"),
        (
            lambda: nifbuild.train_spec("x", overrides="a.b=1"),
            "train_spec(overrides='a.b=1'): expected Sequence[str], got str\n"
            "  write a list: overrides=['a.b=1']",
        ),
        (lambda: nifbuild.shrink("x", kernel_size="3"), "expected int | None, got str"),
        (
            lambda: nifbuild.shrink("x", max_drop=0.5),
            "expected str | None, got float\n  write it as a text: max_drop='0.5'",
        ),
        (lambda: nifbuild.evaluate_run("x", batch_size=0), "0 is too small\n  1 is the least"),
        (
            lambda: nifbuild.evaluate_run("x", checkpoint="bets"),
            "(checkpoint='bets'): 'bets' is none of the choices\n  did you mean 'best'?",
        ),
        (lambda: nifbuild.load("x", checkpoint="lsat"), "did you mean 'last'?"),
        (lambda: nifbuild.compare_runs("runs/a"), "write a list: runs=['runs/a']"),
        (lambda: nifbuild.predict("x", [3]), "got list[int]"),
    ],
)
def test_arguments_of_another_kind(call, message):
    with pytest.raises(SpecError) as caught:
        call()
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: nifbuild.inspect("x", batch_size=64),
            "inspect() has no argument 'batch_size': did you mean 'batch_sizes'?",
        ),
        (
            lambda: nifbuild.compare_runs("x", "y"),
            "compare_runs(runs, *, out=None, overwrite=False): too many positional arguments",
        ),
        (lambda: nifbuild.shrink(), "missing a required argument: 'run'"),
    ],
)
def test_arguments_that_are_none(call, message):
    with pytest.raises(TypeError) as caught:
        call()
    assert message in str(caught.value)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_says_what_each_argument_is(name):
    function = getattr(nifbuild, name)
    signature, doc = inspect.signature(function), inspect.getdoc(function)
    assert "typer" not in str(signature)
    for parameter in signature.parameters:
        assert parameter == "report" or f"\n    {parameter}: " in doc, parameter
    assert doc.index("\nArgs:") < doc.index("\nReturns:")
