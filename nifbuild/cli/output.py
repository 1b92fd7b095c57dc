"""How commands speak: documents on stdout, people's text and problems on stderr, exit codes."""

import errno
import functools
import io
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ParamSpec, TextIO

import typer

from nifbuild.errors import NifbuildError, Problem, RunError, shown
from nifbuild.machine.terminal import careful_stderr
from nifbuild.report.output_file import noting_files
from nifbuild.runs.documents import without_nan

P = ParamSpec("P")

_told = {"document": False}
"""Whether this command has printed its JSON."""

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 + SIGINT."""

PIPE_CLOSED = 141
"""Exit code where the reader of what is written, such as head, has gone: 128 + SIGPIPE."""

_SHOWN_PLACES = 5


class _Stdout(io.FileIO):
    """Standard output: the result. Where it cannot be written, the command ends.

    Here, as typer and rich write to it, too, each with ideas of its own about a closed pipe.
    """

    def write(self, content: Any) -> int:
        try:
            return super().write(content)
        except OSError as error:
            _discard_what_follows(self.fileno())
            if error.errno == errno.EPIPE:
                sys.exit(PIPE_CLOSED)
            what = f"cannot write to standard output: {error.strerror}"
            print_problems([Problem(what, fix="send it where there is room", code="write")])
            sys.exit(RunError.exit_code)


def _discard_what_follows(descriptor: int) -> None:
    """What is still buffered would fail again when Python flushes it at the end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


@contextmanager
def careful_streams() -> Iterator[None]:
    """While entered, a full disk or a closed pipe behind the standard streams is no traceback.

    Behind stdout it ends the command with one line; behind stderr the command goes on.
    """
    _occupy_closed()
    given = sys.stdout
    # A console, which is no file there; or a stand-in that a caller has put there.
    stays = sys.platform == "win32" or isinstance(given, io.StringIO)
    with careful_stderr():
        if not stays:
            sys.stdout = _text(_Stdout(1, "w", closefd=False), given)
        try:
            yield
        finally:
            try:
                sys.stdout.flush()
            finally:
                sys.stdout = given


def _occupy_closed() -> None:
    """Opens those of the standard streams that are closed.

    The next file to be opened would take the number of one of them otherwise, and what is said
    would be written into it. Such a stdout is for reading, so that writing to it still fails.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDONLY if descriptor < 2 else os.O_WRONLY)


def _text(raw: io.FileIO, given: TextIO | None) -> io.TextIOWrapper:
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=given.encoding if given else "utf-8",
        errors="backslashreplace",  # a letter that the terminal does not have is no reason to end
        line_buffering=raw.isatty(),
    )


def guard(command: Callable[P, None], traceback_wanted: Callable[[], bool]) -> Callable[P, None]:
    """Wraps a command so that errors people can mend end it with one clear message.

    A `NifbuildError` is printed without a traceback (as JSON on stdout when the command was called
    with `--json`, which sets its `json_output` parameter) and ends with the error's exit code. The
    files that it wrote are told on stderr, but with `--quiet`.
    """

    @functools.wraps(command)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        _told["document"] = False
        try:
            _require_working_directory()
            with _telling_files(kwargs.get("quiet") is True):
                command(*args, **kwargs)
        except NifbuildError as error:
            if traceback_wanted():
                raise
            told = _told["document"]  # one document alone: what came after it is for people
            print_problems(
                error.problems, "json" if kwargs.get("json_output") and not told else "text"
            )
            sys.exit(error.exit_code)
        except KeyboardInterrupt:
            if traceback_wanted():
                raise
            typer.echo("interrupted", err=True)
            sys.exit(INTERRUPTED)

    return guarded


@contextmanager
def _telling_files(quiet: bool) -> Iterator[None]:
    """Says which files were written, also where the command then ends with an exit code."""
    with noting_files() as written:
        try:
            yield
        finally:
            if written and not quiet:
                say(f"wrote {', '.join(map(str, written))}", err=True)


def say(line: str, err: bool = False, **style: Any) -> None:
    """Prints a line for people, which may name files, on stdout or on stderr."""
    typer.secho(shown(line), err=err, **style)


def print_document(document: object) -> None:
    """Prints one JSON document on stdout.

    JSON has no NaN and no infinity: such a figure is null, and stderr says which.
    """
    _told["document"] = True
    written, lost = without_nan(document)
    if lost:
        places = ", ".join(lost[:_SHOWN_PLACES]) + (", ..." if len(lost) > _SHOWN_PLACES else "")
        say(f"warning: not finite, and null in JSON: {places}", err=True, fg="yellow")
    typer.echo(json.dumps(written, indent=2))


def _require_working_directory() -> None:
    """Raises RunError where the working directory was deleted, which all paths count from."""
    try:
        Path.cwd()
    except OSError as error:
        what = f"the working directory cannot be found: {error.strerror}"
        fix = "it was deleted or unmounted: change to one that exists, such as `cd ~`"
        raise RunError(Problem(what, fix=fix, code="working-directory")) from error


def print_problems(problems: Iterable[Problem], form: str = "text") -> None:
    """Prints problems as text on stderr, or as JSON or GitHub annotations on stdout."""
    problems = list(problems)
    if form == "json":
        print_document({"ok": not problems, "problems": [as_document(p) for p in problems]})
    elif form == "github":
        for problem in problems:
            typer.echo(as_annotation(problem))
    else:
        for problem in problems:
            head, *rest = str(problem).splitlines()
            typer.secho("error: ", fg="red", bold=True, nl=False, err=True)
            typer.echo("\n".join([head, *rest]), err=True)


def as_document(problem: Problem) -> dict[str, Any]:
    """The problem as plain data; `line` and `column` are null where there is no place."""
    mark = problem.where
    return {
        "file": mark.file if mark else None,
        "line": mark.line if mark and mark.line else None,
        "column": mark.column if mark and mark.line else None,
        "path": problem.path or None,
        "code": problem.code,
        "what": problem.what,
        "fix": problem.fix or None,
    }


def as_annotation(problem: Problem) -> str:
    """The problem as a GitHub Actions workflow command, shown beside the line in a pull request."""
    place = ""
    if problem.where is not None:
        place = f"file={_escape(shown(problem.where.file), in_property=True)}"
        if problem.where.line:
            place += f",line={problem.where.line},col={problem.where.column}"
    body = ": ".join(part for part in (problem.path, problem.what) if part)
    message = "\n".join(part for part in (shown(body), shown(problem.fix, lines=True)) if part)
    return f"::error {place}::{_escape(message)}"


def _escape(text: str, in_property: bool = False) -> str:
    text = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return text.replace(":", "%3A").replace(",", "%2C") if in_property else text
