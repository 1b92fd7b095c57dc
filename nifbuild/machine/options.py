"""Options that several commands share, each declared once.

The public function of a command has these as the types of its parameters; the command line is made
of its signature (`nifbuild.cli.command`). Where a command has to say something else of an option,
it declares its own.
"""

import functools
import inspect
import os
import textwrap
import types
from collections.abc import Callable, Iterator, Sequence
from numbers import Integral, Real
from typing import Annotated, Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin

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
        help="Images in place of the run's: a file with a `data` section, or a folder of images, "
        "which are read as those of training were.",
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
QuietOption = Annotated[
    bool, typer.Option("--quiet", "-q", help="Show the result and warnings, and no progress.")
]
"""Of the command line alone: a Python program hears of the progress by `report`."""
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
"""Of the command line alone: a Python program has the result's `document()`."""


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """A public function that checks its arguments for Python users, and describes them in its help.

    On the command line, typer does both.
    """
    signature, name = inspect.signature(function), function.__name__

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        for key in kwargs.keys() - signature.parameters.keys():
            fix = suggestion(key, list(signature.parameters), f"`help({name})` lists them")
            raise TypeError(f"{name}() has no argument '{key}': {fix}")
        try:
            given = signature.bind(*args, **kwargs).arguments
        except TypeError as error:
            raise TypeError(f"{name}{call_of}: {error}") from None
        problems = [
            problem
            for key, value in given.items()
            for problem in _problems(name, signature.parameters[key], value)
        ]
        if problems:
            raise SpecError(problems)
        return function(*args, **kwargs)

    call_of = signature.replace(
        parameters=[p.replace(annotation=p.empty) for p in signature.parameters.values()],
        return_annotation=signature.empty,
    )
    plain = [p.replace(annotation=_plain(p.annotation)) for p in signature.parameters.values()]
    call.__signature__ = signature.replace(parameters=plain)  # type: ignore[attr-defined]
    call.__doc__ = _with_arguments(inspect.getdoc(function) or "", signature)
    return call


def _plain(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _with_arguments(doc: str, signature: inspect.Signature) -> str:
    """The docstring with a section that has the options' help, where it has none of its own."""
    described = {name: info_of(p) for name, p in signature.parameters.items()}
    lines = [
        textwrap.fill(f"{name}: {info.help}", 96, initial_indent=" " * 4, subsequent_indent=" " * 8)
        for name, info in described.items()
        if info and info.help
    ]
    if not lines or "\nArgs:\n" in doc:
        return doc
    summary, returns, rest = doc.partition("\nReturns:\n")
    return "\n".join([f"{summary}\nArgs:", *lines, f"{returns}{rest}"])


def _problems(function: str, parameter: inspect.Parameter, value: object) -> Iterator[Problem]:
    info, annotation = info_of(parameter), _plain(parameter.annotation)
    if isinstance(annotation, str) or value is parameter.default:
        return
    what, fix = "", ""
    choices = [str(each) for each in _choices(annotation)]
    if not fits(value, annotation):
        if choices and isinstance(value, str):
            what = f"'{value}' is none of the choices"
            fix = suggestion(value, choices, f"choices: {', '.join(choices)}")
        else:
            what = f"expected {_name_of(annotation)}, got {_kind_of(value)}"
            if isinstance(value, str) and fits([value], annotation):
                fix = f"write a list: {parameter.name}=[{value!r}]"
            elif isinstance(value, Real) and fits(str(value), annotation):
                fix = f"write it as a text: {parameter.name}={str(value)!r}"
    least = getattr(info, "min", None)
    if not what and least is not None and isinstance(value, Real) and not value >= least:
        what, fix = f"{value} is too small", f"{least:g} is the least"
    if what:
        given = f"{value!r:.60}" if isinstance(value, str | Real) else "..."
        mark = Mark(f"{function}({parameter.name}={given})")
        yield Problem(what, mark, fix=fix, code="option")


def _choices(annotation: Any) -> list[object]:
    alternatives: tuple[Any, ...] = (annotation, *get_args(annotation))
    literals = [each for each in alternatives if get_origin(each) is Literal]
    return [choice for literal in literals for choice in get_args(literal)]


def _kind_of(value: object) -> str:
    if isinstance(value, list | tuple):
        inner = ", ".join(sorted({type(each).__name__ for each in value}))
        return f"{type(value).__name__}[{inner}]"
    return type(value).__name__


def _name_of(annotation: Any) -> str:
    return inspect.formatannotation(annotation).replace("collections.abc.", "")


def fits(value: object, annotation: Any) -> bool:
    """Whether a value is of a type, as far as the type is one of those that options have."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return any(fits(value, each) for each in args)
    if origin is Literal:
        return value in args
    if origin is tuple:
        items = list(value) if isinstance(value, tuple | list) else []
        return len(items) == len(args) and all(map(fits, items, args))
    if origin in (Sequence, list):
        if not isinstance(value, Sequence) or isinstance(value, str | bytes):
            return False
        return all(fits(each, args[0]) for each in value)
    plain = {bool: bool, int: Integral, float: Real}.get(annotation, origin or annotation)
    if annotation in (int, float) and isinstance(value, bool):
        return False
    return not isinstance(plain, type) or isinstance(value, plain)


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
