"""What lies in folders: image files, what is left out, what a pattern matches. Opens no file."""

import fnmatch
import glob
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from nifbuild.data.decode import image_suffixes
from nifbuild.errors import counted

_MOST_SEARCHED = 10_000
_MOST_LISTED = 100_000
_SHOWN_SUFFIXES = 5
_DROPPINGS = (".ds_store", "thumbs.db", "desktop.ini", "__macosx")
"""What operating systems leave in folders and archives, in lower case: nobody misses it."""


class TooManyFoldersError(Exception):
    """More folders than any data set has: a whole disk, perhaps."""


@dataclass
class LeftOut:
    """What was found and is not used, counted, so that it can be said."""

    _counts: Counter[str] = field(default_factory=Counter)
    _first: dict[str, str] = field(default_factory=dict)
    _suffixes: Counter[str] = field(default_factory=Counter)

    def add(self, path: str, what: str) -> None:
        """Counts what is at `path`; `what` is of the form `file beside the class folders`."""
        self._counts[what] += 1
        self._first.setdefault(what, path)

    def add_file(self, path: str, suffix: str) -> None:
        """Counts a file whose name does not end as that of an image."""
        self._suffixes[suffix] += 1
        self._first.setdefault("", path)

    def text(self) -> str:
        """How much of each kind, and the first one, on one line; empty where there is nothing."""
        found = []
        if self._suffixes:
            ends = [f"{n:,} {end or 'none'}" for end, n in self._suffixes.most_common()]
            ends[_SHOWN_SUFFIXES:] = ["..."] if len(ends) > _SHOWN_SUFFIXES else []
            total = counted(self._suffixes.total(), "file whose suffix is no image's")
            found.append(f"{total} ({', '.join(ends)}), such as '{self._first['']}'")
        for what, number in self._counts.items():
            found.append(f"{counted(number, what)}, such as '{self._first[what]}'")
        return f"left out: {'; '.join(found)}" if found else ""


@dataclass
class Images:
    """The image files of a folder and its subfolders.

    Attributes:
        paths: All that are called as images are, in order.
        special: Those of them that are no plain files: pipes, devices, links to nothing.
    """

    paths: list[str] = field(default_factory=list)
    special: list[str] = field(default_factory=list)


def image_files(folder: str | os.PathLike[str], left_out: LeftOut) -> Images:
    """Lists the images in a folder and its subfolders: the files of each before what is below it.

    Links to folders are followed, but not back to where they lie in.

    Raises:
        OSError: A folder cannot be listed: what it holds would be missing without a word.
        TooManyFoldersError: There are more than 100,000 folders.
    """
    found = Images()
    suffixes = image_suffixes()
    places: list[tuple[str, tuple[str, ...]]] = []
    places.append((os.fspath(folder), (os.path.realpath(folder),)))
    listed = 0
    while places:
        place, above = places.pop()
        listed += 1
        if listed > _MOST_LISTED:
            raise TooManyFoldersError(f"'{folder}' has more than {_MOST_LISTED:,} folders")
        inner = []
        entries = sorted_entries(place)
        if not entries and place != os.fspath(folder):
            left_out.add(place, "empty folder")
        for entry in entries:
            suffix = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122 (a Path for each of a million files takes seconds)
            if is_folder(entry):
                if entry.name.startswith("."):
                    left_out.add(entry.path, "hidden folder")
                elif (chain := _chain(entry, place, above)) is None:
                    left_out.add(entry.path, "link back to a folder that it lies in")
                else:
                    inner.append((entry.path, chain))
            elif suffix not in suffixes:
                if not entry.name.startswith("."):
                    left_out.add_file(entry.path, suffix)
            elif entry.name.startswith("."):
                left_out.add(entry.path, "hidden file")
            else:
                found.paths.append(entry.path)
                if not _is_plain_file(entry):
                    found.special.append(entry.path)
        places += reversed(inner)
    return found


def sorted_entries(folder: str | os.PathLike[str]) -> "list[os.DirEntry[str]]":
    """What a folder holds, by name, hidden entries too, but for what operating systems leave."""
    with os.scandir(folder) as entries:
        found = [entry for entry in entries if entry.name.lower() not in _DROPPINGS]
    return sorted(found, key=lambda entry: entry.name)


def _chain(entry: "os.DirEntry[str]", place: str, above: tuple[str, ...]) -> tuple[str, ...] | None:
    """The real folders that lead to `entry`, one for each link; None where it leads back."""
    if not entry.is_symlink():
        return above
    chain = (*above, os.path.realpath(place))
    target = os.path.realpath(entry.path)
    inside = (os.path.commonpath((target, known)) == target for known in chain)
    return None if any(inside) else (*chain, target)


def matching_files(pattern: str) -> list[str]:
    """The paths that a pattern matches, sorted; `**` is any number of folders, none included.

    As `glob.glob(pattern, recursive=True)`, but that it ends: on the folders of a whole disk, and
    on links that lead back to a folder above, which would give the same files forty times. A last
    `**` stands for files only.

    Raises:
        TooManyFoldersError: It would look through more than 10,000 folders.
    """
    start = "/" if pattern.startswith("/") else ""
    parts = tuple(part for part in pattern.split("/") if part)
    places: list[tuple[str, tuple[str, ...], tuple[str, ...]]] = []
    places.append((start, parts, (os.path.realpath(start or "."),)))
    found: set[str] = set()
    listed = 0
    while places:
        place, (head, *below), above = places.pop()
        rest = tuple(below)
        if not glob.has_magic(head):
            path = os.path.join(place, head)  # noqa: PTH118 (keeps the pattern as written)
            if not rest and os.path.lexists(path):
                found.add(path)
            elif rest and os.path.isdir(path):  # noqa: PTH112
                places.append((path, rest, above))
            continue
        listed += 1
        if listed > _MOST_SEARCHED:
            what = f"the pattern '{pattern}' looks through more than {_MOST_SEARCHED:,} folders"
            raise TooManyFoldersError(what)
        if head == "**" and rest:
            places.append((place, rest, above))
        for path, entry in _matching_entries(place, "*" if head == "**" else head):
            if not is_folder(entry):
                found.update(() if rest else (path,))
            elif head != "**":
                found.update(() if rest else (path,))
                places += [(path, rest, above)] if rest else []
            elif (chain := _chain(entry, place or ".", above)) is not None:
                places.append((path, (head, *rest), chain))
    if pattern.endswith("/"):
        found = {path for path in found if os.path.isdir(path)}  # noqa: PTH112
    return sorted(found)


def _matching_entries(place: str, pattern: str) -> "Iterator[tuple[str, os.DirEntry[str]]]":
    try:
        with os.scandir(place or ".") as entries:
            found = list(entries)
    except OSError:  # of many folders on the way, some may be somebody else's
        return
    for entry in found:
        hidden = entry.name.startswith(".") and not pattern.startswith(".")
        if not hidden and fnmatch.fnmatch(entry.name, pattern):
            yield os.path.join(place, entry.name), entry  # noqa: PTH118


def folders_in(folder: str | os.PathLike[str]) -> list[str]:
    """The names of the folders in it, in order, but for hidden ones and links back to above."""
    above = (os.path.realpath(folder),)
    return [
        entry.name
        for entry in sorted_entries(folder)
        if not entry.name.startswith(".")
        and is_folder(entry)
        and _chain(entry, os.fspath(folder), above) is not None
    ]


def is_folder(entry: "os.DirEntry[str]") -> bool:
    """Whether it is a folder or leads to one; asks the system about links only."""
    try:
        return entry.is_dir()
    except OSError:  # a link that leads nowhere, in a circle, or where one may not look
        return False


def _is_plain_file(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False
