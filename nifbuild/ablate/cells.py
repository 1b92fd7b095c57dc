"""Cells of a study, and where their results lie.

    ablations/<study>/
        cells/<key>/
            cell.json       what is run: labels, seed, and all that the key is made of
            spec.yaml       the resolved spec
            run/            the run directory
            log.txt         what all attempts said, one after another
            result.json     the figures; there once the cell is done
            failure.json    why the last attempt came to nothing
            .lock           names the process that runs the cell; there while it does
        report/             what `nifbuild ablate report` wrote

A key is a hash of the resolved spec with its seed (without its name and budget, which do not touch
the result), of the data's content, of the weights that training starts from, and of the versions of
nifbuild and (major and minor) torch. So a result is found again by what it is of, whatever its
labels are called by then, and nothing else is mistaken for it. Devices and the number of threads,
which may change the last digits, do not enter: results say what they were computed on.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from nifbuild.errors import Problem, RunError
from nifbuild.spec.study import Study, Variant, label_text

Document = dict[str, Any]


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
        skipped = ("name:", "budget:")
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
    """

    data: str
    init: str | None
    nifbuild: str
    torch: str

    @classmethod
    def of(cls, document: Document) -> "Origin":
        """From the content of `cell.json`."""
        return cls(**document["origin"])

    def key(self, cell: Cell) -> str:
        """The name of the cell's directory."""
        return _hash(json.dumps([cell.spec_hash, *vars(self).items()]))


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

    def description(self) -> Document:
        """The content of `cell.json`.

        Raises:
            RunError: It is missing or damaged, or of another version of nifbuild.
        """
        found = self._read("cell.json") or {}
        origin = found.get("origin")
        fields = {field.name for field in dataclasses.fields(Origin)}
        if not isinstance(origin, dict) or set(origin) != fields or "spec_hash" not in found:
            what = f"{self.path / 'cell.json'} does not say what the cell is"
            fix = "it is damaged, or of another version of nifbuild: delete the cell's folder"
            raise RunError(Problem(what, fix=fix, code="load"))
        return found

    def result(self) -> Document | None:
        """The figures, or None while it is not done."""
        return self._read("result.json")

    def finish(self, result: Document) -> None:
        """Writes the figures, which marks it as done."""
        self._write("result.json", result)
        self.forget_failure()

    def failure(self) -> Document | None:
        """Why the last attempt failed: `reason`, `time`; None where it did not."""
        return self._read("failure.json")

    def fail(self, reason: str) -> None:
        """Notes why an attempt came to nothing."""
        moment = datetime.now(UTC).isoformat()
        self._write("failure.json", {"reason": reason, "time": moment})

    def forget_failure(self) -> None:
        """Another attempt begins."""
        (self.path / "failure.json").unlink(missing_ok=True)

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

    def _read(self, name: str) -> Document | None:
        path = self.path / name
        try:
            document = json.loads(path.read_text())
            if not isinstance(document, dict):
                raise ValueError("it holds no JSON object")
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            fix = f"delete {self.path}: the cell is then run again"
            what = f"{path} cannot be read: {error}"
            raise RunError(Problem(what, fix=fix, code="load")) from error
        return document

    def _write(self, name: str, document: Document) -> None:
        write_file(self.path / name, json.dumps(document, indent=1) + "\n")


def write_file(path: Path, text: str) -> None:
    """Writes a text file, complete or not at all.

    Raises:
        RunError: It cannot be written.
    """
    # Named by the process: two may write the same file at once.
    temporary = path.with_name(f".writing_{os.getpid()}_{path.name}")
    try:
        temporary.write_text(text)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise RunError(f"cannot write to {path}: {error.strerror}") from error


class Store:
    """The cells of a study on disk."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def cell(self, key: str) -> CellDirectory:
        """The directory with this key, whether it is there or not."""
        return CellDirectory(self.path / "cells" / key)

    def cells(self) -> Iterator[CellDirectory]:
        """All that are there."""
        for path in sorted((self.path / "cells").glob("*/cell.json")):
            yield CellDirectory(path.parent)
