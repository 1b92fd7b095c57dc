"""An option is declared once: the command line and the Python function have the same ones."""

import ast
import collections
import inspect
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import get_args

import pytest
import typer

import nifbuild
from nifbuild.cli.app import app
from nifbuild.cli.command import command, options_of
from nifbuild.errors import RunError, SpecError, keeping

PACKAGE = Path(__file__).parents[2] / "nifbuild"
FUNCTIONS = {
    "inspect": "inspect",
    "train": "train_spec",
    "evaluate": "evaluate_run",
    "predict": "predict",
    "runs": "list_runs",
    "compare": "compare_runs",
    "analyze": "analyze",
    "shrink": "shrink",
    "export": "export",
    "bench": "bench",
}
OF_A_TERMINAL = {"help", "json_output", "quiet", "processes", "markdown"}
"""What a Python program has no use for."""
OF_PYTHON = {"report"}


def function_of(name):
    return getattr(nifbuild, FUNCTIONS[name])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_command_and_function_have_the_same_options(name):
    made = typer.main.get_command(app).commands[name]
    shown = {parameter.name for parameter in made.params} - OF_A_TERMINAL
    parameters = inspect.signature(function_of(name)).parameters
    assert shown == set(parameters) - OF_PYTHON == set(options_of(function_of(name)))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_options_are_shown_in_the_order_of_the_function(name):
    made = typer.main.get_command(app).commands[name]
    shown = [parameter.name for parameter in made.params if parameter.name not in OF_A_TERMINAL]
    assert shown == list(options_of(function_of(name)))


def commands(group):
    for name, made in group.commands.items():
        yield from commands(made) if hasattr(made, "commands") else [(name, made)]


def test_wherever_something_is_written_out_has_a_short_form():
    options = [
        (name, option.opts)
        for name, made in commands(typer.main.get_command(app))
        for option in made.params
        if "--out" in option.opts
    ]
    assert len(options) >= 7
    assert all("-o" in names for _, names in options), options


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_docstring_says_more_than_the_help(name):
    made = typer.main.get_command(app).commands[name]
    assert "Returns:" in function_of(name).__doc__ and "Raises:" in function_of(name).__doc__
    assert made.help and "Returns:" not in made.help and "Raises:" not in made.help
    assert function_of(name).__doc__.startswith(made.help.splitlines()[0])


def help_texts():
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or ast.unparse(node.func).split(".")[0] != "typer":
                continue
            for keyword in node.keywords:
                if keyword.arg == "help" and isinstance(keyword.value, ast.Constant):
                    yield keyword.value.value


def test_each_help_text_is_written_once():
    found = collections.Counter(help_texts())
    assert len(found) > 90
    assert [text for text, times in found.items() if times > 1] == []


def test_public_names_stay_functions_whatever_is_imported():
    code = f"""
        import sys
        import nifbuild
        functions = {sorted(FUNCTIONS.values())!r}
        for name in functions:
            getattr(nifbuild, name)
        assert not {{"torch", "accelerate", "matplotlib"}} & set(sys.modules)
        import nifbuild.evaluate.of_run, nifbuild.evaluate.predict, nifbuild.train.run
        import nifbuild.report.export.exported, nifbuild.report.inspect.result
        import nifbuild.report.shrink.cut, nifbuild.report.analysis.folder
        import nifbuild.report.bench.report_tables, nifbuild.report.train_spec
        import nifbuild.report.evaluate_run, nifbuild.report.predict
        for name in functions:
            assert callable(getattr(nifbuild, name)), name
        for name in nifbuild.__all__:
            getattr(nifbuild, name)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, timeout=120)


def test_the_package_says_that_it_is_typed():
    assert (PACKAGE / "py.typed").is_file()


class Result:
    def document(self):
        return {"done": True}


def unwritten() -> None:
    """Compute, and fail to write.

    Returns:
        Nothing.
    """
    with keeping(Result()):
        raise RunError("the disk is full")


def test_what_cannot_be_written_is_told(capsys):
    with pytest.raises(RunError) as caught:
        unwritten()
    assert caught.value.result.document() == {"done": True}
    run = command(unwritten, lambda result: typer.echo("shown"), quiet=None)
    for json_output, told in ((True, '{\n  "done": true\n}\n'), (False, "shown\n")):
        with pytest.raises(RunError):
            run(json_output=json_output)
        assert capsys.readouterr().out == told


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (
            lambda: nifbuild.export("x", format="onx"),
            r"export\(format='onx'\): .*did you mean 'onnx'",
        ),
        (
            lambda: nifbuild.shrink("x", boundary="zero"),
            r"shrink\(boundary='zero'\): .*did you mean 'zeros'",
        ),
        (lambda: nifbuild.predict("x", "y", top=0), r"predict\(top=0\): 0 is too small"),
        (lambda: nifbuild.analyze("x", images=-1), r"analyze\(images=-1\): -1 is too small"),
        (lambda: nifbuild.bench(seconds=-1.0), r"bench\(seconds=-1.0\): -1.0 is too small"),
        (
            lambda: nifbuild.inspect("x", device="gpu"),
            r"inspect\(device='gpu'\): .*choices: auto, cpu, cuda",
        ),
        (lambda: nifbuild.shrink("x", mass=2), "'2' is no share of a filter"),
        (lambda: nifbuild.train_spec("x", resume=True, overwrite=True), "exclude each other"),
        (lambda: nifbuild.train_spec("x", out=" "), "it is empty: name a directory"),
        (lambda: nifbuild.evaluate_run("x", size="big"), "'big' is no size"),
    ],
)
def test_python_users_hear_of_wrong_values_too(call, told):
    with pytest.raises(SpecError, match="(?s)" + told):
        call()


def test_inspect_knows_the_optimizers_of_specs():
    """Their names stand at the option, too: the command line starts without the models of specs."""
    from nifbuild.spec.optimizers import OPTIMIZERS

    annotation = inspect.signature(nifbuild.inspect).parameters["optimizer"].annotation
    (choices, _) = get_args(annotation)
    assert get_args(choices) == tuple(OPTIMIZERS)
