"""What in a folder is a run's: told by content, as names such as `data.json` are anybody's.

A run is told by its spec and its environment together. Only what this module finds to be of a run
is ever replaced or deleted; and what cannot be read is an error, as it may be anything.
"""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from nifbuild.errors import Problem, RunError, SpecError
from nifbuild.machine.files import REMOVING, WRITING
from nifbuild.machine.sealed_text import is_sealed
from nifbuild.runs.documents import Document, read_document, says_nifbuild
from nifbuild.runs.lock import LOCK, locked
from nifbuild.spec.same_training import training_changes
from nifbuild.spec.source import Map, parse

FILES = (
    "spec.yaml",
    "environment.json",
    "data.json",
    "init.json",
    "shrink.json",
    "metrics.jsonl",
    "metrics.json",
    "best.json",
)
"""The files of a run."""

CARD, PAGE = "README.md", "report.html"
PAGES = (CARD, PAGE)
"""Files for people: a run's as long as they are as they were written, else theirs, and they stay.
Others have files of these names, so that a folder with one may become a run."""

FOLDERS = ("checkpoints", "tensorboard", "finetuned")
"""The folders whose content tells that it is a run's."""

SHARED_FOLDERS = ("wandb", "analysis")
"""Those where that cannot be told, as other programs and people write there: they stay."""

_STEP = re.compile(r"step_(\d{8,})")
_UNFINISHED_STEP = re.compile(rf"(?:{re.escape(WRITING)}|{re.escape(REMOVING)})step_\d{{8,}}")
_IN_CHECKPOINT = (
    "model.safetensors",
    "ema.safetensors",
    "optimizer.pt",
    "progress.json",
    f"{WRITING}progress.json",
)
_EVENTS = b"brain.Event:2"
"""What the first record of TensorBoard's files says."""

IsOwn = Callable[[Document], bool]
"""Whether a checkpoint's `identity` is that of the run in question."""


def entries(folder: Path) -> list[Path]:
    """What is in a folder, by name; nothing where there is no folder.

    Raises:
        RunError: If that cannot be told.
    """
    try:
        with os.scandir(folder) as found:
            return sorted(Path(entry.path) for entry in found)
    except FileNotFoundError as error:
        if not folder.is_symlink():
            return []
        raise _unreadable(folder, "it is a link to what is not there") from error
    except OSError as error:
        raise _unreadable(folder, error.strerror or str(error)) from error


def _unreadable(path: Path, reason: str) -> RunError:
    fix = "make it readable, or bring it back; nothing was changed"
    return RunError(Problem(f"{path} cannot be read: {reason}", fix=fix, code="load"))


def runs_within(folder: Path) -> list[Path]:
    """The runs directly in a folder, by the names of their files; none if it cannot be read."""
    with suppress(RunError, OSError):
        return [
            path
            for path in (entries(folder) if folder.is_dir() else ())
            if all((path / name).is_file() for name in ("spec.yaml", "environment.json"))
        ]
    return []


def holds_run(folder: Path) -> bool:
    """Whether a run is there, complete or not.

    Raises:
        SpecError: If what is there has names of a run's, and is none.
        RunError: If it cannot be told.
    """
    names = {path.name for path in entries(folder)}
    begun = "environment.json" in names and says_nifbuild(folder / "environment.json")
    specified = "spec.yaml" in names and _is_spec(folder / "spec.yaml")
    if begun and specified:
        return True
    taken = _taken(folder, names)
    # The environment is the first file that a run has, and the last that goes.
    if taken <= ({"environment.json", f"{WRITING}spec.yaml"} if begun else set()):
        return begun
    telling = "spec.yaml" if begun else "environment.json"
    reason = "tells of none" if telling in names else "is missing"
    what = f"{folder} holds {', '.join(sorted(taken))}, and is not a run: {telling} {reason}"
    fix = f"write elsewhere with --out DIR\nif it was a run, copy its {telling} back"
    raise SpecError(Problem(what, fix=fix, code="not-a-run"))


def _taken(folder: Path, names: set[str]) -> set[str]:
    """Those names in a folder that a run would use; empty folders do not count."""
    taken = {name for name in (*FILES, *(f"{WRITING}{name}" for name in FILES)) if name in names}
    first = f"{WRITING}environment.json"
    if first in taken and _is_unfinished_environment(folder / first):
        taken.remove(first)
    for name in (*FOLDERS, *SHARED_FOLDERS):
        path = folder / name
        if name in names and (not path.is_dir() or path.is_symlink() or entries(path)):
            taken.add(name)
    return taken


def _is_spec(path: Path) -> bool:
    if not path.is_file():
        return False
    try:
        tree = parse(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from error
    except (SpecError, ValueError):
        return False
    return isinstance(tree, Map) and {"version", "name", "model"} <= set(tree.entries)


def _is_unfinished_environment(path: Path) -> bool:
    begin = b'{\n  "starts": '
    return _is_plain(path) and _head(path, len(begin)) == begin[: path.stat().st_size]


def _is_plain(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _head(path: Path, length: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(length)
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from error


# Checkpoints


def step_of(path: Path) -> int | None:
    """The step that a checkpoint's name tells; None for other names."""
    match = _STEP.fullmatch(path.name)
    return int(match[1]) if match else None


def is_checkpoint(path: Path) -> bool:
    """Whether a folder is a checkpoint, and not a copy of one under another step's name.

    One that is damaged counts: it must be told of, not passed over.
    """
    step = step_of(path)
    if step is None or not path.is_dir():
        return False
    try:
        stated: int = read_document(path / "progress.json")["progress"]["step"]
    except RunError:
        return True
    return stated == step


def is_own_checkpoint(path: Path, is_own: IsOwn) -> bool:
    """Whether a folder is a checkpoint of a run, and holds nothing else.

    Args:
        path: The folder.
        is_own: Whether the identity that the checkpoint holds is the run's.
    """
    if step_of(path) is None or path.is_symlink() or not is_checkpoint(path):
        return False
    try:
        identity = read_document(path / "progress.json")["identity"]
        return is_own(identity) and _holds_only_its_files(path)
    except RunError:
        return False


def _holds_only_its_files(path: Path) -> bool:
    return all(file.name in _IN_CHECKPOINT and _is_plain(file) for file in entries(path))


# What may go


def own_pages(folder: Path) -> Iterator[Path]:
    """Those of `PAGES` that are as they were written."""
    yield from (page for name in PAGES if is_sealed(page := folder / name))


def unfinished(folder: Path) -> Iterator[Path]:
    """What a crash has left in a run of what was being written or removed.

    Raises:
        RunError: If a folder cannot be read.
    """
    names = (*FILES, *PAGES)
    yield from (path for name in names if _is_plain(path := folder / f"{WRITING}{name}"))
    for name in FOLDERS:
        removed = folder / f"{REMOVING}{name}"
        if removed.is_dir() and not any(_FOREIGN[name](removed, folder)):
            yield removed
    for path in entries(folder / "checkpoints"):
        rest = path / f"{WRITING}progress.json"
        if is_checkpoint(path) and _is_plain(rest):
            yield rest
        elif _is_unfinished_step(path):
            yield path


def _is_unfinished_step(path: Path) -> bool:
    named = _UNFINISHED_STEP.fullmatch(path.name) is not None
    return named and path.is_dir() and not path.is_symlink() and _holds_only_its_files(path)


def require_own(folder: Path) -> None:
    """Makes sure that all in the folders of a run is the run's, so that they may be deleted.

    Raises:
        SpecError: If something else lies there.
        RunError: If it cannot be told, or another process writes there.
    """
    foreign = [str(path.relative_to(folder)) for path in _foreign_within(folder)]
    if foreign:
        more = f", and {len(foreign) - 5} more" if len(foreign) > 5 else ""
        what = f"{folder} holds what is not this run's: {', '.join(foreign[:5])}{more}"
        fix = "move it away, or write elsewhere with --out DIR"
        raise SpecError(Problem(what, fix=fix, code="foreign-files"))


def _foreign_within(folder: Path) -> Iterator[Path]:
    for name in FILES[1:]:  # the spec has told already that it is one
        file = folder / name
        if file.is_symlink() or (file.exists() and not says_nifbuild(file)):
            yield file
    for name in FOLDERS:
        for path in (folder / name, folder / f"{REMOVING}{name}"):
            if path.is_symlink() or (path.exists() and not path.is_dir()):
                yield path
            else:
                yield from _FOREIGN[name](path, folder)


def _foreign_to_checkpoints(path: Path, run: Path) -> Iterator[Path]:
    spec = run / "spec.yaml"
    text = spec.read_text(encoding="utf-8") if spec.is_file() else None

    def is_own(identity: Document) -> bool:
        return text is None or not training_changes(identity["spec"], text)

    for entry in entries(path):
        if not is_own_checkpoint(entry, is_own) and not _is_unfinished_step(entry):
            yield entry


def _foreign_to_tensorboard(path: Path, run: Path) -> Iterator[Path]:
    for entry in entries(path):
        named = entry.name.startswith("events.out.tfevents.") and _is_plain(entry)
        if not named or (entry.stat().st_size and _EVENTS not in _head(entry, 64)):
            yield entry


def _foreign_to_finetuned(path: Path, run: Path) -> Iterator[Path]:
    found = entries(path)
    if not found:
        return
    try:
        is_run = holds_run(path)
    except SpecError:
        is_run = False
    if not is_run:
        yield path
        return
    with locked(path):  # else it is being written
        known = {*FILES, *FOLDERS, LOCK, *(entry.name for entry in unfinished(path))}
        known |= {page.name for page in own_pages(path)}
    yield from (entry for entry in found if entry.name not in known)
    yield from _foreign_within(path)


_FOREIGN: dict[str, Callable[[Path, Path], Iterator[Path]]] = {
    "checkpoints": _foreign_to_checkpoints,
    "tensorboard": _foreign_to_tensorboard,
    "finetuned": _foreign_to_finetuned,
}
"""By folder, what in it is not of the run."""
