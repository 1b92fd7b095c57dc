"""Options that several commands share, each declared once.

The public function of a command has these as the types of its parameters; the command line is made
of its signature (`nifbuild.cli.command`). Where a command has to say something else of an option,
it declares its own.
"""

import functools
import inspect
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, Literal, ParamSpec, TypeVar, get_args, get_origin

import typer
from typer.models import OptionInfo, ParameterInfo

from nifbuild.errors import Mark, Problem, SpecError, suggestion

P = ParamSpec("P")
R = TypeVar("R")

AnyPath = str | os.PathLike[str]
Which = Literal["selected", "best", "last"]
"""Checkpoints that people name."""

RunArgument = Annotated[AnyPath, typer.Argument(help="A run directory.", show_default=False)]
SpecArgument = Annotated[AnyPath, typer.Argument(help="The YAML spec.", show_default=False)]
DataOption = Annotated[
    AnyPath | None,
    typer.Option(
        "--data",
        help="Images in place of the spec's: a file with a `data` section, or a folder of images.",
    ),
]
RunDataOption = Annotated[
    AnyPath | None,
    typer.Option(
        "--data",
        help="Images in place of the run's: a file with a `data` section, or a folder of images.",
    ),
]
SetOption = Annotated[
    Sequence[str],
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Set a value, such as train.epochs=3. Repeatable."
    ),
]
RunDeviceOption = Annotated[
    str | None,
    typer.Option("--device", help="auto, cpu, cuda, cuda:1 or mps.", show_default="as in the run"),
]
OverwriteOption = Annotated[
    bool,
    typer.Option(
        "--overwrite", help="Replace the files that are there; in a folder, only nifbuild's own."
    ),
]
CheckpointOption = Annotated[
    Which,
    typer.Option(
        "--checkpoint",
        help="The one that the run's figures are of, the best on validation, or the last.",
    ),
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Show warnings only.")]
"""Of the command line alone: a Python program hears of the progress by `report`."""
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
"""Of the command line alone: a Python program has the result's `document()`."""


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """The public function of a command, which checks choices and least values for Python users.

    On the command line, typer does so before it calls the function.
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        given = signature.bind(*args, **kwargs).arguments
        problems = [
            problem
            for name, value in given.items()
            for problem in _problems(signature.parameters[name], value)
        ]
        if problems:
            raise SpecError(problems)
        return function(*args, **kwargs)

    return call


def _problems(parameter: inspect.Parameter, value: object) -> Iterator[Problem]:
    info = info_of(parameter)
    if value is None or not isinstance(info, OptionInfo):
        return
    what, fix = "", ""
    annotation = get_args(parameter.annotation)[0]
    for each in get_args(annotation) if get_origin(annotation) is not Literal else (annotation,):
        if get_origin(each) is Literal and value not in get_args(each):
            choices = list(map(str, get_args(each)))
            what = f"'{value}' is none of the choices"
            fix = suggestion(str(value), choices, f"choices: {', '.join(choices)}")
    if info.min is not None and isinstance(value, int | float) and not value >= info.min:
        what, fix = f"{value} is too small", f"{info.min:g} is the least"
    if what:
        mark = Mark(f"{flag_of(parameter.name, info)} {value}")
        yield Problem(what, mark, fix=fix, code="option")


def info_of(parameter: inspect.Parameter) -> ParameterInfo | None:
    """What typer is told of a parameter; None: it is no option of the command line."""
    metadata: tuple[Any, ...] = getattr(parameter.annotation, "__metadata__", ())
    return next((info for info in metadata if isinstance(info, ParameterInfo)), None)


def flag_of(name: str, info: OptionInfo) -> str:
    """The flag of an option, such as `--batch-size`."""
    # In an annotation, what would be the default is the first of the flags.
    declared = (word for word in (info.default, *(info.param_decls or ())))
    named = (word for word in declared if isinstance(word, str) and word.startswith("--"))
    return next(named, f"--{name.replace('_', '-')}")
