"""What went wrong, where, and how to mend it.

Errors are data: a `Problem` holds the place, the finding and the fix; how they are shown (text,
JSON, annotations) is decided at the edge, in `nifbuild.cli`. A `NifbuildError` is for people who
use the tool; any other exception that escapes is a defect of nifbuild itself. Names that come from
outside, such as those of files, are told by `shown`.
"""

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path

MAX_PROBLEMS = 50
"""Most problems of one kind that are told at once."""
_MAX_WORD = 100
"""Longest word that others are compared with."""
_MAX_CANDIDATES = 500
"""Most words that are compared with one."""
_MAX_LISTED = 40
"""Most names in a list of what was allowed."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in a YAML file, or a command-line flag.

    `line` and `column` count from 1, as editors do. A flag (`file` is its text, such as
    `--set train.epochs=3`) has line 0.
    """

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding.

    Attributes:
        what: The finding, one sentence, naming the offending value.
        where: The place that has to be edited, where there is one.
        path: The value's path in the spec (`train.epochs`) or in the model (`layer1.0.conv1`).
        fix: What was allowed, or what to do instead.
        code: A stable identifier, such as `unknown-field`, for programs that read the errors.
    """

    what: str
    where: Mark | None = None
    path: str = ""
    fix: str = ""
    code: str = "invalid"

    def __str__(self) -> str:
        head = ": ".join(part for part in (str(self.where or ""), self.path, self.what) if part)
        fix = shown(self.fix, lines=True)
        return shown(head) + "".join(f"\n  {line}" for line in fix.splitlines())


class NifbuildError(Exception):
    """Base of the errors that people can mend; ends the command with `exit_code`."""

    exit_code = 1

    def __init__(self, problems: Problem | str | Iterable[Problem], fix: str = "") -> None:
        if isinstance(problems, str):
            problems = Problem(problems, fix=fix)
        self.problems: Sequence[Problem] = (
            (problems,) if isinstance(problems, Problem) else tuple(problems)
        )
        super().__init__("\n".join(str(problem) for problem in self.problems))


class SpecError(NifbuildError):
    """The spec or the command line is wrong; found before anything ran."""

    exit_code = 2


class BudgetError(NifbuildError):
    """The model costs more than its budget."""

    exit_code = 3


class RunError(NifbuildError):
    """Something failed while running: data, disk, device, training."""


class InterruptedRun(NifbuildError):
    """A run was stopped by a signal, after a checkpoint was saved."""

    def __init__(self, problem: Problem, signal_number: int) -> None:
        super().__init__(problem)
        self.exit_code = 128 + signal_number


@contextmanager
def keeping(result: object) -> Iterator[None]:
    """While entered, what is raised carries a result as its attribute `result`.

    So that what took an hour to compute is not lost where it cannot be written.
    """
    try:
        yield
    except BaseException as error:
        error.result = result  # type: ignore[attr-defined]
        raise


def option_problem(flag: str, what: str, fix: str) -> Problem:
    """A problem of an option, such as `--size 12x`."""
    return Problem(what, where=Mark(flag), fix=fix, code="option")


def not_installed(
    package: str, extra: str, where: Mark | None = None, *, path: str = ""
) -> Problem:
    """A problem of a package that one of the extras brings."""
    fix = f"pip install 'nifbuild[{extra}]'"
    return Problem(f"{package} is not installed", where, path, fix=fix, code="package")


def told(problems: Iterable[Problem]) -> list[Problem]:
    """The problems; of very many the first, and that there are more.

    Finding what was meant takes a while for each: of those that are made when asked for, the others
    are not.
    """
    asked = iter(problems)
    first = list(itertools.islice(asked, MAX_PROBLEMS))
    left_out = next(asked, None)
    return first if left_out is None else [*first, more_problems(left_out.where)]


def more_problems(where: Mark | None) -> Problem:
    """Stands for all problems beyond `MAX_PROBLEMS`; the next of them is at `where`."""
    what = f"there are more problems than the {MAX_PROBLEMS} before this one"
    return Problem(what, where, fix="mend those first", code="more")


def listing(names: Iterable[str]) -> str:
    """Names in a row: the first of very many, and how many more there are; or `none`."""
    names = list(names)
    more = len(names) - _MAX_LISTED
    return (", ".join(names[:_MAX_LISTED]) or "none") + (f" and {more:,} more" if more > 0 else "")


def counted(number: int, what: str) -> str:
    """So many of something, whose first word is its noun: `1 file`, `1,200 files that are old`."""
    noun, _, rest = what.partition(" ")
    return f"{number:,} {noun}{'' if number == 1 else 's'} {rest}".rstrip()


def did_you_mean(word: str, candidates: Iterable[str]) -> str:
    """A hint that names the closest candidates, or an empty string where nothing is close."""
    return _question(_closest_of(word, candidates))


def _question(close: Iterable[str]) -> str:
    names = " or ".join(f"'{name}'" for name in close)
    return f"did you mean {names}?" if names else ""


def _closest_of(word: str, candidates: Iterable[str]) -> tuple[str, ...]:
    if len(word) > _MAX_WORD:
        return ()
    # Words of less than three sevenths of the length, or more than seven thirds, are not close.
    similar = (c for c in candidates if 3 * len(c) <= 7 * len(word) and 3 * len(word) <= 7 * len(c))
    return _closest(word, tuple(itertools.islice(similar, _MAX_CANDIDATES)))


def _near(word: str, candidates: list[str]) -> list[str]:
    return get_close_matches(word, candidates, cutoff=0.85)


@lru_cache(maxsize=1000)
def _closest(word: str, candidates: tuple[str, ...]) -> tuple[str, ...]:
    names = sorted(set(candidates))
    close = get_close_matches(word, names, n=2, cutoff=0.6)
    # A slip of one letter leaves no doubt, unless it is one in two words.
    if get_close_matches(word, close, cutoff=0.9) or len(_near(word, close)) == 1:
        close = close[:1]
    return tuple(close)


def closest_beside(
    path: Path, *, whole: bool = True, never: Path | None = None, folders: bool = False
) -> str:
    """The same for a path that does not exist: the closest in its folder.

    A suffix that both have does not make them alike.

    Args:
        path: What was not found.
        whole: Whether paths are named, as they can be typed; else the names in that folder.
        never: One that cannot be meant, in that folder.
        folders: Whether only a folder can be meant.
    """
    siblings: list[Path] = []
    with suppress(OSError):
        entries = [entry for entry in path.parent.iterdir() if not folders or entry.is_dir()]
        there = (path.parent / entry.name for entry in entries)
        siblings = [other for other in there if other not in (path, never)]
    by_stem = {other.stem: str(other) for other in siblings if other.suffix == path.suffix}
    by_name = {other.name: str(other) for other in siblings if other.suffix != path.suffix}
    for word, named in ((path.stem, by_stem), (path.name, by_name)):
        if close := _closest_of(word, named):
            return _question(named[name] if whole else Path(named[name]).name for name in close)
    return ""


def suggestion(word: str, candidates: Iterable[str], listed: str) -> str:
    """A fix: the closest candidates, where something is close, and then what was allowed."""
    return "\n".join(line for line in (did_you_mean(word, candidates), listed) if line)


_OBEYED = re.compile(
    "[\x00-\x1f\x7f-\x9f"  # control characters: colours, titles, cursors of terminals; lines
    "\u2028\u2029"  # lines, too
    "\u200e\u200f\u202a-\u202e\u2066-\u2069"  # the direction of writing
    "\ud800-\udfff]"  # bytes of file names that are no UTF-8, which cannot be printed at all
)


def shown(text: str, *, lines: bool = False) -> str:
    r"""The text with nothing in it that a terminal, a log or a browser would obey.

    Such characters are written as in Python: `\x1b`. All others are left as they are.

    Args:
        text: Anything.
        lines: It has lines and tabs of its own, which stay. A name has none: with a line break
            in it, a file could forge a line of a log.
    """
    return _OBEYED.sub(lambda found: _escaped(found[0], lines), text)


def _escaped(character: str, lines: bool) -> str:
    if lines and character in "\n\t":
        return character
    if "\udc80" <= character <= "\udcff":  # a byte, as `os.fsdecode` gives it
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape", "surrogatepass").decode()
