"""Folders of images with a folder of masks beside each."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from nifbuild.data.folders import as_cells, folder_of, listing_folders, missing_folder
from nifbuild.data.listing import LeftOut, folders_in, image_files
from nifbuild.errors import Problem, RunError, SpecError, did_you_mean
from nifbuild.spec.pixel_data import SegmentationData

if TYPE_CHECKING:
    import datasets

_IMAGES, _MASKS = "images", "masks"
_NAMED_FILES = 10


def read_mask_folders(spec: SegmentationData, left_out: LeftOut) -> "dict[str, datasets.Dataset]":
    """The splits of a folder, with the columns `image` and `mask` (paths).

    Args:
        spec: What the YAML says.
        left_out: Is told of files and folders that are not used.

    Raises:
        SpecError: The folder is not there, or has no images and masks beside each other.
        RunError: An image has no mask; a folder cannot be read.
    """
    root = folder_of(spec)
    with listing_folders():
        if not root.is_dir():
            raise SpecError(missing_folder(root))
        if _is_split(root):
            return {"train": _table(root, left_out)}
        names = folders_in(root)
        splits = [name for name in names if _is_split(root / name)]
        if not splits:
            what = (
                f"'{root}' has no `{_IMAGES}/` with `{_MASKS}/` beside it, and no split with both"
            )
            fix = f"it has: {', '.join(names) or 'no folders'}\n"
            fix += f"an image train/{_IMAGES}/NAME.jpg has the mask train/{_MASKS}/NAME.png"
            raise SpecError(Problem(what, path="data.path", fix=fix, code="missing-folder"))
        for name in names:
            if name not in splits:
                left_out.add(str(root / name), f"folder without `{_IMAGES}/` and `{_MASKS}/`")
        return {name: _table(root / name, left_out) for name in splits}


def _is_split(folder: Path) -> bool:
    return (folder / _IMAGES).is_dir() and (folder / _MASKS).is_dir()


def _table(folder: Path, left_out: LeftOut) -> "datasets.Dataset":
    import datasets

    images, masks = (_by_name(folder / name, left_out) for name in (_IMAGES, _MASKS))
    if not images:
        what, fix = f"'{folder / _IMAGES}' has no image", "put images there, or remove the folder"
        raise RunError(Problem(what, path="data.path", fix=fix, code="empty-split"))
    missing = [name for name in images if name not in masks]
    if missing:
        raise RunError(_without_mask(folder, name, masks) for name in missing[:_NAMED_FILES])
    for name in masks:
        if name not in images:
            left_out.add(masks[name], "mask without an image")
    cells = {
        "image": as_cells(list(images.values())),
        "mask": as_cells([masks[name] for name in images]),
    }
    return datasets.Dataset(pa.table(cells))


def _by_name(folder: Path, left_out: LeftOut) -> dict[str, str]:
    """The files of a folder and those below it, by their names there without ending.

    Raises:
        RunError: Two have one name but for the ending.
    """
    found: dict[str, str] = {}
    for path in image_files(folder, left_out).paths:
        name = os.path.splitext(os.path.relpath(path, folder))[0]  # noqa: PTH122 (as in `listing`)
        if name in found:
            what = f"'{found[name]}' and '{path}' have the same name but for the ending"
            fix = "rename or remove one of them: it is not clear which belongs to which"
            raise RunError(Problem(what, path="data.path", fix=fix, code="same-name"))
        found[name] = path
    return found


def _without_mask(folder: Path, name: str, masks: dict[str, str]) -> Problem:
    what = f"there is no mask '{folder / _MASKS / name}.png' for the image '{name}'"
    fix = did_you_mean(name, masks) or "add it, or remove the image"
    return Problem(what, path="data.path", fix=fix, code="missing-mask")
