"""The `nifbuild` command: names the commands and what the terminal sees when one fails."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from nifbuild.cli import (
    ablate,
    analyze,
    bench,
    diff,
    evaluate,
    explain,
    export,
    graph,
    inspect,
    new,
    output,
    predict,
    resolve,
    runs,
    schema,
    shrink,
    specs,
    train,
    validate,
)
from nifbuild.cli.command import as_typed
from nifbuild.errors import Problem, SpecError, shown
from nifbuild.machine import VERSION

_UsageError: type[Exception] = typer.BadParameter.__mro__[1]  # typer exports none but the subclass


class _Commands(TyperGroup):
    """Commands whose usage errors quote the command line, whatever it holds."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """As typer's."""
        with _quoted_safely():
            return super().make_context(*args, **kwargs)

    def invoke(self, *args: Any, **kwargs: Any) -> Any:
        """As typer's."""
        with _quoted_safely():
            return super().invoke(*args, **kwargs)


@contextmanager
def _quoted_safely() -> Iterator[None]:
    try:
        yield
    except _UsageError as error:
        error.message = shown(error.message, lines=True)  # type: ignore[attr-defined]
        raise


app = typer.Typer(
    name="nifbuild",
    cls=_Commands,
    help="CNNs from YAML specs, in which any convolution can learn its filter in the frequency "
    "domain. Validate a spec, train it, evaluate the run, predict.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_options = {"traceback": False}


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"nifbuild {VERSION}")
        raise typer.Exit


@app.callback()
def _options_of_all_commands(
    traceback: Annotated[
        bool, typer.Option("--traceback", help="Show Python tracebacks of errors.")
    ] = False,
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    _options["traceback"] = traceback


_commands: dict[str, Callable[..., None]] = {
    "specs": specs.specs,
    "new": new.new,
    "explain": explain.explain,
    "validate": as_typed(validate.validate),
    "resolve": as_typed(resolve.resolve),
    "inspect": inspect.inspect,
    "diff": diff.diff,
    "graph": as_typed(graph.graph),
    "schema": schema.schema,
    "train": train.train,
    "runs": runs.runs,
    "compare": runs.compare,
    "evaluate": evaluate.evaluate,
    "predict": predict.predict,
    "analyze": analyze.analyze,
    "shrink": shrink.shrink,
    "export": export.export,
    "bench": bench.bench,
}
for _name, _command in _commands.items():
    app.command(_name)(output.guard(_command, lambda: _options["traceback"]))

_studies = typer.Typer(name="ablate", help=ablate.HELP, no_args_is_help=True)
for _name, _command in ablate.COMMANDS.items():
    _studies.command(_name)(output.guard(_command, lambda: _options["traceback"]))
app.add_typer(_studies)


def main() -> None:
    """Entry point of the console script and of `python -m nifbuild`."""
    arguments = sys.argv[1:]
    if "--traceback" in arguments:
        # Accepted anywhere on the line: it is typed after the fact, at the end of what failed.
        arguments = ["--traceback", *(a for a in arguments if a != "--traceback")]
    with output.careful_streams():
        if _wants_json(arguments):
            _run_with_json_errors(arguments)
        else:
            app(args=arguments, prog_name="nifbuild")


def _wants_json(arguments: Sequence[str]) -> bool:
    words = " ".join(arguments)
    return "--json" in arguments or "--format json" in words or "--format=json" in words


def _run_with_json_errors(arguments: Sequence[str]) -> None:
    """Runs a command whose reader expects JSON, even where the command line is wrong."""
    try:
        sys.exit(app(args=arguments, prog_name="nifbuild", standalone_mode=False))
    except _UsageError as error:
        what, _, fix = error.format_message().partition(" Did you mean")  # type: ignore[attr-defined]
        fix = f"did you mean{fix}" if fix else "see nifbuild --help"
        output.print_problems([Problem(what.rstrip("."), fix=fix, code="usage")], "json")
        sys.exit(SpecError.exit_code)
