"""The JSON files of a run directory: how they are written, and what must be in them to be read."""

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nifbuild.errors import Problem, RunError

Document = dict[str, Any]
Count = Annotated[int, Field(ge=0)]

FINGERPRINTS = "fingerprints"
"""Entry of a checkpoint's `progress.json`: the SHA-256 of what was saved, by the file's name."""

EVIDENCE = "evidence"
"""Entry of `metrics.json`: what the figures were computed from, and a seal on them."""


class _Form(BaseModel):
    # Strict, as it is the document itself that is used: a number in quotes would be a text there.
    model_config = ConfigDict(extra="allow", strict=True)


class DataDescription(_Form):
    """What a model has to know of the data that it learned."""

    class_names: list[str]
    mean: list[Annotated[float, Field(strict=True, allow_inf_nan=False)]]
    std: list[Annotated[float, Field(strict=True, allow_inf_nan=False, gt=0)]]


class _Data(DataDescription):
    fingerprint: str


class _Start(_Form):
    started: str
    command: list[str]
    working_directory: str
    packages: dict[str, str]
    first_checkpoint: str | None = None


class _Starts(_Form):
    starts: Annotated[list[_Start], Field(min_length=1)]


class _Best(_Form):
    step: Count
    epoch: Count
    figure: float


class _BestCheckpoint(_Best):
    checkpoint: str


class _Init(_Form):
    file: str
    fingerprint: str
    loaded: list[str]


class _Shrinking(_Form):
    run: str
    layers: list[Document]


class _HowFar(_Form):
    step: Count
    epoch: Count
    loss_sum: float
    top1_sum: float | None = None
    best: _Best | None
    improved: _Best | None = None
    seconds: float


class _Identity(_Form):
    spec: str
    world_size: int
    precision: str
    data: str
    init: str | None = None
    device: str | None = None


class _Progress(_Form):
    progress: _HowFar
    identity: _Identity
    fingerprints: dict[str, str] = {}


class _Class(_Form):
    name: str
    accuracy: float | None
    num_samples: int


class _Epoch(_Form):
    step: Count | None = None
    epoch: Count
    train_loss: float | None = None
    train_top1: float | None = None
    train_images_per_second: float | None = None
    data_wait_share: float | None = None


class _Figures(_Form):
    name: str
    split: str
    top1: float
    top5: float
    loss: float
    calibration_error: float
    num_samples: int
    num_pixels: Count | None = None
    miou: float | None = None
    per_class: list[_Class]
    checkpoint: str
    selected: str
    step: Count
    epoch: Count
    epochs: Count | None = None
    train_loss: float | None = None
    train_top1: float | None = None
    params: Count | None = None
    train_images_per_second: float | None
    data_wait_share: float | None = None
    images_per_second: float
    seconds: float
    evidence: dict[str, str] | None = None


OLDER_CHECKPOINT = (
    "if an older checkpoint is there, delete this one and metrics.json, where there is one, "
    "then --resume"
)
"""What to do about a damaged checkpoint."""

_CONTENTS: dict[str, tuple[type[_Form], str]] = {
    "data.json": (_Data, "copy it back, or train again: nifbuild train ... --overwrite"),
    "environment.json": (_Starts, "copy it back: it tells that the folder is a run of nifbuild"),
    "init.json": (_Init, "copy it back"),
    "shrink.json": (_Shrinking, "copy it back"),
    "best.json": (_BestCheckpoint, "copy it back, or use --checkpoint last"),
    "metrics.json": (_Figures, "delete it: `nifbuild train ... --resume` evaluates the run again"),
    "progress.json": (_Progress, OLDER_CHECKPOINT),
}
"""For each file what is read of it, and what to do where that is not there."""

_LINES_FIX = "copy it back, or move it away: training goes on without what it tells of past epochs"


def as_json(document: Document) -> bytes:
    """JSON with one line for each key, so that long tables stay readable beside short figures."""
    document, _ = without_nan(document)
    lines = (f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in document.items())
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def without_nan(document: Any, place: str = "") -> tuple[Any, list[str]]:
    """A document as JSON can hold it, which has no NaN and no infinity: they become null.

    Returns:
        The document, and the places of such numbers, as in `layers.0.bound`.
    """
    if isinstance(document, float) and not math.isfinite(document):
        return None, [place]
    if isinstance(document, dict):
        entries: Iterable[tuple[Any, Any]] = document.items()
    elif isinstance(document, list | tuple):
        entries = enumerate(document)
    else:
        return document, []
    values, places = {}, []
    for key, value in entries:
        values[key], found = without_nan(value, f"{place}.{key}".lstrip("."))
        places += found
    return values if isinstance(document, dict) else list(values.values()), places


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"it holds {name}, which is no number")


def read_document(path: Path) -> Document:
    """The content of one of a run's files.

    Raises:
        RunError: If it cannot be read, is not JSON, or lacks what must be in it.
    """
    form, fix = _CONTENTS[path.name]
    try:
        return _checked(json.loads(_content(path), parse_constant=_refuse_constant), form)
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(path, _reason(error), fix) from error


def says_nifbuild(path: Path) -> bool:
    """Whether a file that has the name of a run's has its content, too.

    Raises:
        RunError: If it cannot be read.
    """
    try:
        if path.suffix == ".jsonl":
            content = _content(path)
            begun = content.startswith(b'{"step": ')  # the first line may be cut short
            return not content or begun or bool(_epochs(content))
        _checked(json.loads(_content(path)), _CONTENTS[path.name][0])
    except OSError as error:
        raise _damaged(path, _reason(error), "make it readable") from error
    except (ValueError, RecursionError):
        return False
    return True


def read_lines(path: Path) -> list[Document]:
    """The lines of `metrics.jsonl`; one that a crash cut short is left out.

    Raises:
        RunError: If the file cannot be read, or a line tells of an epoch in another form.
    """
    try:
        return _epochs(_content(path))
    except (OSError, ValueError) as error:
        raise _damaged(path, _reason(error), _LINES_FIX) from error


def _epochs(content: bytes) -> list[Document]:
    found = []
    for number, line in enumerate(content.decode().splitlines(), start=1):
        try:
            document = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(document, dict) and "epoch" in document:
            try:
                found.append(_checked(document, _Epoch))
            except ValidationError as error:
                raise ValueError(f"line {number}: {_reason(error)}") from error
    return found


def _content(path: Path) -> bytes:
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise ValueError("it is not a file")
    return path.read_bytes()


def _checked(document: Any, form: type[_Form]) -> Document:
    if not isinstance(document, dict):
        raise ValueError("it holds no JSON object")
    form.model_validate(document)
    return document


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _damaged(path: Path, reason: str, fix: str) -> RunError:
    return RunError(Problem(f"{path} cannot be read: {reason}", fix=fix, code="load"))
