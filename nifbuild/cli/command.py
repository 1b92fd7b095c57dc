"""A command of the command line, made of the Python function that does the work.

The function's parameters are the command's options, with its types, defaults and help; what its
docstring says before `Returns:` is the help of the command. The command adds what concerns a
terminal alone, such as --quiet and --json, calls the function, and tells its result.
"""

import functools
import inspect
import os
import re
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

from typer.models import OptionInfo

from nifbuild.cli.output import print_document
from nifbuild.machine.loading import loading
from nifbuild.machine.options import JsonOption, QuietOption, flag_of, info_of
from nifbuild.machine.processes import is_first, is_launched

_SECTIONS = re.compile(r"^(Args|Returns|Raises):$", re.MULTILINE)


@dataclass(frozen=True)
class InProcesses:
    """That a command can do its work in several processes.

    Attributes:
        option: The type of `--processes`, with its help.
        check: Gets the command's options, and finds out before any process is started whether they
            are right.
        before: The option that `--processes` is listed before; empty: it is among the last.
    """

    option: Any
    check: Callable[..., None]
    before: str = ""


@contextmanager
def _reporter(quiet: bool) -> Iterator[Any]:
    with loading():
        from nifbuild.machine.progress import reporter
    yield reporter(quiet)


@contextmanager
def status_line(quiet: bool) -> Iterator[Any]:
    """A line that says what is being measured."""
    with loading():
        from nifbuild.machine.terminal import StatusLine
    with StatusLine() as status:
        yield status.show


def command(
    function: Callable[..., Any],
    show: Callable[..., None],
    *,
    name: str = "",
    listening: Callable[[bool], Any] = _reporter,
    quiet: Any = QuietOption,
    flags: Mapping[str, Any] | None = None,
    processes: InProcesses | None = None,
    exit_code: Callable[[Any], int] = lambda result: 0,
) -> Callable[..., None]:
    """The command of a function.

    Args:
        function: What does the work. Where it has a parameter `report`, it tells that of its
            progress. What it has computed and cannot write, an exception of it carries (`keeping`).
        show: Prints its result for people; with --json, `document()` of the result is printed.
        name: Of the command; empty: that of the function.
        listening: For --quiet or not, a context with what hears of the progress.
        quiet: The type of `--quiet`; None: there is none.
        flags: The types of other options that say how the result is shown, which `show` gets.
        processes: For a command that can work in several processes.
        exit_code: That of a command with this result.
    """
    name = name or function.__name__
    own: dict[str, Any] = {} if processes is None else {"processes": processes.option}
    own |= {} if quiet is None else {"quiet": quiet}
    own |= {**(flags or {}), "json_output": JsonOption}

    def run(**given: Any) -> None:
        wanted = {key: given.pop(key) for key in own}
        options = _as_python_wants(function, given)
        first = True
        if processes is not None:
            from nifbuild.machine.launch import launch, require_processes

            if is_launched():
                require_processes(wanted["processes"])
            elif (wanted["processes"] or 1) > 1:
                processes.check(**options)
                launch([*_words(name, function, options), *_flags(wanted)], wanted["processes"])
                return
            first = is_first()

        def tell(result: Any) -> None:
            if not first:
                return
            if wanted["json_output"]:
                print_document(result.document())
            else:
                show(result, **{key: wanted[key] for key in flags or {}})

        with _reporting_failure() if processes else nullcontext():
            result = _result(function, options, tell, first, listening, wanted.get("quiet", False))
        if first and (code := exit_code(result)):
            sys.exit(code)

    _describe(run, name, function, own, processes.before if processes else "")
    return run


def _result(
    function: Callable[..., Any],
    options: dict[str, Any],
    tell: Callable[[Any], None],
    first: bool,
    listening: Callable[[bool], Any],
    quiet: bool,
) -> Any:
    """Calls the function, and tells what it gives, even where that cannot be written."""
    try:
        if first and "report" in inspect.signature(function).parameters:
            with listening(quiet) as report:
                result = function(**options, report=report)
        else:
            result = function(**options)
    except BaseException as error:
        if (kept := getattr(error, "result", None)) is not None:
            tell(kept)
        raise
    tell(result)
    return result


@contextmanager
def _reporting_failure() -> Iterator[None]:
    from nifbuild.machine.launch import reporting_failure

    with reporting_failure():
        yield


def options_of(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Those parameters of a function that are options of its command, by name."""
    parameters = inspect.signature(inspect.unwrap(function)).parameters
    return {name: p for name, p in parameters.items() if info_of(p) is not None}


def _describe(
    run: Callable[..., None],
    name: str,
    function: Callable[..., Any],
    own: Mapping[str, Any],
    before: str,
) -> None:
    """Gives `run` the name, the help and the signature from which typer makes the command."""
    parameters = [_on_command_line(p) for p in options_of(function).values()]
    places = [p.name for p in parameters]
    for key, option in own.items():
        default = None if key == "processes" else False
        parameter = inspect.Parameter(
            key, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=option
        )
        is_placed = key == "processes" and before
        parameters.insert(places.index(before) if is_placed else len(parameters), parameter)
    run.__name__ = name
    run.__doc__ = _SECTIONS.split(inspect.getdoc(function) or "")[0].strip()
    _sign(run, parameters)


def _sign(run: Callable[..., None], parameters: Sequence[inspect.Parameter]) -> None:
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]


def as_typed(function: Callable[..., None]) -> Callable[..., None]:
    """The same function, whose parameters may have the types that Python users like."""

    @functools.wraps(function)
    def run(**given: Any) -> None:
        function(**_as_python_wants(function, given))

    _sign(run, [_on_command_line(p) for p in options_of(function).values()])
    return run


def _on_command_line(parameter: inspect.Parameter) -> inspect.Parameter:
    """The parameter with a type and a default that typer knows."""
    annotation, info = get_args(parameter.annotation)[0], info_of(parameter)
    default = None if parameter.default == () else parameter.default
    typed = _typed(annotation)
    if default is None:
        typed = typed | None
    return parameter.replace(
        kind=inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[typed, info]
    )


def _typed(annotation: Any) -> Any:
    """What a text on the command line is read as, where Python users may give one of several."""
    is_union = get_origin(annotation) in (Union, types.UnionType)
    alternatives = get_args(annotation) if is_union else (annotation,)
    for alternative in alternatives:
        if get_origin(alternative) is Sequence:
            return list[_typed(get_args(alternative)[0])]  # type: ignore[misc]
    if any(get_origin(a) is os.PathLike for a in alternatives):
        return Path
    if str in alternatives:
        return str
    return next(a for a in alternatives if a is not types.NoneType)


def _as_python_wants(function: Callable[..., Any], given: dict[str, Any]) -> dict[str, Any]:
    """The values without those that were not given, for which the function has its defaults."""
    return {
        name: value
        for name, value in given.items()
        if value is not None and not (value == [] and options_of(function)[name].default == ())
    }


def _words(name: str, function: Callable[..., Any], options: Mapping[str, Any]) -> list[str]:
    """The command line that gives the function these options."""
    words = [sys.executable, "-m", "nifbuild", name]
    for key, parameter in options_of(function).items():
        value = options.get(key, parameter.default)
        if value == parameter.default:
            continue
        info = info_of(parameter)
        if not isinstance(info, OptionInfo):
            words.append(str(value))
            continue
        flag = flag_of(key, info)
        if value is True:
            words.append(flag)
        else:
            values = value if isinstance(value, list) else [value]
            words += [f"{flag}={each}" for each in values]
    return words


def _flags(wanted: Mapping[str, Any]) -> list[str]:
    """The flags of the command line alone, for a process that does the command's work."""
    return [f"--{key.removesuffix('_output')}" for key, value in wanted.items() if value is True]
