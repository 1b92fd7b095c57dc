"""The JSON files of a study's folder: what must be in them to be believed.

A file that does not hold what it should is damaged: a figure that is a text, out of its range, or
no finite number is never counted. One that may not be read at all is another matter, and an error.
"""

import hashlib
import json
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from nifbuild.errors import Problem, RunError
from nifbuild.runs.documents import without_nan

Document = dict[str, Any]
State = Literal["done", "pruned", "failed", "running", "begun", "missing", "damaged", "stale"]
"""How far a cell is; `begun`: it was interrupted or killed, and is to be continued."""

REPORT_JSON = "report.json"
"""What a report is read again from, in its folder."""

_SEAL = "seal"

_MOST = 1e12  # seconds, images: what is more is no measurement, and its sums may overflow
_MOST_LOSS = 1e39  # of logits in float32


class Damaged(Exception):
    """A file does not hold what it should; the message says what is wrong with it."""


class Form(BaseModel):
    """What is read of a document; what else is in it is left out."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


def _moment(text: str) -> str:
    if datetime.fromisoformat(text).tzinfo is None:
        raise ValueError("it has no time zone")
    return text


Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0, le=_MOST)]
Seconds = Annotated[float, Field(ge=0, le=_MOST)]
Size = Annotated[float, Field(ge=1, le=_MOST)] | None
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Moment = Annotated[str, AfterValidator(_moment)]


class _Packages(Form):
    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, str] = Field(init=False)
    nifbuild: str
    torch: str


class _Environment(Form):
    device: str
    device_name: str
    threads: Count
    packages: _Packages
    precision: str
    git_commit: str | None
    started: Moment


class _LayerSize(Form):
    path: str
    grid: list[Count]
    effective_size: Size
    effective_size_at_init: Size


class ResultForm(Form):
    """`result.json`: the figures of a cell, and what they are of."""

    spec_hash: str
    origin: dict[str, str | None]
    weights: str
    split: str
    top1: Share
    top5: Share
    loss: Annotated[float, Field(ge=0, le=_MOST_LOSS)]
    num_samples: Annotated[Count, Field(ge=1)]
    train_images: Count
    epoch: Count
    checkpoint: str
    seconds: Seconds
    effective_size: Size
    effective_size_at_init: Size
    layers: list[_LayerSize]
    environment: _Environment


class CellForm(Form):
    """`cell.json`: what a cell is."""

    labels: dict[str, str]
    seed: Seed
    spec_hash: str
    origin: dict[str, str | None]


class FailureForm(Form):
    """`failure.json`: why the last attempt came to nothing."""

    reason: str
    time: str


class TrialForm(Form):
    """`trial.json`: what a trial of a search came to."""

    spec_hash: str
    origin: dict[str, str | None]
    state: Literal["done", "pruned"]
    metric: str
    epoch: Count
    value: float
    figures: dict[str, float]


class _Drawn(Form):
    known: Count
    values: dict[str, Any]


class TrialsForm(Form):
    """`trials.json`: the values of all trials that have been drawn."""

    of: dict[str, Any]
    trials: list[_Drawn]


def read_document(path: Path, form: type[Form]) -> Document | None:
    """The content of a file, as far as its form has it; None where there is none.

    Raises:
        Damaged: It does not hold what it should.
        RunError: It may not be read.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except IsADirectoryError:
        raise Damaged("it is a folder") from None
    except OSError as error:
        raise unreadable(path, error) from error
    return checked(content, form)


def checked(content: bytes | str, form: type[Form]) -> Document:
    """What JSON holds, as far as its form has it.

    Raises:
        Damaged: It is no JSON, or does not hold what it should.
    """
    try:
        return form.model_validate_json(content).model_dump()
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise Damaged(f"{place}: {first['msg']}" if place else first["msg"]) from None


def unreadable(path: Path, error: OSError) -> RunError:
    """What cannot be read is not what is not there: nobody can tell what it says."""
    what = f"{path} cannot be read: {error.strerror or error}"
    return RunError(Problem(what, fix="make it readable, or copy it", code="load"))


def with_seal(document: Document) -> Document:
    """A report's document, and what tells of later changes; layout and order are no matter."""
    return {**document, _SEAL: _hash_of(document)}


def is_as_written(document: Document) -> bool:
    """Whether a document is what its seal is of; earlier versions wrote none."""
    content = {name: value for name, value in document.items() if name != _SEAL}
    return _SEAL not in document or document[_SEAL] == _hash_of(content)


def _hash_of(document: Document) -> str:
    # Infinite bounds are null where they are written.
    text = json.dumps(without_nan(document)[0], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
