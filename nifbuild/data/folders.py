"""Folders of image files, a folder for each class.

Read here rather than by the `imagefolder` builder of `datasets`: that one takes words in file and
class names (`train`, `test`) for splits, leaves out empty class folders without a word, and copies
every path to its cache.
"""

import os
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from nifbuild.data.class_names import composed
from nifbuild.data.decode import UnreadableImageError, no_plain_file, readable
from nifbuild.data.listing import (
    LeftOut,
    TooManyFoldersError,
    folders_in,
    image_files,
    is_folder,
    sorted_entries,
)
from nifbuild.errors import Problem, RunError, SpecError, closest_beside, suggestion
from nifbuild.spec.data import ImageFolderData
from nifbuild.spec.file_text import is_run
from nifbuild.spec.pixel_data import SegmentationData
from nifbuild.spec.splits import USUAL_NAMES, Splits, role_meant, same_name

if TYPE_CHECKING:
    import datasets


_CLOSE = 0.7
"""How alike two names are that may be one misspelt: `tset` and `test` are at 0.75."""
_NAMED_FILES = 10


def read_folders(spec: ImageFolderData, left_out: LeftOut) -> "dict[str, datasets.Dataset]":
    """The splits of a folder, with the columns `image` (paths) and `label`.

    Args:
        spec: What the YAML says.
        left_out: Is told of files and folders that are not used.

    Raises:
        SpecError: The folder is not there, or is not a folder, or its folders look like splits of
            other names.
        RunError: A class has no image, or a split has a class that the training split lacks; a
            folder cannot be read.
    """
    root = folder_of(spec)
    with listing_folders():
        if not root.is_dir():
            raise SpecError(missing_folder(root))
        folders, classes, names = _splits_and_classes(spec)
        if list(folders.values()) != [root]:
            _count_beside(root, folders, "the split folders", left_out)
        for split, folder in folders.items():
            used = [member.name for member in classes[split].values()]
            _count_beside(folder, used, "the class folders", left_out)
        return {split: _table(spec, members, names, left_out) for split, members in classes.items()}


def folder_of(spec: ImageFolderData | SegmentationData) -> Path:
    """The folder that the YAML names."""
    return Path(os.path.expanduser(spec.path))  # noqa: PTH111 (`Path` refuses an unknown user)


def class_names(spec: ImageFolderData) -> tuple[str, ...]:
    """The names of the classes of a folder that is there, by the names of folders alone.

    Raises:
        SpecError, RunError: As `read_folders`, but for what it finds among files of classes.
    """
    with listing_folders():
        _, classes, names = _splits_and_classes(spec)
        folders = [folder for members in classes.values() for folder in members.values()]
        empty = [_empty_class(folder) for folder in folders if not any(folder.iterdir())]
        if empty:
            raise RunError(empty)
        return tuple(names)


def _splits_and_classes(
    spec: ImageFolderData,
) -> tuple[dict[str, Path], dict[str, dict[str, Path]], list[str]]:
    """The folders of the splits, those of the classes in each, and the names of the classes."""
    root = folder_of(spec)
    folders = _split_folders(root, spec.splits) or {"train": root}
    classes = {split: _class_folders(folder) for split, folder in folders.items()}
    train = spec.splits.roles(folders)["train"]
    names = list(classes.get(train, next(iter(classes.values()))))
    for split, members in classes.items():
        _check_known(folders[split], members, names, train)
    return folders, classes, names


@contextmanager
def listing_folders() -> Iterator[None]:
    """A folder that cannot be listed is not one that is empty."""
    try:
        yield
    except TooManyFoldersError as error:
        fix = "name the folder that holds the class folders"
        raise SpecError(
            Problem(str(error), path="data.path", fix=fix, code="too-many-folders")
        ) from None
    except OSError as error:
        raise RunError(
            Problem(
                f"'{error.filename}' cannot be read: {error.strerror}",
                path="data.path",
                fix="check its permissions",
                code="unreadable-source",
            )
        ) from error


def missing_path_fix(path: Path) -> str:
    """What to do about a path that does not exist: close names beside it."""
    parent = path.parent.resolve()
    there = f"looked in {parent}" if parent.is_dir() else f"there is no folder {parent}"
    return "\n".join(filter(None, (closest_beside(path), there)))


def missing_folder(root: Path) -> Problem:
    """That there is no such folder, and what there is."""
    if root.exists():
        return Problem(
            f"'{root}' is a file, not a folder",
            path="data.path",
            fix="name the folder that holds the class folders",
            code="not-a-folder",
        )
    return Problem(
        f"there is no folder '{root}'",
        path="data.path",
        fix=missing_path_fix(root),
        code="missing-folder",
    )


def _count_beside(folder: Path, used: Collection[str], what: str, left_out: LeftOut) -> None:
    for entry in sorted_entries(folder):
        hidden = entry.name.startswith(".")
        if is_folder(entry) and entry.name not in used:
            left_out.add(entry.path, f"{'hidden ' if hidden else ''}folder beside {what}")
        elif not is_folder(entry) and not hidden:
            left_out.add(entry.path, f"file beside {what}")


def _split_folders(root: Path, named: Splits) -> dict[str, Path]:
    """The folders of splits, or none where `root` holds the classes itself.

    A folder called `train` that holds images rather than folders is a class (of trains).

    Raises:
        SpecError: A folder looks like a split of another name: it would be left out, or its
            classes would all be one, without a word.
    """
    names = folders_in(root)
    nested = [name for name in names if folders_in(root / name)]
    usual = [name for names in USUAL_NAMES.values() for name in names]
    found = [name for name in nested if name in named.named.values() or same_name(name) in usual]
    if found:
        _check_twice(root, [name for name in found if name not in named.named.values()])
        _check_misspelt(root, [name for name in nested if name not in found], found, named)
    if found and "train" in named.roles(found):
        return {name: root / name for name in found}
    _check_meant(root, names, nested)
    return {}


def _check_twice(root: Path, found: Collection[str]) -> None:
    keys = Counter(map(same_name, found))
    alike = [name for name in found if keys[same_name(name)] > 1]
    if alike:
        raise SpecError(
            Problem(
                f"the folders {_quoted(alike)} in '{root}' differ in case only",
                path="data.path",
                fix="join them, or move one of them elsewhere",
                code="unused-split",
            )
        )


def _check_misspelt(root: Path, unused: list[str], found: Collection[str], named: Splits) -> None:
    """Raises SpecError where an unused folder is called nearly as a split that is missing."""
    known = {same_name(name) for name in found}
    missing = {
        name: role
        for role, names in USUAL_NAMES.items()
        if role not in named.named and not known.intersection(names)
        for name in names
    }
    problems = []
    for folder in unused:
        close = get_close_matches(folder.lower(), missing, n=1, cutoff=_CLOSE)
        role = missing[close[0]] if close else role_meant(folder)
        if role is None or role not in missing.values():
            continue
        problems.append(
            Problem(
                f"nothing uses the folder '{root / folder}', which has folders as a split has",
                path="data.path",
                fix=f"did you mean '{close[0] if close else role}'?\nrename it, or say what it is: "
                f"`splits: {{{role}: {folder}}}`; or move it elsewhere",
                code="unused-split",
            )
        )
    if problems:
        raise SpecError(problems)


def _check_meant(root: Path, names: list[str], nested: list[str]) -> None:
    """Raises SpecError where what would be taken for the classes has names as splits have."""
    meant = {name: role for name in nested or names if (role := role_meant(name)) is not None}
    # One such class among others may be so called. Without folders in them, others tell.
    some = len(set(meant.values())) > 1 if nested else False
    every = len(meant) == len(nested or names) and (bool(nested) or len(set(meant.values())) > 1)
    if not meant or not (some or every):
        return
    roles: dict[str, str] = {}
    for name, role in meant.items():
        roles.setdefault(role, name)
    given = ", ".join(f"{role}: {name}" for role, name in roles.items())
    fix = f"say what they are: `splits: {{{given}}}`"
    if not all(re.fullmatch(r"\w+(\.\w+)*", name) for name in roles.values()):
        fix = f"rename them: {', '.join(f'{name!r} to {role!r}' for role, name in roles.items())}"
    if not nested:
        fix = "put the images of each class into a folder of its own in each of them"
    elif "train" not in roles:
        fix = "add a folder `train` beside them"
    raise SpecError(
        Problem(
            f"the folders {_quoted(list(meant))} in '{root}' are called as splits are, not classes",
            path="data.path",
            fix=fix,
            code="unused-split",
        )
    )


def _quoted(names: Collection[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


def _class_folders(folder: Path) -> dict[str, Path]:
    """The folders of the classes, by the names of the classes in order.

    Raises:
        RunError: There is none; a name is not UTF-8; or two are the same but for how Unicode
            writes them, which nobody can see.
    """
    found: dict[str, Path] = {}
    problems = []
    for name in folders_in(folder):
        label = composed(name)
        what, fix = "", "rename it"
        if any("\ud800" <= letter <= "\udfff" for letter in name):
            what = f"the name of the class folder '{folder / name}' is not UTF-8"
        elif label in found:
            what = f"there are two class folders '{label}' in '{folder}', which differ in their "
            what += f"Unicode form only: {found[label].name!a} and {name!a}"
            fix = "move the images of both into one of them"
        if what:
            problems.append(Problem(what, path="data.path", fix=fix, code="class-name"))
        found[label] = folder / name
    if problems:
        raise RunError(problems)
    if not found:
        raise RunError(
            Problem(
                f"'{folder}' has no class folders",
                path="data.path",
                fix="put the images of each class into a folder with the name of the class",
                code="no-classes",
            )
        )
    return dict(sorted(found.items()))


def _check_known(folder: Path, members: Collection[str], names: list[str], train: str) -> None:
    """Raises RunError where a split has a class that training lacks."""
    extra = [name for name in members if name not in names]
    if extra:
        raise RunError(
            Problem(
                f"the class '{extra[0]}' in '{folder}' is not among the classes of '{train}'",
                path="data.path",
                fix=suggestion(extra[0], names, f"'{train}' has {names}"),
                code="unseen-class",
            )
        )


def _table(
    spec: ImageFolderData, members: dict[str, Path], names: list[str], left_out: LeftOut
) -> "datasets.Dataset":
    """The images of a split, and the places of their classes in `names`."""
    import datasets

    paths: list[str] = []
    labels: list[int] = []
    special: list[str] = []
    problems: list[Problem] = []
    for name, member in members.items():
        images = image_files(member, left_out)
        paths += images.paths
        special += images.special
        labels += [names.index(name)] * len(images.paths)
        if not images.paths:
            problems.append(_empty_class(member))
        else:
            _check_undivided(member, images.paths)
    if problems:
        raise RunError(problems)
    if special and spec.unreadable == "error":
        raise RunError(map(_special, special[:_NAMED_FILES]))
    features = datasets.Features(
        # Bytes, as names of files need not be UTF-8.
        image={name: datasets.Value("large_binary") for name in ("bytes", "path")},
        label=datasets.ClassLabel(names=names),
    )
    cells = as_cells(paths)
    # `Dataset.from_dict` would take ten times as long for a million of them.
    columns = [cells, pa.array(labels, pa.int64())]
    return datasets.Dataset(pa.table(columns, schema=features.arrow_schema))


def as_cells(paths: Sequence[str]) -> pa.StructArray:
    """What a column of image files holds."""
    # Bytes, as names of files need not be UTF-8.
    encoded = pa.array([os.fsencode(path) for path in paths], pa.large_binary())
    return pa.StructArray.from_arrays(
        [pa.nulls(len(paths), pa.large_binary()), encoded], names=["bytes", "path"]
    )


def _empty_class(folder: Path) -> Problem:
    fix = "remove the folder, or put its images back"
    if is_run(folder.parent):
        fix = f"a run lies in {folder.parent}, too: give it, or the images, a folder of their own"
    return Problem(
        f"the class folder '{folder}' has no image",
        path="data.path",
        fix=f"{fix}\nformats that are read: {readable()}",
        code="empty-class",
    )


def _special(path: str) -> Problem:
    try:
        reason = f"it is {no_plain_file(Path(path).stat().st_mode)}"
    except OSError as error:
        reason = str(error.strerror)
    (problem,) = UnreadableImageError.of(f"'{path}'", reason).problems
    return problem


def _check_undivided(folder: Path, images: list[str]) -> None:
    """Raises SpecError where a class has the folders of splits: all would be trained on."""
    start = len(str(folder)) + 1
    below = {path[start:].split(os.sep, 1)[0] for path in images if os.sep in path[start:]}
    roles = {role for name in below for role in USUAL_NAMES if same_name(name) in USUAL_NAMES[role]}
    if len(roles) > 1:
        within = _quoted(sorted(below))
        raise SpecError(
            Problem(
                f"the class folder '{folder}' has folders of splits in it: {within}",
                path="data.path",
                fix=f"turn them round: a folder for each split, such as train/{folder.name}",
                code="unused-split",
            )
        )
