"""Data sets of the Hugging Face hub, and how they fail."""

import glob
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from nifbuild.data.listing import TooManyFoldersError, matching_files
from nifbuild.data.table_cache import cache_of
from nifbuild.errors import NifbuildError, Problem, RunError, SpecError
from nifbuild.spec.data import HubData

if TYPE_CHECKING:
    import datasets

_PROBE_SECONDS = 10.0
_COMMIT = re.compile(r"[0-9a-f]{40}")


def read_hub(spec: HubData) -> "dict[str, datasets.Dataset]":
    """All splits of a data set of the hub, from the local cache once they were downloaded.

    Raises:
        SpecError: The name, revision or configuration is not there.
        RunError: The hub cannot be reached and the cache does not have the data, or the data set
            cannot be read.
    """
    import datasets

    folder = Path(os.path.expanduser(spec.id))  # noqa: PTH111 (`Path` refuses an unknown user)
    if folder.is_dir():
        return _load(spec, revision=None, folder=folder)
    if _reachable(spec):
        return _load(spec, revision=spec.revision)
    if spec.streaming is not None:
        raise RunError(_unreachable(spec, ", which `streaming` needs"))
    with _only_cached():
        try:
            cached = datasets.load_dataset_builder(spec.id, name=spec.config).hash
        except (OSError, datasets.exceptions.DatasetNotFoundError) as error:
            raise RunError(_unreachable(spec)) from error
        except ValueError as error:
            raise _unusable(spec, error) from error
        # The cache answers with its newest copy, whatever revision was asked for.
        if _COMMIT.fullmatch(spec.revision) and cached != spec.revision:
            raise RunError(_unreachable(spec, f"; the cache has another revision, {cached}"))
        return _load(spec, revision=spec.revision)


def _reachable(spec: HubData) -> bool:
    """One short question to the hub; `load_dataset` would repeat it for half a minute.

    Raises:
        SpecError: The hub answers that there is no such data set or revision.
        RunError: The hub answers that it may not be read.
    """
    import huggingface_hub
    from huggingface_hub import errors

    try:
        huggingface_hub.HfApi().dataset_info(
            spec.id, revision=spec.revision, timeout=_PROBE_SECONDS
        )
    except errors.HFValidationError as error:
        raise SpecError(_not_found(spec)) from error
    except errors.GatedRepoError as error:
        raise RunError(_gated(spec)) from error
    except errors.RevisionNotFoundError as error:
        raise SpecError(
            Problem(
                f"'{spec.id}' has no revision '{spec.revision}' on the hub",
                path="data.revision",
                fix=f"see https://huggingface.co/datasets/{spec.id}/commits/main",
                code="missing-revision",
            )
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise SpecError(_not_found(spec)) from error
    except Exception:
        # No connection, offline mode, a proxy, a server error: transports differ between versions
        # of huggingface_hub, and so do their exceptions. Whatever it was, the cache may have the
        # data.
        return False
    return True


@contextmanager
def _only_cached() -> Iterator[None]:
    """Makes `datasets` look at its cache only, as HF_HUB_OFFLINE=1 does for a whole process."""
    import datasets

    before = datasets.config.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE = before


def _load(
    spec: HubData, revision: str | None, folder: Path | None = None
) -> "dict[str, datasets.Dataset]":
    import datasets

    # Of a data set of the hub, the revision tells what the cache has.
    cache = None if folder is None else _local_cache(spec, folder)
    try:
        if spec.streaming is not None:
            return _first_rows(spec, revision, folder, spec.streaming)
        return dict(
            datasets.load_dataset(
                str(folder or spec.id), name=spec.config, revision=revision, cache_dir=cache
            )
        )
    except Exception as error:
        # `datasets` documents none of what it raises, and passes on what its readers raise.
        raise _unusable(spec, error) from error


def _first_rows(
    spec: HubData, revision: str | None, folder: Path | None, number: int
) -> "dict[str, datasets.Dataset]":
    """So many rows of each split that is used; images stay encoded."""
    import datasets

    found = datasets.load_dataset(
        str(folder or spec.id), name=spec.config, revision=revision, streaming=True
    )
    used = set(spec.splits.roles(found).values())
    tables = {}
    for name, rows in found.items():
        if name not in used:
            continue
        for column, feature in (rows.features or {}).items():
            if isinstance(feature, datasets.Image):
                rows = rows.cast_column(column, datasets.Image(decode=False))
        tables[name] = datasets.Dataset.from_list(list(rows.take(number)), rows.features)
    return tables


def _local_cache(spec: HubData, folder: Path) -> str:
    try:
        files = [Path(path) for path in matching_files(f"{glob.escape(str(folder))}/**")]
        return cache_of([file for file in files if file.exists()])
    except TooManyFoldersError as error:
        reason = str(error)
    except OSError as error:
        reason = f"'{error.filename}': {error.strerror}"
    fix = "name the folder of a data set, as on the hub"
    raise RunError(
        Problem(
            f"'{spec.id}' cannot be read: {reason}",
            path="data.id",
            fix=fix,
            code="unreadable-source",
        )
    )


def _unusable(spec: HubData, error: Exception) -> NifbuildError:
    message = str(error).strip()
    if "BuilderConfig" in message or "Config name is missing" in message:
        what = (
            f"'{spec.id}' has no configuration '{spec.config}'"
            if spec.config
            else f"'{spec.id}' has several configurations"
        )
        choice = re.search(r"\[.*?\]", message, flags=re.DOTALL)
        fix = f"choose one of {choice.group()}" if choice else "see its page on the hub"
        return SpecError(Problem(what, path="data.config", fix=fix, code="missing-config"))
    if "gated dataset" in message:
        return RunError(_gated(spec))
    if isinstance(error, ConnectionError):
        return RunError(_unreachable(spec))
    if "Not enough disk space" in message:
        fix = "make room, or choose a folder on another disk: export HF_HOME=DIR"
        what = f"'{spec.id}' does not fit on the disk: {message}"
        return RunError(Problem(what, path="data.id", fix=fix, code="no-room"))
    cause = str(error.__cause__ or "").strip()
    reason = " ".join((message + (f" ({cause})" if cause else "")).split())
    return RunError(
        Problem(
            f"'{spec.id}' cannot be read: {reason}",
            path="data.id",
            fix="download its files and use `source: parquet`, `arrow` or `imagefolder`",
            code="unreadable-source",
        )
    )


def _not_found(spec: HubData) -> Problem:
    return Problem(
        f"the hub has no data set '{spec.id}' that you may see",
        path="data.id",
        fix="names look like `uoft-cs/cifar10`; for a private one run `hf auth login` first",
        code="missing-dataset",
    )


def _gated(spec: HubData) -> Problem:
    return Problem(
        f"'{spec.id}' is gated: its owners let only registered people read it",
        path="data.id",
        fix=f"accept its terms at https://huggingface.co/datasets/{spec.id}\n"
        "then run `hf auth login`",
        code="gated-dataset",
    )


def _unreachable(spec: HubData, detail: str = "") -> Problem:
    config = f", '{spec.config}'" if spec.config else ""
    load = f"load_dataset('{spec.id}'{config}, revision='{spec.revision}')"
    return Problem(
        f"'{spec.id}' is not in the local cache, and the hub cannot be reached{detail}",
        path="data.id",
        fix="download it once where there is a connection:\n"
        f'  python -c "from datasets import load_dataset; {load}"\n'
        "and bring the cache (HF_HOME, ~/.cache/huggingface) here;\n"
        "or use local files: `source: parquet`, `arrow` or `imagefolder`",
        code="hub-unreachable",
    )
