"""Cells of a study, and where their results lie.

    ablations/<study>/
        cells/<key>/
            cell.json       what is run: labels, seed, and all that the key is made of
            spec.yaml       the resolved spec
            run/            the run directory
            log.txt         what all attempts said, one after another
            result.json     the figures; there once the cell is done
            failure.json    why the last attempt came to nothing
            trial.json      of a search: its figures on validation, and whether it was pruned
            .lock           names the process that runs the cell; there while it does
        trials.json         of a search: the values of each trial
        looks.json          which seeds were planned when results were shown
        report/             what `nifbuild ablate report` wrote

A key is a hash of the resolved spec with its seed (without its name, budget and license, which do
not touch the result), of the data's content, of the weights that training starts from, of the
versions of nifbuild and (major and minor) torch, and of the source of all in nifbuild that a figure
depends on. So a result is found again by what it is of, whatever its labels are called by then, and
nothing else is mistaken for it: a folder with another name than its key is no cell, and a result
that does not say that it is of that key is not the cell's. Devices, the instruction set of the
processor and the number of threads, which change the last digits and by them a few predictions, do
not enter: results say what they were computed on.
"""

import dataclasses
import hashlib
import itertools
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from nifbuild.ablate.forms import (
    CellForm,
    Damaged,
    Document,
    FailureForm,
    ResultForm,
    checked,
    read_document,
    unreadable,
)
from nifbuild.errors import RunError
from nifbuild.machine.files import write_atomically
from nifbuild.spec.same_training import UNTRAINED
from nifbuild.spec.study import Study, Variant, label_text

UNKNOWN = "?"
"""Of an origin: what is not at hand."""

_KEY = re.compile("[0-9a-f]{16}")


@dataclass(frozen=True)
class Cell:
    """A variant with a seed: one training run."""

    variant: Variant
    seed: int

    @property
    def name(self) -> str:
        """`filters=early, vars.width=32, seed 0`."""
        return cell_name(self.variant.labels, self.seed)

    @cached_property
    def text(self) -> str:
        """Its spec, written out."""
        return self.variant.text(self.seed)

    @cached_property
    def spec_hash(self) -> str:
        """Tells its spec from others that may give another result."""
        skipped = tuple(f"{section}:" for section in UNTRAINED)
        sections, keep = [], True
        for line in self.text.splitlines():
            if not line.startswith((" ", "-")):
                keep = not line.startswith(skipped)
            sections += [line] if keep else []
        return _hash("\n".join(sections))


def cells_of(study: Study) -> list[Cell]:
    """All cells, variant by variant."""
    return [Cell(variant, seed) for variant in study.variants for seed in study.spec.seeds]


def cell_name(labels: Mapping[str, str], seed: int) -> str:
    """A cell as people call it."""
    return f"{label_text(labels)}, seed {seed}"


@dataclass(frozen=True)
class Origin:
    """What a result depends on besides its spec.

    Attributes:
        data: Fingerprint of the data.
        init: Fingerprint of the weights that training starts from; None: freshly drawn.
        nifbuild: Its version.
        torch: Major and minor version.
        code: Fingerprint of the source of nifbuild that figures depend on.
    """

    data: str
    init: str | None
    nifbuild: str
    torch: str
    code: str

    @classmethod
    def of(cls, document: Document) -> "Origin | None":
        """From a document that has one; None where it is of another version of nifbuild."""
        origin = document.get("origin", {})
        fields = {field.name for field in dataclasses.fields(cls)}
        return cls(**origin) if set(origin) == fields else None

    def key(self, spec_hash: str) -> str:
        """The name of the directory of a cell of this spec."""
        return _hash(json.dumps([spec_hash, *vars(self).items()]))

    def differences(self, other: "Origin | None") -> list[str]:
        """What differs in another one, in words; what is unknown of this one does not."""
        if other is None:
            return ["of another version of nifbuild"]
        words = {
            "data": "of other data",
            "init": "from other initial weights",
            "nifbuild": f"of nifbuild {other.nifbuild}",
            "torch": f"of torch {other.torch}",
            "code": "of other code of nifbuild",
        }
        return [
            text
            for name, text in words.items()
            if (own := getattr(self, name)) != UNKNOWN and own != getattr(other, name)
        ]


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class CellDirectory:
    """One cell on disk."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    @property
    def run(self) -> Path:
        """Its run directory."""
        return self.path / "run"

    @property
    def spec(self) -> Path:
        """Its spec."""
        return self.path / "spec.yaml"

    @property
    def log(self) -> Path:
        """What its attempts said."""
        return self.path / "log.txt"

    def describe(self, cell: Cell, origin: Origin) -> None:
        """Writes what the cell is; the same content whoever does."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            what = f"cannot write to {self.path}: {error.strerror}"
            raise RunError(what, fix="write elsewhere with --dir") from error
        write_file(self.spec, cell.text)
        document = {
            "labels": dict(cell.variant.labels),
            "seed": cell.seed,
            "spec_hash": cell.spec_hash,
            "origin": vars(origin),
        }
        self._write("cell.json", document)

    def description(self) -> Document | None:
        """The content of `cell.json`; None where it does not say what the cell is."""
        try:
            found = read_document(self.path / "cell.json", CellForm)
        except Damaged:
            return None
        # The keys of other versions are made of something else.
        known = found is not None and (self._is_own(found) or Origin.of(found) is None)
        return found if known else None

    def result(self) -> Document | None:
        """The figures, or None while it is not done, or where they are damaged."""
        try:
            return self.read_result()
        except Damaged:
            return None

    def read_result(self) -> Document | None:
        """The figures, or None while it is not done.

        Raises:
            Damaged: They are no figures, or those of another cell.
            RunError: They may not be read.
        """
        found = read_document(self.path / "result.json", ResultForm)
        if found is not None and not self._is_own(found):
            raise Damaged("it is the result of another cell")
        return found

    @property
    def has_result(self) -> bool:
        """Whether there is a result, sound or not."""
        return os.path.lexists(self.path / "result.json")

    @property
    def has_begun(self) -> bool:
        """Whether training has begun: there is something to go on from."""
        return os.path.lexists(self.run)

    @property
    def has_content(self) -> bool:
        """Whether it says what it is, or there is a result, sound or not."""
        return self.has_result or os.path.lexists(self.path / "cell.json")

    def _is_own(self, document: Document) -> bool:
        """Whether a document with a spec and an origin is of this cell."""
        origin = Origin.of(document)
        return origin is not None and origin.key(document["spec_hash"]) == self.path.name

    def finish(self, result: Document) -> None:
        """Writes the figures, which marks it as done.

        Raises:
            RunError: They are no figures, such as a loss that is not finite.
        """
        try:
            # Python writes what is no number as NaN, which is then no JSON.
            checked(json.dumps(result), ResultForm)
        except Damaged as error:
            raise RunError(f"what was found is no result: {error}") from error
        self._write("result.json", result)
        self.forget_failure()

    def failure(self) -> Document | None:
        """Why the last attempt failed: `reason`, `time`; None where it did not."""
        try:
            return read_document(self.path / "failure.json", FailureForm)
        except Damaged:
            return {"reason": "unknown: failure.json is damaged", "time": ""}

    def fail(self, reason: str) -> None:
        """Notes why an attempt came to nothing."""
        moment = datetime.now(UTC).isoformat()
        self._write("failure.json", {"reason": reason, "time": moment})

    def forget_failure(self) -> None:
        """Another attempt begins."""
        self._make_room("failure.json")
        (self.path / "failure.json").unlink(missing_ok=True)

    def set_aside(self, name: str) -> None:
        """Gives a file or folder another name, under which nothing looks for it."""
        path = self.path / name
        if os.path.lexists(path):
            others = (path.with_name(f"{name}.damaged{n or ''}") for n in itertools.count())
            path.rename(next(other for other in others if not os.path.lexists(other)))

    def epochs_done(self) -> int:
        """Epochs that its run has behind it."""
        try:
            return (self.run / "metrics.jsonl").read_bytes().count(b"\n")
        except OSError:
            return 0

    def log_tail(self, lines: int = 20) -> str:
        """The end of its log."""
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""

    def _make_room(self, name: str) -> None:
        """Where a file is to be, there is no folder."""
        if (self.path / name).is_dir():
            self.set_aside(name)

    def _write(self, name: str, document: Document) -> None:
        self._make_room(name)
        write_file(self.path / name, json.dumps(document, indent=1) + "\n")


@dataclass(frozen=True, slots=True)
class Task:
    """A cell that is to be run, and where."""

    cell: Cell
    directory: CellDirectory


def write_file(path: Path, text: str) -> None:
    """Writes a text file, complete or not at all.

    Raises:
        RunError: It cannot be written.
    """
    try:
        write_atomically(path, text.encode(), concurrent=True)
    except OSError as error:
        raise RunError(f"cannot write to {path}: {error.strerror}") from error


class Store:
    """The cells of a study on disk."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    @property
    def report(self) -> Path:
        """Where its report is written unless told otherwise."""
        return self.path / "report"

    def cell(self, key: str) -> CellDirectory:
        """The directory with this key, whether it is there or not."""
        return CellDirectory(self.path / "cells" / key)

    def cells(self) -> Iterator[CellDirectory]:
        """All that are there; copies of cells under other names are none.

        Raises:
            RunError: The folder may not be read.
        """
        folder = self.path / "cells"
        try:
            names = sorted(entry.name for entry in os.scandir(folder))
        except FileNotFoundError:
            return
        except OSError as error:
            raise unreadable(folder, error) from error
        for name in names:
            if _KEY.fullmatch(name):
                yield CellDirectory(folder / name)
