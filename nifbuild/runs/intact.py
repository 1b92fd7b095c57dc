"""Whether what lies in a run is what was written there, and belongs together.

A checkpoint knows its own files, the description of the data, and the spec; the run's figures know
the checkpoint that they were computed from. Runs of versions that wrote less are checked by what
there is.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from nifbuild.errors import NifbuildError, Problem, RunError
from nifbuild.runs.documents import (
    EVIDENCE,
    FINGERPRINTS,
    OLDER_CHECKPOINT,
    Document,
    read_document,
)
from nifbuild.spec.same_training import load_stored, training_changes

WEIGHTS = "model.safetensors"
AVERAGE = "ema.safetensors"
"""The moving average of the weights, where a run keeps one; it is then what is evaluated."""

_FIX = f"copy it back; or, {OLDER_CHECKPOINT}"

_SHARES = ("top1", "top5", "calibration_error")
_UNSEALED = (
    EVIDENCE,
    "train_images_per_second",
    "data_wait_share",
    "images_per_second",
    "seconds",
)
"""What of the figures differs each time."""


def fingerprints(files: Mapping[str, bytes], *others: Path) -> dict[str, dict[str, str]]:
    """The entry of `progress.json` by which a checkpoint's files are known.

    Args:
        files: Their content.
        others: Files of the run that must not change from then on.
    """
    content = {**files, **{path.name: path.read_bytes() for path in others}}
    return {FINGERPRINTS: {name: _digest(each) for name, each in content.items()}}


def evidence(figures: Document, checkpoint: Path) -> Document:
    """The entry of `metrics.json` that tells what the figures were computed from."""
    progress = read_document(checkpoint / "progress.json")
    weights = evaluated_weights(checkpoint)
    return {
        EVIDENCE: {
            "spec": _digest(progress["identity"]["spec"].encode()),
            "data": progress["identity"]["data"],
            "weights": digest_of_file(weights),
            "figures": _seal(figures),
        }
    }


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def digest_of_file(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def evaluated_weights(checkpoint: Path) -> Path:
    """The file with the weights that evaluation uses: the moving average where the run keeps one.

    Raises:
        RunError: It is missing, or is not what was saved.
    """
    path = checkpoint / (AVERAGE if _keeps_average(checkpoint) else WEIGHTS)
    require_saved(checkpoint, path)
    return path


def _keeps_average(checkpoint: Path) -> bool:
    document = _progress(checkpoint)
    if document is not None and FINGERPRINTS in document:
        return AVERAGE in document[FINGERPRINTS]
    if document is None or (checkpoint / AVERAGE).exists():
        return (checkpoint / AVERAGE).exists()
    # Of a version that saved none. Cut filters are of a run that may have kept an average, and they
    # are all that there is.
    if (checkpoint.parents[1] / "shrink.json").exists():
        return False
    was = load_stored(document["identity"]["spec"])
    return was is not None and was.spec.train.ema is not None


def require_saved(checkpoint: Path, path: Path) -> None:
    """Raises RunError unless a file is there and, where the checkpoint knows, as it was saved.

    Args:
        checkpoint: The folder of a checkpoint.
        path: One of its files, or one of the run that must not change from then on.
    """
    document = _progress(checkpoint) or {}
    saved = document.get(FINGERPRINTS, {}).get(path.name)
    with reading(path, _FIX if path.parent == checkpoint else "copy it back, or train again"):
        if not path.is_file():
            raise ValueError("it is no file" if path.exists() else "the file is missing")
        if saved is not None and digest_of_file(path) != saved:
            raise ValueError(f"it is damaged, or not what was saved with {checkpoint}")


def require_trained(own: str, file: Path, checkpoint: Path) -> None:
    """Raises RunError where a run's spec is not the one that its checkpoint was trained with.

    Args:
        own: The spec that lies there, written out.
        file: It.
        checkpoint: Knows the spec that it was trained with.
    """
    known = checkpoint / "progress.json"
    changes = training_changes(read_document(known)["identity"]["spec"], own)
    if changes:
        what = f"{file} is not what was trained: it differs from the spec in {known}"
        fix = f"{changes}\nundo the change, or train that spec as a run of its own: --out DIR"
        raise RunError(Problem(what, fix=fix, code="edited-spec"))


def require_agreement(figures: Document, file: Path, checkpoint: Path) -> None:
    """Raises RunError where a run's figures are not what was computed from the checkpoint.

    Args:
        figures: The content of `metrics.json`.
        file: It.
        checkpoint: The one that it names.
    """
    progress = read_document(checkpoint / "progress.json")
    described = read_document(checkpoint.parents[1] / "data.json")
    if figures["step"] != progress["progress"]["step"]:
        finding = f"`step` is not that of {checkpoint}"
    elif [each["name"] for each in figures["per_class"]] != described["class_names"]:
        finding = "the classes in `per_class` are not those of data.json"
    else:
        finding = _impossible(figures) or _unproven(
            figures, progress, evaluated_weights(checkpoint)
        )
    if finding:
        fix = "delete it: `nifbuild train ... --resume` evaluates the run again"
        what = f"{file} does not hold the figures of the run: {finding}"
        raise RunError(Problem(what, fix=fix, code="figures"))


def _impossible(figures: Document) -> str:
    """What cannot be, whatever was evaluated."""
    shares = [*(figures[name] for name in _SHARES), *(c["accuracy"] for c in figures["per_class"])]
    for share in shares:
        if share is not None and not 0 <= share <= 1:
            return f"{share} is no share of images"
    if not (figures["loss"] >= 0 and figures["num_samples"] > 0):
        return "`loss` or `num_samples` is below what it can be"
    counts = figures.get("confusion_matrix")
    if counts is not None:
        right, total = sum(row[i] for i, row in enumerate(counts)), sum(map(sum, counts))
        if total != figures.get("num_pixels", figures["num_samples"]) or not math.isclose(
            right / total, figures["top1"]
        ):
            return "`top1` is not what follows from `confusion_matrix`"
    return ""


def _unproven(figures: Document, progress: Document, weights: Path) -> str:
    """What the figures claim to be of, and are not; of older versions they claim nothing."""
    claimed = figures.get(EVIDENCE)
    if claimed is None:
        return ""
    found = {
        "spec": _digest(progress["identity"]["spec"].encode()),
        "data": progress["identity"]["data"],
        "weights": progress.get(FINGERPRINTS, {}).get(weights.name),
    }
    for name, is_now in found.items():
        if is_now not in (None, claimed.get(name)):
            return f"they were computed from other {name} than the checkpoint's"
    return "" if claimed.get("figures") == _seal(figures) else "they have been changed since"


def _seal(figures: Document) -> str:
    """A hash of all figures but for times, which tells of later changes."""
    sealed = {name: value for name, value in figures.items() if name not in _UNSEALED}
    return _digest(json.dumps(sealed, sort_keys=True).encode())


def _progress(checkpoint: Path) -> Document | None:
    """None in a folder that holds weights and is no checkpoint of a run."""
    path = checkpoint / "progress.json"
    return read_document(path) if path.exists() else None


@contextmanager
def reading(path: Path, fix: str = _FIX) -> Iterator[None]:
    """Turns whatever a damaged file makes libraries raise into one RunError that names it."""
    try:
        yield
    except NifbuildError:
        raise
    except Exception as error:  # torch and safetensors raise types of their own
        reason = str(error) or type(error).__name__
        raise RunError(Problem(f"cannot load {path}: {reason}", fix=fix, code="load")) from error
