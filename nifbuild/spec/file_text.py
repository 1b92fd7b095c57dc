"""The text of a spec's file, and what it may not have."""

import codecs
import re
import stat
from pathlib import Path

from nifbuild.errors import Mark, Problem, SpecError, closest_beside

MAX_BYTES = 4 * 2**20
"""Largest file that is read as a spec."""


FORBIDDEN = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that YAML does not allow; surrogates stand for bytes that are not UTF-8."""


def require_printable(text: str, file: str, flag: bool = False) -> None:
    """Raises SpecError, with the place, for a character that no YAML may have.

    Args:
        text: YAML, or another part of a flag.
        file: As in `parse`.
        flag: As in `parse`.
    """
    found = FORBIDDEN.search(text)
    if found is None:
        return
    before = text[: found.start()]
    line, column = before.count("\n") + 1, found.start() - before.rfind("\n")
    mark = Mark(file) if flag else Mark(file, line, column)
    raise SpecError(Problem(forbidden(found[0]), mark, fix="leave it out", code="yaml"))


def forbidden(character: str) -> str:
    """What is wrong with one of them."""
    return f"the character {character!a} cannot stand in a spec"


def read_text(path: Path) -> str:
    """The text of a plain file of no more than `MAX_BYTES`.

    Raises:
        SpecError: If there is none, or it cannot be read.
    """
    return _decoded(_content(path), path)


def _content(path: Path) -> bytes:
    place = Mark(str(path))
    try:
        if path.is_dir():
            raise SpecError(_folder(path))
        about = path.stat()
        if not stat.S_ISREG(about.st_mode) and not stat.S_ISDIR(about.st_mode):
            # Reading a pipe or a device may wait, or go on, for ever.
            what, fix = "this is a pipe, a socket or a device", "a spec is read from a plain file"
            raise SpecError(Problem(what, place, fix=fix, code="unreadable-file"))
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise SpecError(_missing_file(path)) from None
    except OSError as error:
        what = f"cannot read the file: {error.strerror}"
        raise SpecError(Problem(what, place, code="unreadable-file")) from None
    except ValueError as error:  # a name that no file can have
        raise SpecError(
            Problem(f"no file has this name: {error}", place, code="missing-file")
        ) from None
    if images := _images(content, path):
        raise SpecError(images)
    if len(content) > MAX_BYTES:
        size = max(about.st_size, len(content))
        what = f"the file has {size:,} bytes; a spec has at most {MAX_BYTES:,}"
        raise SpecError(Problem(what, place, code="too-large"))
    return content


def is_run(folder: Path) -> bool:
    """Whether a run lies there, by the names of its files."""
    return (folder / "spec.yaml").is_file() and (folder / "environment.json").exists()


def _folder(path: Path) -> Problem:
    """What is to be named in place of a folder."""
    what, fix = "this is a folder", "name a file of YAML in it"
    if is_run(path):
        what = "this is a run, not a spec"
        fix = f"what it trained is {path / 'spec.yaml'}; to look at it: nifbuild evaluate {path}\n"
        fix += f"to go on with it: nifbuild train {path / 'spec.yaml'} --resume"
    elif not any(path.glob("*.yaml")):
        fix = "name a file of YAML; to train on images in a folder: --data FOLDER"
    return Problem(what, Mark(str(path)), fix=fix, code="unreadable-file")


def _missing_file(path: Path) -> Problem:
    folder = path.parent
    what = "no such file" if folder.is_dir() else f"no such file: there is no folder {folder}"
    return Problem(
        what, Mark(str(path)), fix=closest_beside(path, whole=False), code="missing-file"
    )


_IMAGES = (b"\xff\xd8\xff", b"\x89PNG", b"II*\0", b"MM\0*")
"""How JPEG, PNG and TIFF files begin."""
_TABLES = (
    (0, b"PAR1", "a Parquet file", "parquet"),
    (0, b"ARROW1", "an Arrow file", "arrow"),
    (0, b"\xff\xff\xff\xff", "an Arrow file", "arrow"),
    (257, b"ustar", "a tar file", "webdataset"),
)
"""Files with many images: where their mark is, what they are, and the source that reads them."""


def _images(content: bytes, path: Path) -> Problem | None:
    """What is to be named in place of images, one or many."""
    if content.startswith(_IMAGES):
        fix = "to train on images, name the folder of the class folders: --data FOLDER"
        return Problem("this is an image", Mark(str(path)), fix=fix, code="yaml")
    for start, mark, what, source in _TABLES:
        if content.startswith(mark, start):
            fix = "to train on it, write a file that names it, for --data: "
            fix += f"`data: {{source: {source}, files: {{train: {path}}}}}`"
            return Problem(f"this is {what}", Mark(str(path)), fix=fix, code="yaml")
    return None


def _decoded(content: bytes, path: Path) -> str:
    fix = "save it as UTF-8"
    try:
        if content[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) or b"\0" in content[:2]:
            what = "the file is UTF-16 text"
            fix += "; PowerShell's `>` and Notepad's \"Unicode\" write UTF-16"
        else:
            return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        what = f"the file is not UTF-8 text (byte {error.start})"
    raise SpecError(Problem(what, Mark(str(path)), fix=fix, code="yaml"))
