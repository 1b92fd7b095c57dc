"""Folders of image files, a folder for each class.

Read here rather than by the `imagefolder` builder of `datasets`: that one takes words in file and
class names (`train`, `test`) for splits, leaves out empty class folders without a word, and copies
every path to its cache.
"""

import os
from collections.abc import Collection, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from nifbuild.errors import Problem, RunError, SpecError, did_you_mean, suggestion
from nifbuild.spec.data import ImageFolderData
from nifbuild.spec.splits import USUAL_NAMES, Splits

if TYPE_CHECKING:
    import datasets


_CLOSE = 0.7
"""How alike two names are that may be one misspelt: `tset` and `test` are at 0.75."""


def read_folders(spec: ImageFolderData) -> "dict[str, datasets.Dataset]":
    """The splits of a folder, with the columns `image` (paths) and `label`.

    Raises:
        SpecError: The folder is not there, or is not a folder.
        RunError: A class has no image, or a split has a class that the training split lacks.
    """
    root = Path(spec.path)
    if not root.is_dir():
        raise SpecError(_missing_folder(root))
    folders = _split_folders(root, spec.splits) or {"train": root}
    classes = {name: _class_folders(folder) for name, folder in folders.items()}
    train = spec.splits.train or next(iter(classes))
    names = [folder.name for folder in classes.get(train, next(iter(classes.values())))]
    return {
        split: _table(folders[split], members, names, train) for split, members in classes.items()
    }


def missing_path_fix(path: Path) -> str:
    """What to do about a path that does not exist: close names beside it."""
    parent = path.parent
    siblings = [entry.name for entry in parent.iterdir()] if parent.is_dir() else []
    found = did_you_mean(path.name, siblings)
    there = (
        f"looked in {parent.resolve()}" if siblings else f"there is no folder {parent.resolve()}"
    )
    return "\n".join(filter(None, (found, there)))


def _missing_folder(root: Path) -> Problem:
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


def _split_folders(root: Path, named: Splits) -> dict[str, Path]:
    """The folders of splits, training first, or none where `root` holds the classes itself.

    A folder called `train` that holds images rather than folders is a class (of trains).

    Raises:
        SpecError: A folder looks like a split whose name is misspelt: it would be left out, or its
            classes would all be one, without a word.
    """
    folders = {entry.name: entry for entry in _visible(root) if entry.is_dir()}
    usual = (*USUAL_NAMES["train"], *USUAL_NAMES["validation"], *USUAL_NAMES["test"])
    chosen = [name for name in (named.train, named.validation, named.test) if name is not None]
    wanted = dict.fromkeys((*chosen, *usual))
    nested = {n: f for n, f in folders.items() if any(e.is_dir() for e in _visible(f))}
    found = {name: nested[name] for name in wanted if name in nested}
    if found:
        _check_misspelt(root, [name for name in nested if name not in found], found, named)
    has_train = any(name in found for name in (named.train, *USUAL_NAMES["train"]))
    return found if has_train else {}


def _check_misspelt(root: Path, unused: list[str], found: Collection[str], named: Splits) -> None:
    """Raises SpecError where an unused folder is called nearly as a split that is missing."""
    missing = {
        name: role
        for role, names in USUAL_NAMES.items()
        if role not in named.named and not any(name in found for name in names)
        for name in names
    }
    problems = []
    for folder in unused:
        if close := get_close_matches(folder.lower(), missing, n=1, cutoff=_CLOSE):
            role = missing[close[0]]
            problems.append(
                Problem(
                    f"nothing uses the folder '{root / folder}', which has folders as a split has",
                    path="data.path",
                    fix=f"did you mean '{close[0]}'?\nrename it, or say what it is: "
                    f"`splits: {{{role}: {folder}}}`; or move it elsewhere",
                    code="unused-split",
                )
            )
    if problems:
        raise SpecError(problems)


def _class_folders(folder: Path) -> list[Path]:
    found = [entry for entry in _visible(folder) if entry.is_dir()]
    if not found:
        raise RunError(
            Problem(
                f"'{folder}' has no class folders",
                path="data.path",
                fix="put the images of each class into a folder with the name of the class",
                code="no-classes",
            )
        )
    return found


def _table(folder: Path, members: list[Path], names: list[str], train: str) -> "datasets.Dataset":
    import datasets

    extra = [member.name for member in members if member.name not in names]
    if extra:
        raise RunError(
            Problem(
                f"the class '{extra[0]}' in '{folder}' is not among the classes of '{train}'",
                path="data.path",
                fix=suggestion(extra[0], names, f"'{train}' has {names}"),
                code="unseen-class",
            )
        )
    paths: list[str] = []
    labels: list[int] = []
    empty: list[Path] = []
    for member in members:
        files = list(image_files(member))
        paths += files
        labels += [names.index(member.name)] * len(files)
        empty += [] if files else [member]
    if empty:
        raise RunError(
            Problem(
                f"the class folder '{path}' has no image",
                path="data.path",
                fix="remove the folder, or put its images back",
                code="empty-class",
            )
            for path in empty
        )
    features = datasets.Features(
        image=datasets.Image(decode=False), label=datasets.ClassLabel(names=names)
    )
    return datasets.Dataset.from_dict({"image": paths, "label": labels}, features=features)


def image_files(folder: Path) -> Iterator[str]:
    """Paths of the images in a folder and its subfolders, sorted."""
    suffixes = _image_suffixes()
    for place, subfolders, files in os.walk(folder):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in suffixes:  # noqa: PTH122 (a Path for each of a million files takes seconds)
                yield os.path.join(place, name)  # noqa: PTH118


def _image_suffixes() -> set[str]:
    return {suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN}


def _visible(folder: Path) -> list[Path]:
    return sorted(
        entry for entry in folder.iterdir() if not entry.name.startswith((".", "__MACOSX"))
    )
