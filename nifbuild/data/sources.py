"""Opens a source: the name of each split, and its rows as a `datasets.Dataset`. Decodes nothing."""

import glob
import os
import stat
import tarfile
import warnings
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, assert_never

import numpy as np

from nifbuild.data.class_names import contrasted
from nifbuild.data.decode import no_plain_file
from nifbuild.data.distant_mark import distant_mark
from nifbuild.data.distant_pair import distant_pair
from nifbuild.data.folders import missing_path_fix, read_folders
from nifbuild.data.hub import read_hub
from nifbuild.data.listing import LeftOut, TooManyFoldersError, matching_files
from nifbuild.data.mask_folders import read_mask_folders
from nifbuild.data.table_cache import Tell, cache_of, require_room
from nifbuild.errors import Problem, RunError, SpecError
from nifbuild.spec.data import (
    ArrowData,
    DataSpec,
    DigitsData,
    DistantPairData,
    FileData,
    HubData,
    ImageFolderData,
    ParquetData,
    WebDatasetData,
)
from nifbuild.spec.pixel_data import DistantMarkData, SegmentationData

if TYPE_CHECKING:
    import datasets

_Files = ParquetData | ArrowData | WebDatasetData
"""Those sources whose files `datasets` reads."""
_TAR_MAGIC = slice(257, 262)
"""Where in the first block of a tar file its format stands."""


def open_source(spec: DataSpec, left_out: LeftOut, tell: Tell) -> "dict[str, datasets.Dataset]":
    """The source's splits.

    Args:
        spec: What the YAML says.
        left_out: Is told of what was found and is not used.
        tell: Is told of copies that are made.

    Raises:
        SpecError: What the spec names is not there.
        RunError: It is there and cannot be read.
    """
    with _quiet_datasets():
        splits = _open(spec, left_out, tell)
        return {name: _without_decoding(table) for name, table in splits.items()}


def _open(spec: DataSpec, left_out: LeftOut, tell: Tell) -> "dict[str, datasets.Dataset]":
    match spec:
        case DigitsData():
            return {"train": _digits()}
        case DistantPairData():
            return {"train": distant_pair(spec)}
        case ImageFolderData():
            return read_folders(spec, left_out)
        case ParquetData() | ArrowData() | WebDatasetData():
            return {split: _read_files(spec, split, tell) for split in spec.files}
        case HubData():
            return read_hub(spec)
        case DistantMarkData():
            return {"train": distant_mark(spec)}
        case SegmentationData():
            return read_mask_folders(spec, left_out)
        case _:
            assert_never(spec)


def _without_decoding(table: "datasets.Dataset") -> "datasets.Dataset":
    """The rows with all images encoded, whichever column is asked for.

    `datasets` has Pillow try all formats that it knows, and so start programs.
    """
    import datasets

    for name, feature in table.features.items():
        if isinstance(feature, datasets.Image):
            table = table.cast_column(name, datasets.Image(decode=False))
    return table


@contextmanager
def _quiet_datasets() -> Iterator[None]:
    """Turns the library's progress bars, log and warnings off, and back to what they were."""
    import datasets

    bars, level = datasets.are_progress_bars_disabled(), datasets.logging.get_verbosity()
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        datasets.logging.set_verbosity(level)
        if not bars:
            datasets.enable_progress_bars()


def _digits() -> "datasets.Dataset":
    """Scikit-learn's 1,797 scans, their values 0 to 16 stretched to 0 to 255."""
    import datasets
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    # PGM is a header before the raw pixels: unlike PNG, the same bytes whatever library writes it.
    images = [{"bytes": b"P5 8 8 255\n" + scan.tobytes(), "path": None} for scan in pixels]
    features = datasets.Features(
        image=datasets.Image(decode=False),
        label=datasets.ClassLabel(names=[str(name) for name in digits.target_names]),
    )
    columns = {"image": images, "label": digits.target.tolist()}
    return datasets.Dataset.from_dict(columns, features=features)


def _read_files(spec: _Files, split: str, tell: Tell) -> "datasets.Dataset":
    import datasets

    paths = _matching_files(spec, split)
    folders = [path for path in paths if path.is_dir()]
    if folders:
        return datasets.concatenate_datasets([_saved(spec, split, path) for path in paths])
    if isinstance(spec, WebDatasetData):
        _check_tars(split, paths)
    else:
        _check_schemas(spec, split, paths)
    cache = cache_of(paths)
    is_parquet = isinstance(spec, ParquetData)
    require_room(paths, cache, f"data.files.{split}", tell, parquet=is_parquet)
    try:
        # Split by split: read together, all would silently take the class names of the first.
        return datasets.load_dataset(
            spec.source,
            data_files={split: [str(path) for path in paths]},
            split=split,
            cache_dir=cache,
        )
    except Exception as error:
        # `datasets` wraps whatever its readers raise, and none of that is documented.
        if "corresponds to no data" in str(error):
            raise RunError(
                Problem(
                    f"the files of split '{split}' have no rows",
                    path=f"data.files.{split}",
                    fix="name other files, or write these again",
                    code="empty-split",
                )
            ) from error
        raise _broken_file(split, paths[0], error.__cause__ or error) from error


def _matching_files(spec: FileData, split: str) -> list[Path]:
    """The paths of a split, patterns expanded and sorted: plain files and folders.

    Raises:
        SpecError: A path does not exist or is no file, or a pattern matches nothing.
        RunError: A path cannot be looked at.
    """
    given = spec.files[split]
    found: list[Path] = []
    for name in (given,) if isinstance(given, str) else given:
        found += [Path(path) for path in _expanded(os.path.expanduser(name), split)]  # noqa: PTH111 (keeps `name` as written)
    for path in found:
        _check_plain(split, path)
    return found


def shared_files(spec: DataSpec, splits: Iterable[str]) -> str:
    """In words, which file two splits have, which is mostly a slip; may be empty."""
    if not isinstance(spec, FileData):
        return ""
    seen: dict[str, str] = {}
    for split in splits:
        for path in _matching_files(spec, split):
            other = seen.setdefault(os.path.realpath(path), split)
            if other != split:
                why = "what is measured on it is no measure of unseen images"
                return f"'{path}' is in split '{other}' and in split '{split}': {why}"
    return ""


def _check_plain(split: str, path: Path) -> None:
    """Reading anything but files and folders may wait for ever."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise _broken_file(split, path, error) from error
    reason = no_plain_file(mode)
    if reason and not stat.S_ISDIR(mode):
        raise SpecError(
            Problem(
                f"'{path}' is {reason}",
                path=f"data.files.{split}",
                fix="name files that were written to disk",
                code="not-a-file",
            )
        )


def _expanded(name: str, split: str) -> list[str]:
    """The path itself, where there is one of that name, else what the pattern matches."""
    if os.path.lexists(name):
        return [name]
    if not glob.has_magic(name):
        raise _missing_file(split, f"there is no file '{name}'", missing_path_fix(Path(name)))
    try:
        matches = matching_files(name)
    except TooManyFoldersError as error:
        fix = "begin it with the folder that holds the files"
        raise SpecError(
            Problem(str(error), path=f"data.files.{split}", fix=fix, code="too-many-folders")
        ) from None
    if not matches:
        raise _missing_file(split, f"no file matches '{name}'", f"looked in {Path.cwd()}")
    return matches


def _missing_file(split: str, what: str, fix: str) -> SpecError:
    return SpecError(Problem(what, path=f"data.files.{split}", fix=fix, code="missing-file"))


def _saved(spec: _Files, split: str, folder: Path) -> "datasets.Dataset":
    """A folder written by `save_to_disk`."""
    import datasets

    where = f"data.files.{split}"
    if not isinstance(spec, ArrowData):
        suffix = "parquet" if isinstance(spec, ParquetData) else "tar"
        raise SpecError(
            Problem(
                f"'{folder}' is a folder",
                path=where,
                fix=f"name its files, such as '{folder}/*.{suffix}'",
                code="not-a-file",
            )
        )
    if (folder / "dataset_dict.json").is_file():
        splits = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
        files = ", ".join(f"{name}: {folder / name}" for name in splits)
        raise SpecError(
            Problem(
                f"'{folder}' holds several splits",
                path=where,
                fix=f"name the folder of each: `files: {{{files}}}`",
                code="several-splits",
            )
        )
    if not (folder / "state.json").is_file():
        raise SpecError(
            Problem(
                f"'{folder}' was not written by `Dataset.save_to_disk`",
                path=where,
                fix=f"name its files, such as '{folder}/*.arrow'",
                code="not-a-saved-dataset",
            )
        )
    for entry in sorted(folder.iterdir()):
        _check_plain(split, entry)
    try:
        return datasets.load_from_disk(str(folder))
    except Exception as error:
        raise _broken_file(split, folder, error) from error


def _check_schemas(spec: ParquetData | ArrowData, split: str, paths: list[Path]) -> None:
    """Each file can be read, and all of a split name the same classes.

    Raises:
        RunError: One cannot be read, or names other classes; `datasets` would silently give the
            rows of all files the class names of the first.
    """
    first: dict[str, list[str]] | None = None
    for path in paths:
        try:
            classes = _class_labels(path, parquet=isinstance(spec, ParquetData))
        except (
            Exception
        ) as error:  # pyarrow's, the file system's, or a broken description of columns
            raise _broken_file(split, path, error) from error
        first = classes if first is None else first
        for column in sorted(classes.keys() | first.keys()):
            names, others = classes.get(column, []), first.get(column, [])
            if names == others:
                continue
            here, there = contrasted(names, others)
            raise RunError(
                Problem(
                    f"'{path}' names other classes than '{paths[0]}': "
                    f"'{column}' has {here}, not {there}",
                    path=f"data.files.{split}",
                    fix="write all files of a split with the same class names in the same order",
                    code="class-names-differ",
                )
            )


def _check_tars(split: str, paths: list[Path]) -> None:
    """Raises RunError, by name, where a file is no tar file, or not a whole one.

    `datasets` would name none, and takes one that was cut off between two members for whole.
    """
    for path in paths:
        try:
            with tarfile.open(path) as tar:
                tar.next()
            if not _ends_as_tar(path):
                raise EOFError("it is cut off: the mark at the end of a tar file is missing")
        except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
            raise _broken_file(split, path, error) from error


def _ends_as_tar(path: Path) -> bool:
    """Whether the mark of the end is there; of a compressed file, whose own end is checked, yes."""
    with path.open("rb") as file:
        if file.read(_TAR_MAGIC.stop)[_TAR_MAGIC] != b"ustar":
            return True
        end = 2 * tarfile.BLOCKSIZE
        file.seek(max(0, path.stat().st_size - end))
        return file.read() == bytes(end)


def _class_labels(path: Path, *, parquet: bool) -> dict[str, list[str]]:
    import datasets
    import pyarrow as pa
    import pyarrow.parquet as pq

    if parquet:
        schema = pq.read_schema(path)
    else:
        with pa.memory_map(str(path)) as source:
            try:
                schema = pa.ipc.open_stream(source).schema
            except pa.ArrowInvalid:  # the other of the two layouts of Arrow files
                schema = pa.ipc.open_file(source).schema
    features: dict[str, Any] = datasets.Features.from_arrow_schema(schema)
    return {
        name: feature.names
        for name, feature in features.items()
        if isinstance(feature, datasets.ClassLabel)
    }


def _broken_file(split: str, path: Path, error: BaseException) -> RunError:
    return RunError(
        Problem(
            f"'{path}' cannot be read: {' '.join(str(error).split())}",
            path=f"data.files.{split}",
            fix="write or download the file again; `source` says what format is expected",
            code="unreadable-source",
        )
    )
