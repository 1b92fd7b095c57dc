"""What the files of a run tell of it, without opening its data or its weights."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from nifbuild.errors import RunError, SpecError
from nifbuild.runs.directory import RunDirectory
from nifbuild.runs.documents import Document
from nifbuild.runs.intact import require_trained
from nifbuild.runs.lock import is_locked
from nifbuild.runs.ownership import FOLDERS, SHARED_FOLDERS
from nifbuild.spec.canonical import flat
from nifbuild.spec.source import parse, plain

State = Literal["complete", "running", "unfinished", "damaged"]

_DEPTH = 6
OPS = "model: "
"""Settings that begin so are numbers of ops."""
RAN_ON = "environment: "
"""What begins so is of `environment.json`."""
_NOT_COUNTED = ("sequence",)
"""They stand for what is within them."""


@dataclass(frozen=True)
class Recorded:
    """One run.

    Attributes:
        path: Its directory.
        name: Its spec's.
        state: Whether it has ended, is going on, or was interrupted; or cannot be read.
        problem: Why it cannot be read.
        started: When it first was, in ISO 8601; None where it does not tell.
        settings: The values of its spec by dotted path; of its model, how many ops of each kind.
        ran_on: What it ran on, where that is known: processes, device and torch.
        model: The ops of its model, as text.
        epochs: Lines of `metrics.jsonl`, in order.
        result: Its `metrics.json`; None where it is not complete.
    """

    path: Path
    name: str
    state: State
    problem: str = ""
    started: str | None = None
    settings: dict[str, Any] = field(default_factory=dict, repr=False)
    ran_on: dict[str, Any] = field(default_factory=dict, repr=False)
    model: str = field(default="", repr=False)
    epochs: tuple[Document, ...] = field(default=(), repr=False)
    result: Document | None = field(default=None, repr=False)

    @property
    def num_epochs(self) -> int:
        """Epochs that are done."""
        return int(self.epochs[-1]["epoch"]) if self.epochs else 0

    @property
    def seconds(self) -> float | None:
        """That it has taken so far; None where it has not been trained."""
        last = self.result or (self.epochs[-1] if self.epochs else {})
        return last.get("seconds") or None

    @property
    def figures(self) -> Document:
        """`split`, `epoch`, `top1`, `top5`, `loss`: the final ones, or of the last epoch with some.

        Where each pixel has a class, also `miou`.
        """
        evaluated = [line for line in self.epochs if "top1" in line]
        found = self.result or (evaluated[-1] if evaluated else {})
        figures = {key: found.get(key) for key in ("split", "epoch", "top1", "top5", "loss")}
        return figures | ({"miou": found["miou"]} if "miou" in found else {})

    def document(self) -> Document:
        """As plain data."""
        return {
            "directory": str(self.path),
            "name": self.name,
            "state": self.state,
            "problem": self.problem or None,
            "started": self.started,
            "epochs": self.num_epochs,
            "epochs_asked": self.settings.get("train.epochs"),
            **self.figures,
            "train_loss": self.epochs[-1].get("train_loss") if self.epochs else None,
            "train_top1": self.epochs[-1].get("train_top1") if self.epochs else None,
            "params": None if self.result is None else self.result.get("params"),
            "seconds": self.seconds,
        }


def find_runs(folder: Path) -> Iterator[Path]:
    """The runs within a folder, those of studies included, by name.

    Raises:
        RunError: A folder cannot be read.
    """
    yield from _found(folder, _DEPTH)


def _found(folder: Path, depth: int) -> Iterator[Path]:
    try:
        with os.scandir(folder) as scanned:
            names = {entry.name: entry.is_dir(follow_symlinks=False) for entry in scanned}
    except OSError as error:
        what = f"{folder} cannot be read: {error.strerror or error}"
        raise RunError(what, fix="make it readable, or name another folder") from error
    if "spec.yaml" in names and not {"environment.json", "metrics.jsonl"}.isdisjoint(names):
        yield folder
    for name in sorted(name for name, is_folder in names.items() if is_folder):
        inner = name in (*FOLDERS, *SHARED_FOLDERS) and name != "finetuned"
        if depth and not inner and not name.startswith("."):
            yield from _found(folder / name, depth - 1)


def recorded(path: Path) -> Recorded:
    """What a run's files tell of it; a run that cannot be read is told as such.

    Raises:
        SpecError: It is no run directory.
    """
    run = RunDirectory(path)
    run.require_run()
    try:
        text = run.spec.read_text(encoding="utf-8")
        spec = plain(parse(text, str(run.spec)))
        starts, epochs, result = run.starts(), run.metrics(), run.result()
        if run.checkpoints:
            require_trained(text, run.spec, run.checkpoints[-1])
    except (RunError, SpecError) as error:
        return Recorded(path, path.name, "damaged", error.problems[0].what)
    except (OSError, ValueError) as error:
        return Recorded(path, path.name, "damaged", f"spec.yaml cannot be read: {error}")
    state: State = "complete" if result else "running" if is_locked(path) else "unfinished"
    return Recorded(
        path=path,
        name=str(spec.get("name", path.name)),
        state=state,
        started=starts[0].get("started") if starts else None,
        settings=told_settings(spec),
        ran_on=_ran_on(starts),
        model=repr(spec.get("model", [])),
        epochs=tuple(epochs),
        result=result,
    )


def told_settings(spec: Document) -> dict[str, Any]:
    """The values of a spec by dotted path; of its model, how many ops of each kind."""
    rest = {key: value for key, value in spec.items() if key != "model"}
    written = {key: value for key, value in flat(rest).items() if value != {}}
    return {**written, **_op_counts(spec.get("model", []))}


def _ran_on(starts: Sequence[Document]) -> dict[str, Any]:
    """What a run ran on, of what may change its figures; more than one where it was moved."""
    values = {
        "processes": [start.get("processes") for start in starts],
        "device": [start.get("device_name") or start.get("device") for start in starts],
        "torch": [start["packages"].get("torch") for start in starts],
    }
    distinct = {key: [*dict.fromkeys(v for v in found if v)] for key, found in values.items()}
    return {
        RAN_ON + key: found[0] if len(found) == 1 else ", then ".join(map(str, found))
        for key, found in distinct.items()
        if found
    }


def _op_counts(model: Any) -> dict[str, int]:
    """How many ops of each kind there are in a model that is written out."""
    counts: Counter[str] = Counter()

    def count(value: Any) -> None:
        if isinstance(value, dict):
            if value.get("op", _NOT_COUNTED[0]) not in _NOT_COUNTED:
                kind = value.get("kind", "standard")
                counts[value["op"] if kind == "standard" else kind] += 1
            for within in value.values():
                count(within)
        elif isinstance(value, list):
            for within in value:
                count(within)

    count(model)
    return {f"{OPS}{name}": number for name, number in sorted(counts.items())}


def _differences(runs: Sequence[Recorded]) -> dict[str, list[Any]]:
    """In what runs differ, with the value of each; None where it has none.

    What a run ran on differs only from what is known of others. Models that differ in what the
    number of their ops does not show are told apart by letters.
    """
    read = [run for run in runs if run.state != "damaged"]
    keys = dict.fromkeys(key for run in read for key in run.settings)
    found = {}
    for key in keys:
        values = [run.settings.get(key) for run in runs]
        if any(run.settings.get(key) != read[0].settings.get(key) for run in read):
            found[key] = values
    models = list(dict.fromkeys(run.model for run in read))
    if len(models) > 1 and not any(key.startswith(OPS) for key in found):
        of = f"of {len(models)} models"
        letters = {m: f"{chr(ord('A') + place % 26)} {of}" for place, m in enumerate(models)}
        found["model"] = [letters.get(run.model) for run in runs]
    found.pop("name", None)
    found.pop("version", None)
    for key in dict.fromkeys(key for run in read for key in run.ran_on):
        values = [run.ran_on.get(key) for run in runs]
        if len(set(values) - {None}) > 1:
            found[key] = values
    return found


@dataclass(frozen=True)
class SideBySide:
    """Several runs.

    Attributes:
        runs: Each of them.
        differences: By dotted path, the values of the settings in which they differ; then, by
            `environment: ` and a name, what they ran on where that differs.
    """

    runs: tuple[Recorded, ...]
    differences: dict[str, list[Any]]

    @classmethod
    def of(cls, runs: Sequence[Recorded]) -> Self:
        """These runs, and in what they differ."""
        return cls(tuple(runs), _differences(runs))

    def document(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "runs": [
                {
                    **run.document(),
                    "differs": {key: values[i] for key, values in self.differences.items()},
                }
                for i, run in enumerate(self.runs)
            ]
        }
