"""The `nifbuild` command: names the commands and what the terminal sees when one fails."""

import sys
from collections.abc import Callable
from typing import Annotated

import typer

from nifbuild.cli import evaluate, inspect, output, resolve, schema, train, validate

app = typer.Typer(
    name="nifbuild",
    help="CNNs from YAML specs, in which any convolution can learn its filter in the frequency "
    "domain. Validate a spec, train it, evaluate the run.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_options = {"traceback": False}


@app.callback()
def _options_of_all_commands(
    traceback: Annotated[
        bool, typer.Option("--traceback", help="Show Python tracebacks of errors.")
    ] = False,
) -> None:
    _options["traceback"] = traceback


_commands: dict[str, Callable[..., None]] = {
    "validate": validate.validate,
    "resolve": resolve.resolve,
    "inspect": inspect.inspect,
    "schema": schema.schema,
    "train": train.train,
    "evaluate": evaluate.evaluate,
}
for _name, _command in _commands.items():
    app.command(_name)(output.guard(_command, lambda: _options["traceback"]))


def main() -> None:
    """Entry point of the console script and of `python -m nifbuild`."""
    arguments = sys.argv[1:]
    if "--traceback" in arguments:
        # Accepted anywhere on the line: it is typed after the fact, at the end of what failed.
        arguments = ["--traceback", *(a for a in arguments if a != "--traceback")]
    app(args=arguments, prog_name="nifbuild")
