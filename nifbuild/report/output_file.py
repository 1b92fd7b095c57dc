"""Files that people ask for: over nothing that they would miss.

A file that is named (`--csv FILE`) is replaced where `--overwrite` is given. In a folder that is
named (`--out DIR`), nobody has named the files: there, only what nifbuild has made is replaced, and
a file is nifbuild's only if its content says so.
"""

import csv
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

from nifbuild.errors import Mark, Problem, RunError, SpecError, shown
from nifbuild.machine.files import is_full, move_in, staging_folder, try_writing

_MADE = b"made by nifbuild "
_SEARCHED_BYTES = 4096
_NOTED: ContextVar[list[Path] | None] = ContextVar("noted", default=None)


# Before the work


def file_problem(
    option: str, path: Path, endings: Sequence[str] = (), *, overwrite: bool
) -> Problem | None:
    """What keeps a file from being written, or None.

    Args:
        option: That which names the file, such as `--plot`.
        path: The file.
        endings: Those that name a format, such as `.png`; none: any will do.
        overwrite: What is there is to be replaced.
    """
    mark = Mark(f"{option} {path}")
    if endings and path.suffix.lower() not in endings:
        what, fix = f"'{path}' names no known format", f"end it in {', '.join(endings)}"
        return Problem(what, mark, fix=fix, code="option")
    fix = "name a file in a directory that you may write to"
    try:
        if path.is_dir() or (path.exists() and not path.is_file()):
            kind = "a directory" if path.is_dir() else "no ordinary file"
            what, fix = f"cannot write to {path}: it is {kind}", f"name a file: {option} FILE"
            return Problem(what, mark, fix=fix, code="not-a-file")
        if os.path.lexists(path) and not overwrite:
            return _exists(path, mark, option)
        if not os.path.lexists(path.parent):
            what = f"cannot write to {path}: there is no folder {path.parent}"
            return Problem(what, mark, fix=f"make it, or {fix}", code="missing-folder")
        try_writing(path.parent, path.name)
    except OSError as error:
        return _unwritable(path, error, mark, fix)
    return None


def require_files(
    option: str, paths: Sequence[Path], endings: Sequence[str] = (), *, overwrite: bool
) -> None:
    """Raises SpecError unless all these files can be written; arguments as for `file_problem`."""
    found = [file_problem(option, path, endings, overwrite=overwrite) for path in paths]
    problems = [problem for problem in found if problem is not None]
    # The same file on some systems, too: what is written second would replace the first.
    for place, path in enumerate(paths):
        if any(_same(path, other) for other in paths[:place]):
            mark = Mark(f"{option} {path}")
            problems.append(Problem(f"'{path}' is named twice", mark, fix="leave one out"))
    if problems:
        raise SpecError(problems)


def require_folder(option: str, folder: Path, names: str, *, overwrite: bool) -> None:
    """Raises SpecError unless files of the given names can be written to a folder.

    Args:
        option: That which names the folder.
        folder: It need not be there yet.
        names: A pattern for all names that may be written.
        overwrite: Those that nifbuild has made are to be replaced.
    """
    mark = Mark(f"{option} {folder}")
    fix = f"name a directory that you may write to: {option} DIR"
    there = folder
    while not os.path.lexists(there) and there != there.parent:
        there = there.parent
    problem = None
    try:
        if not there.is_dir():
            what = f"cannot write to {folder}: a file is in the way"
            problem = Problem(what, mark, fix=fix, code="not-a-folder")
        else:
            try_writing(there, folder.name)
            problem = _in_the_way(option, there, names, overwrite) if there == folder else None
    except OSError as error:
        problem = _unwritable(folder, error, mark, fix)
    if problem is not None:
        raise SpecError(problem)


def is_made_here(path: Path) -> bool:
    """Whether a file says that nifbuild has made it; a link never does."""
    try:
        if path.is_symlink() or not path.is_file():
            return False
        with path.open("rb") as file:
            head = file.read(_SEARCHED_BYTES)
            file.seek(max(0, os.fstat(file.fileno()).st_size - _SEARCHED_BYTES))
            return _MADE in head or _MADE in file.read()
    except OSError:  # what cannot be read does not say so
        return False


def _in_the_way(option: str, folder: Path, names: str, overwrite: bool) -> Problem | None:
    mark = Mark(f"{option} {folder}")
    # As file systems that do not tell capital letters apart would have it.
    wanted = re.compile(names, re.IGNORECASE)
    there = sorted(path.name for path in folder.iterdir() if wanted.fullmatch(path.name))
    foreign = [name for name in there if not is_made_here(folder / name)]
    if foreign:
        return _foreign(folder, foreign, mark, option)
    return _exists(folder / there[0], mark, option) if there and not overwrite else None


def _exists(path: Path, mark: Mark, option: str) -> Problem:
    fix = f"write elsewhere with {option}, or add --overwrite"
    return Problem(f"{path} exists", mark, fix=fix, code="file-exists")


def _foreign(folder: Path, names: Sequence[str], mark: Mark, option: str) -> Problem:
    verb = "was" if len(names) == 1 else "were"
    what = f"{', '.join(names)} in {folder} {verb} not made by nifbuild, and would be replaced"
    fix = f"move what you need, or write elsewhere with {option} DIR"
    return Problem(what, mark, fix=fix, code="file-exists")


def _same(one: Path, other: Path) -> bool:
    return str(one.absolute()).casefold() == str(other.absolute()).casefold()


def _unwritable(path: Path, error: OSError, mark: Mark, fix: str) -> Problem:
    what = f"cannot write to {path}: {error.strerror or error}"
    return Problem(what, mark, fix=fix, code="write")


# After it


@contextmanager
def written_file(option: str, path: Path, *, overwrite: bool) -> Iterator[Path]:
    """A file of that name, which takes its place when it is complete.

    Args:
        option: That which names the file.
        path: The file.
        overwrite: What is there is replaced.

    Raises:
        RunError: It cannot be written, or a file has appeared there. Nothing has changed then.
    """
    with _aside(option, path, path.parent) as aside:
        yield aside / path.name
        files = sorted(aside.iterdir())  # beside it, what a format keeps in a file of its own
        targets = [path.parent / file.name for file in files]
        for target in targets:
            if os.path.lexists(target) and not overwrite:
                raise RunError(_exists(target, Mark(f"{option} {path}"), option))
        move_in(files, path.parent, overwrite=overwrite)
    note_written(*targets)


def note_written(*paths: Path) -> None:
    """Notes files that were written, for `noting_files`."""
    if (noted := _NOTED.get()) is not None:
        noted += paths


@contextmanager
def noting_files() -> Iterator[list[Path]]:
    """While entered, a list of the files that are written, to tell people."""
    noted: list[Path] = []
    before = _NOTED.set(noted)
    try:
        yield noted
    finally:
        _NOTED.reset(before)


@contextmanager
def written_folder(option: str, folder: Path, names: str, *, overwrite: bool) -> Iterator[Path]:
    """A folder for files of the given names, which take their places when all are complete.

    Those of an earlier time that were not made again are removed. Arguments as for
    `require_folder`.

    Raises:
        RunError: They cannot be written, or would replace what is not nifbuild's. Nothing has
            changed then.
    """
    made = [p for p in (folder, *folder.parents) if not os.path.lexists(p)]
    try:
        with _aside(option, folder, folder) as aside:
            yield aside
            if problem := _in_the_way(option, folder, names, overwrite):
                raise RunError(problem)
            files = list(aside.iterdir())
            new = {file.name for file in files}
            old = [p for p in folder.iterdir() if re.fullmatch(names, p.name) and p.name not in new]
            move_in(files, folder, overwrite=overwrite)
            for path in old:
                path.unlink()
    finally:
        for path in made:  # nothing is left where it failed
            with suppress(OSError):
                path.rmdir()


def write_table(path: Path, rows: Iterable[Sequence[object]]) -> None:
    """Writes a CSV file; of names, what a terminal would obey is escaped, but for lines."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        for row in rows:
            writer.writerow([shown(v, lines=True) if isinstance(v, str) else v for v in row])


@contextmanager
def _aside(option: str, path: Path, folder: Path) -> Iterator[Path]:
    try:
        folder.mkdir(parents=True, exist_ok=True) if folder == path else None
        with staging_folder(folder) as aside:
            yield aside
    except OSError as error:
        what = f"cannot write to {path}: {error.strerror or error}"
        fix = "make room, or write elsewhere" if is_full(error) else "write where you may"
        raise RunError(Problem(what, fix=f"{fix}: {option}", code="write")) from error
