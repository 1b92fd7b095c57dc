"""The JSON files of a run directory: how they are written, and what must be in them to be read."""

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nifbuild.errors import Problem, RunError

Document = dict[str, Any]

FINGERPRINTS = "fingerprints"
"""Entry of a checkpoint's `progress.json`: the SHA-256 of what was saved, by the file's name."""

EVIDENCE = "evidence"
"""Entry of `metrics.json`: what the figures were computed from, and a seal on them."""


class _Form(BaseModel):
    model_config = ConfigDict(extra="allow")


class DataDescription(_Form):
    """What a model has to know of the data that it learned."""

    class_names: list[str]
    mean: list[Annotated[float, Field(strict=True, allow_inf_nan=False)]]
    std: list[Annotated[float, Field(strict=True, allow_inf_nan=False, gt=0)]]


class _Data(DataDescription):
    fingerprint: str


class _Starts(_Form):
    starts: list[Document]


class _Best(_Form):
    step: int
    epoch: int
    figure: float


class _BestCheckpoint(_Best):
    checkpoint: str


class _HowFar(_Form):
    step: int
    epoch: int
    loss_sum: float
    best: _Best | None
    improved: _Best | None = None
    seconds: float


class _Identity(_Form):
    spec: str
    world_size: int
    precision: str
    data: str


class _Progress(_Form):
    progress: _HowFar
    identity: _Identity
    fingerprints: dict[str, str] = {}


class _Class(_Form):
    name: str
    accuracy: float | None
    num_samples: int


class _Figures(_Form):
    name: str
    split: str
    top1: float
    top5: float
    loss: float
    calibration_error: float
    num_samples: int
    per_class: list[_Class]
    checkpoint: str
    selected: str
    step: int
    train_images_per_second: float | None
    images_per_second: float
    seconds: float
    evidence: dict[str, str] | None = None


_CONTENTS: dict[str, tuple[type[_Form], str]] = {
    "data.json": (_Data, "copy it back, or train again: --overwrite"),
    "environment.json": (_Starts, "copy it back, or delete it: nothing else depends on it"),
    "best.json": (_BestCheckpoint, "copy it back, or use --checkpoint last"),
    "metrics.json": (_Figures, "delete it: `nifbuild train ... --resume` evaluates the run again"),
    "progress.json": (_Progress, "if an older checkpoint is there, delete this one and --resume"),
}
"""For each file what is read of it, and what to do where that is not there."""


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
        document: Document = json.loads(path.read_text("utf-8"), parse_constant=_refuse_constant)
        if not isinstance(document, dict):
            raise ValueError("it holds no JSON object")
        form.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise _damaged(path, f"{place}: {first['msg']}", fix) from error
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(path, str(error), fix) from error
    return document


def _damaged(path: Path, reason: str, fix: str) -> RunError:
    return RunError(Problem(f"{path} cannot be read: {reason}", fix=fix, code="load"))
