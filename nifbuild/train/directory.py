"""The layout of a run directory; the only module that reads and writes it.

    spec.yaml            the resolved spec, itself loadable
    environment.json     versions, devices, command, commit; one entry for each start
    data.json            class names, normalisation, fingerprint, sizes of the splits
    init.json            the checkpoint that `train.init` names, and what of it was loaded
    shrink.json          the run whose filters this one has, cut to windows, and what that changed
    metrics.jsonl        one line for each epoch
    metrics.json         the final figures; there once the run is complete
    best.json            which checkpoint was best on validation, and its figure
    checkpoints/step_00000123/
        model.safetensors, ema.safetensors    weights; the second is evaluated where there is one
        optimizer.pt                          state of the optimizer and of the loss scaler
        progress.json                         how far the run was, and what must not change
    tensorboard/, wandb/    what trackers write
    analysis/            what `nifbuild analyze` writes
    finetuned/           a run of its own that went on from this one's cut filters
    .lock                names the process that writes; there while it does

The pointer is a file rather than a link, so that it survives copying and archiving. A checkpoint is
written aside, flushed to disk and renamed, and old ones go after that, renamed before they are
removed: at every moment there is a complete one, and none that only looks like one.
"""

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from nifbuild.errors import Problem, RunError, SpecError
from nifbuild.spec.resolve import load_spec
from nifbuild.train.documents import FINGERPRINTS, Document, as_json, read_document
from nifbuild.train.lock import locked

_FILES = (
    "spec.yaml",
    "environment.json",
    "data.json",
    "init.json",
    "shrink.json",
    "metrics.jsonl",
    "metrics.json",
    "best.json",
)
_FOLDERS = ("checkpoints", "tensorboard", "wandb", "analysis", "finetuned")
_WRITING = ".writing_"
_REMOVING = ".removing_"


class RunDirectory:
    """One run on disk."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    # What lies where

    @property
    def spec(self) -> Path:
        """The resolved spec."""
        return self.path / "spec.yaml"

    @property
    def described(self) -> Path:
        """The description of the data, which every checkpoint relies on."""
        return self.path / "data.json"

    @property
    def checkpoints(self) -> list[Path]:
        """The complete checkpoints, oldest first."""
        return sorted(p for p in (self.path / "checkpoints").glob("step_*") if p.is_dir())

    def checkpoint_path(self, step: int) -> Path:
        """Where the checkpoint of an optimizer step lies."""
        return self.path / "checkpoints" / f"step_{step:08d}"

    def find_checkpoint(self, which: str = "selected") -> Path:
        """One of the checkpoints.

        Args:
            which: `best` on validation; `last`; or `selected`: the one that the run's figures are
                of, which is what `train.select` says until there are some. Without a validation
                split all are the last.

        Raises:
            RunError: If there is none.
        """
        checkpoints = self.checkpoints
        if not checkpoints:
            self.require_run()
            raise RunError(f"{self.path} has no checkpoint yet", fix="train it first: --resume")
        if which == "selected":
            if (result := self.result()) is not None:
                return self.named_checkpoint(result)
            which = load_spec(self.spec).spec.train.select
        best = self._read("best.json")
        if which == "last" or best is None:
            return checkpoints[-1]
        return self.named_checkpoint(best, "best.json")

    def named_checkpoint(self, document: Document, file: str = "metrics.json") -> Path:
        """The checkpoint that one of the run's files names.

        Raises:
            RunError: It is missing.
        """
        path = self.path / "checkpoints" / str(document["checkpoint"])
        if path not in self.checkpoints:
            what = f"{path} is missing, although {file} names it"
            raise RunError(Problem(what, fix="copy it back, or use --checkpoint last", code="load"))
        return path

    # Starting

    @property
    def holds_run(self) -> bool:
        """Whether there is a run, complete or not."""
        return any((self.path / name).exists() for name in (*_FILES, *_FOLDERS))

    def require_run(self) -> None:
        """Raises SpecError unless this is a run directory."""
        if not self.spec.is_file():
            what = "does not exist"
            if self.path.exists():
                what = "is not a run directory" if self.path.is_dir() else "is a file"
            raise SpecError(
                Problem(
                    f"{self.path} {what}",
                    fix="name a directory that `nifbuild train` has written, such as runs/resnet18",
                    code="no-run",
                )
            )

    def require_complete(self) -> None:
        """Raises SpecError unless this is a run directory whose training is done."""
        self.require_run()
        if self.result() is None:
            what = f"the training of {self.path} is not complete"
            fix = f"finish it: nifbuild train {self.spec} --out {self.path} --resume"
            raise SpecError(Problem(what, fix=fix, code="unfinished-run"))

    def require_free(self, *, overwrite: bool) -> None:
        """Makes sure that a run can be written here.

        Raises:
            SpecError: Where a run is there that must not be overwritten, or a file is in the way.
            RunError: If that cannot be told, as the folder is another user's.
        """
        with self.writing():
            in_the_way = [
                p for p in (self.path, *self.path.parents) if p.exists() and not p.is_dir()
            ]
            holds_run = self.holds_run
        if in_the_way:
            what = f"{in_the_way[0]} is a file, and a run is a directory"
            fix = "write elsewhere with --out DIR"
            raise SpecError(Problem(what, fix=fix, code="not-a-folder"))
        if holds_run and not overwrite:
            raise SpecError(
                Problem(
                    f"{self.path} already holds a run",
                    fix="--resume continues it\n--out DIR writes elsewhere\n"
                    "--overwrite deletes it and starts anew",
                    code="run-exists",
                )
            )

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes from writing the run.

        Raises:
            RunError: If one does, or the directory cannot be written.
        """
        with contextlib.ExitStack() as stack:
            with self.writing():
                stack.enter_context(locked(self.path))
            yield

    def create(self, *, overwrite: bool) -> None:
        """Makes the directory, for a run from the beginning.

        Raises:
            SpecError: If it holds a run and `overwrite` is false.
            RunError: If it cannot be written.
        """
        self.require_free(overwrite=overwrite)
        with self.writing():
            self.path.mkdir(parents=True, exist_ok=True)
            # Checkpoints first: a kill on the way must leave none for --resume to go on from.
            for name in _FOLDERS:
                _remove_folder(self.path / name)
            for name in _FILES:
                (self.path / name).unlink(missing_ok=True)
            self.remove_unfinished()
            (self.path / "checkpoints").mkdir()

    def describe(self, spec_text: str, data: Document, init: Document | None) -> None:
        """Writes what the run is about: the spec, the data, the checkpoint it starts from."""
        with self.writing():
            _write_atomically(self.spec, spec_text.encode())
            self._write_json("data.json", data)
            if init is not None:
                self._write_json("init.json", init)

    def add_start(self, environment: Document) -> None:
        """Adds an entry to `environment.json`: the run was started, or resumed, like this."""
        with self.writing():
            self._write_json("environment.json", {"starts": [*self.starts(), environment]})

    # Checkpoints

    def save_checkpoint(self, step: int, files: Mapping[str, bytes], progress: Document) -> Path:
        """Writes a checkpoint, complete or not at all.

        Args:
            step: Optimizer steps done. The weights of one step are always the same; where its
                checkpoint is there already, only the progress is replaced.
            files: Content by name.
            progress: Content of `progress.json`.
        """
        final = self.checkpoint_path(step)
        with self.writing():
            if not final.exists():
                _write_folder(final, {**files, "progress.json": as_json(progress)})
            else:
                saved = read_document(final / "progress.json").get(FINGERPRINTS)
                kept = progress if saved is None else {**progress, FINGERPRINTS: saved}
                _write_atomically(final / "progress.json", as_json(kept))
        return final

    def point_to_best(self, best: Document) -> None:
        """Writes `best.json`; `best["checkpoint"]` is the name of a checkpoint."""
        with self.writing():
            self._write_json("best.json", best)

    def prune(self, keep: int, best_step: int | None) -> None:
        """Deletes all but the newest `keep` checkpoints and the best one."""
        best = None if best_step is None else self.checkpoint_path(best_step)
        for path in self.checkpoints[:-keep]:
            if path != best:
                with contextlib.suppress(OSError):  # it costs room, and no more
                    _remove_folder(path)

    def remove_unfinished(self) -> None:
        """Deletes what a crash left of files and folders that were being written or removed."""
        for prefix in (_WRITING, _REMOVING):
            for folder in (self.path, self.path / "checkpoints", *self.checkpoints):
                for path in folder.glob(f"{prefix}*"):
                    if path.is_dir():
                        shutil.rmtree(path, ignore_errors=True)
                    else:
                        path.unlink(missing_ok=True)

    def progress(self, checkpoint: Path) -> Document:
        """The content of a checkpoint's `progress.json`."""
        return read_document(checkpoint / "progress.json")

    # Figures

    def add_metrics(self, line: Document) -> None:
        """Appends a line to `metrics.jsonl`."""
        with self.writing(), (self.path / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def metrics(self) -> list[Document]:
        """The lines of `metrics.jsonl`; a last one that a crash cut short is left out."""
        path = self.path / "metrics.jsonl"
        lines = []
        for line in path.read_text().splitlines() if path.exists() else ():
            with contextlib.suppress(json.JSONDecodeError):
                lines.append(json.loads(line))
        return [line for line in lines if isinstance(line, dict) and "epoch" in line]

    def rewind_metrics(self, epochs: int) -> None:
        """Drops the lines of epochs after the given number: they will be written again."""
        kept = [line for line in self.metrics() if line["epoch"] <= epochs]
        text = "".join(json.dumps(line) + "\n" for line in kept)
        with self.writing():
            _write_atomically(self.path / "metrics.jsonl", text.encode())
            (self.path / "metrics.json").unlink(missing_ok=True)

    def finish(self, figures: Document) -> None:
        """Writes `metrics.json`, which marks the run as complete."""
        with self.writing():
            self._write_json("metrics.json", figures)

    def record_shrinking(self, document: Document) -> None:
        """Writes `shrink.json`."""
        with self.writing():
            self._write_json("shrink.json", document)

    def result(self) -> Document | None:
        """The final figures, or None while the run is not complete."""
        return self._read("metrics.json")

    def trained_in(self) -> str | None:
        """The working directory of the last start, from which paths of data count."""
        starts = self.starts()
        return starts[-1].get("working_directory") if starts else None

    def starts(self) -> list[Document]:
        """The entries of `environment.json`, one for each start."""
        starts: list[Document] = (self._read("environment.json") or {"starts": []})["starts"]
        return starts

    def data(self) -> Document:
        """The content of `data.json`.

        Raises:
            SpecError: If this is not a run directory.
        """
        self.require_run()
        return read_document(self.described)

    # Reading and writing

    def _read(self, name: str) -> Document | None:
        path = self.path / name
        return read_document(path) if path.exists() else None

    def _write_json(self, name: str, document: Document) -> None:
        _write_atomically(self.path / name, as_json(document))

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Turns a failing write (disk full, no permission) into one clear RunError."""
        try:
            yield
        except OSError as error:
            raise RunError(self._write_problem(error)) from error

    def _write_problem(self, error: OSError) -> Problem:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        remedy = "make room" if full else "make it writable"
        saved: list[Path] = []
        with contextlib.suppress(OSError):  # a folder that cannot be entered
            saved = self.checkpoints
        if saved:
            fix = f"{saved[-1].name} is intact: {remedy}, then continue with --resume"
        else:
            fix = f"{remedy}, then start again with --resume; or write elsewhere with --out DIR"
        reason = error.strerror or str(error)
        return Problem(f"cannot write to {self.path}: {reason}", fix=fix, code="write")


def _write_file(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _write_atomically(path: Path, content: bytes) -> None:
    temporary = path.with_name(f"{_WRITING}{path.name}")
    try:
        _write_file(temporary, content)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _write_folder(final: Path, files: Mapping[str, bytes]) -> None:
    temporary = final.with_name(f"{_WRITING}{final.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        for name, content in files.items():
            _write_file(temporary / name, content)
        _flush_folder(temporary)
        temporary.rename(final)
        _flush_folder(final.parent)
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _remove_folder(path: Path) -> None:
    """Removes a folder, renamed before: a kill on the way must not leave half of it as a whole."""
    if path.exists():
        removed = path.with_name(f"{_REMOVING}{path.name}")
        if removed.exists():  # an earlier kill
            shutil.rmtree(removed)
        path.rename(removed)
        shutil.rmtree(removed)


def _flush_folder(path: Path) -> None:
    """Makes the names in a folder durable, where the system knows how."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
