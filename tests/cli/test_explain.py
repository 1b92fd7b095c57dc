"""`nifbuild explain` in a terminal, as JSON and as Markdown."""

import json

import pytest
from typer.testing import CliRunner

from nifbuild.cli.app import app
from nifbuild.spec.reference.markdown_page import reference_page

RUN = CliRunner()


@pytest.mark.parametrize("columns", [40, 60, 80, 120, 300])
@pytest.mark.parametrize("arguments", [[], ["conv"], ["train.optimizer"], ["data"], ["$list[i]"]])
def test_lines_are_as_wide_as_the_terminal_at_most(columns, arguments):
    done = RUN.invoke(app, ["explain", *arguments], env={"COLUMNS": str(columns)})
    assert done.exit_code == 0 and done.stdout
    assert max(len(line) for line in done.stdout.splitlines()) <= min(columns, 100)


def test_an_op():
    done = RUN.invoke(app, ["explain", "batch_norm"], env={"COLUMNS": "80"})
    assert done.stdout == (
        "batch_norm (op)\n"
        "  Normalises each channel over the batch (Ioffe and Szegedy, arXiv 1502.03167).\n"
        "  affine: true or false; default true\n"
        "      Whether each channel has a learned scale and shift.\n"
        "  init: a name, or mapping with name: default, zeros, ones; default null\n"
        "      What scale and shift start at. Null: as the section `init` says of this\n"
        "      op.\n"
        "  eps: number > 0 and < 1; default 1e-05\n"
        "      Added to the variance.\n"
        "  momentum: number >= 0 and <= 1; default 0.1\n"
        "      Share of the new batch in the running statistics.\n"
        "\n"
        "  more: nifbuild explain batch_norm.init\n"
        "  and, as every op: id, from, when, repeat, first, last, index (nifbuild explain\n"
        "  ops)\n"
    )


def test_as_json():
    done = RUN.invoke(app, ["explain", "linear", "--json"])
    found = json.loads(done.stdout)
    assert found["name"] == "linear" and found["what"] == "op"
    assert {"name": "out_features", "type": "whole number >= 1", "default": None,
            "meaning": "Length of the output vector."} in found["fields"]  # fmt: skip
    listed = json.loads(RUN.invoke(app, ["explain", "--json"]).stdout)
    assert {"name": "flatten", "meaning": "An image as one vector."} in listed["ops"]
    wrong = RUN.invoke(app, ["explain", "cnov", "--json"])
    assert wrong.exit_code == 2
    (problem,) = json.loads(wrong.stdout)["problems"]
    assert problem["code"] == "unknown-word" and "did you mean 'conv'" in problem["fix"]


def test_the_page():
    assert RUN.invoke(app, ["explain", "--markdown"]).stdout == reference_page()


def test_a_misspelt_word():
    done = RUN.invoke(app, ["explain", "implicit_freqency"])
    assert done.exit_code == 2 and "did you mean 'implicit_frequency'?" in done.stderr
