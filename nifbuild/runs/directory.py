"""The layout of a run directory; the only module that reads and writes it.

    spec.yaml            the resolved spec, itself loadable
    environment.json     versions, devices, command, commit; one entry for each start
    data.json            class names, normalisation, fingerprint, sizes of the splits
    init.json            the checkpoint that `train.init` names, and what of it was loaded
    shrink.json          the run whose filters this one has, cut to windows, and what that changed
    metrics.jsonl        one line for each epoch
    metrics.json         the final figures; there once the run is complete
    README.md            a model card, and
    report.html          a page with curves and images: for people, who may change them
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
removed: at every moment there is a complete one, and none that only looks like one. What of all
this is told to be the run's, and may be deleted, stands in `nifbuild.runs.ownership`.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from nifbuild.errors import Problem, RunError, SpecError, closest_beside, listing
from nifbuild.machine.files import remove_folder, write_atomically, write_folder, write_problem
from nifbuild.machine.sealed_text import write_sealed
from nifbuild.runs.documents import FINGERPRINTS, Document, as_json, read_document, read_lines
from nifbuild.runs.lock import LOCK, locked
from nifbuild.runs.ownership import (
    FILES,
    FOLDERS,
    IsOwn,
    entries,
    holds_run,
    is_checkpoint,
    is_own_checkpoint,
    own_pages,
    require_own,
    runs_within,
    step_of,
    unfinished,
)
from nifbuild.spec.resolve import load_spec
from nifbuild.spec.shipped import shipped_as


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
        """The complete checkpoints, oldest first; copies under other names are none.

        Raises:
            RunError: If their folder cannot be read.
        """
        found = [path for path in entries(self.path / "checkpoints") if is_checkpoint(path)]
        return sorted(found, key=lambda path: step_of(path) or 0)

    def checkpoint_path(self, step: int) -> Path:
        """Where the checkpoint of an optimizer step lies."""
        return self.path / "checkpoints" / f"step_{step:08d}"

    def find_checkpoint(self, which: str = "selected") -> Path:
        """One of the checkpoints.

        Args:
            which: `best` on validation; `last`; or `selected`: the one that the run's figures are
                of, which is what `train.select` says until there are some, or the last where
                nothing was validated.

        Raises:
            RunError: If there is none.
        """
        checkpoints = self.checkpoints
        if not checkpoints:
            self.require_run()
            self.require_none_lost()
            raise RunError(f"{self.path} has no checkpoint yet", fix="train it first: --resume")
        best = self.best()
        if which == "selected":
            if (result := self.result()) is not None:
                return self.named_checkpoint(result)
            which = "last" if best is None else load_spec(self.spec).spec.train.select
        if which == "last":
            return checkpoints[-1]
        if best is None:
            what = f"{self.path} has no best checkpoint: none was evaluated on validation images"
            fix = f"leave --checkpoint out: the last one, {checkpoints[-1].name}, is then meant"
            raise RunError(Problem(what, fix=fix, code="no-best"))
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

    def require_run(self) -> None:
        """Raises SpecError unless this is a run directory."""
        if not self.spec.is_file():
            what = "does not exist"
            fix = "name a directory that `nifbuild train` has written, such as runs/resnet18"
            if self.path.exists():
                what = "is not a run directory" if self.path.is_dir() else "is a file"
            elif close := closest_beside(self.path, folders=True):
                fix = close
            elif spec := shipped_as(str(self.path)):
                fix = f"a spec has this name; train it first: nifbuild train {spec}"
            if within := runs_within(self.path):
                fix = f"name one of the runs in it: {listing(map(str, within))}"
            raise SpecError(Problem(f"{self.path} {what}", fix=fix, code="no-run"))

    def require_complete(self) -> None:
        """Raises SpecError unless this is a run directory whose training is done."""
        self.require_run()
        if self.result() is None:
            what = f"the training of {self.path} is not complete"
            fix = f"finish it: nifbuild train {self.spec} --out {self.path} --resume"
            raise SpecError(Problem(what, fix=fix, code="unfinished-run"))

    def require_free(self, *, overwrite: bool, resume: bool = False) -> None:
        """Makes sure that a run can be written here.

        Args:
            overwrite: Whether a run that is there may be deleted.
            resume: Whether it may be continued, which deletes nothing.

        Raises:
            SpecError: Where a run is there and neither is allowed, or something else is in the way.
            RunError: If that cannot be told.
        """
        with self.writing():
            self._require_no_file_in_the_way()
            begun = holds_run(self.path)
            if begun and overwrite:
                require_own(self.path)
        if begun and not (overwrite or resume):
            raise SpecError(
                Problem(
                    f"{self.path} already holds a run",
                    fix="--resume continues it\n--out DIR writes elsewhere\n"
                    "--overwrite deletes it and starts anew",
                    code="run-exists",
                )
            )

    def _require_no_file_in_the_way(self) -> None:
        for path in (self.path, *self.path.parents):
            if path.is_dir() or not (path.exists() or path.is_symlink()):
                continue
            kind = "a file" if path.exists() else "a link to what is not there"
            what, fix = f"{path} is {kind}, and a run is a directory", "write elsewhere: --out DIR"
            raise SpecError(Problem(what, fix=fix, code="not-a-folder"))

    def require_none_lost(self) -> None:
        """Raises RunError where a checkpoint was saved, and none is there."""
        starts = self.starts()
        saved = [name for start in starts if (name := start.get("first_checkpoint"))]
        if saved and (figures := self.result()) is not None:
            saved.append(str(figures["checkpoint"]))
        # Starts of older versions do not tell; some of their checkpoints are told of elsewhere.
        if not saved and any("first_checkpoint" not in start for start in starts):
            saved = [f"step_{step:08d}" for line in self.metrics() if (step := line.get("step"))]
        if not saved and (best := self.best()) is not None:
            saved = [best["checkpoint"]]
        if saved and not self.checkpoints:
            what = (
                f"{self.path / 'checkpoints'} holds no checkpoint, although {saved[-1]} was saved"
            )
            fix = "bring it back, or start anew with --overwrite of `nifbuild train`"
            raise RunError(Problem(what, fix=fix, code="no-checkpoint"))

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

    def create(self, *, overwrite: bool) -> str:
        """Makes the directory, for a run from the beginning; `add_start` has to follow.

        Returns:
            In words, what was there and stays, as it is not nifbuild's, or others write to it, too;
            empty where nothing does.

        Raises:
            SpecError: If it holds a run and `overwrite` is false, or what is no run's.
            RunError: If it cannot be written.
        """
        self.require_free(overwrite=overwrite)
        with self.writing():
            if holds_run(self.path):
                self._clear()
            (self.path / "checkpoints").mkdir(parents=True, exist_ok=True)
        passing = (LOCK, "checkpoints")
        kept = [path.name for path in entries(self.path) if path.name not in passing]
        return f"{self.path} holds what was there before, too: {listing(kept)}" if kept else ""

    def _clear(self) -> None:
        # Checkpoints first: a kill on the way must leave none for --resume to go on from.
        for name in FOLDERS:
            remove_folder(self.path / name)
        self.remove_unfinished()
        self._remove_pages()
        # Last what tells that it is a run: a kill before must leave what can be overwritten.
        for name in sorted(FILES, key=("spec.yaml", "environment.json").count):
            (self.path / name).unlink(missing_ok=True)

    def begin_again(self) -> None:
        """Readies a run that has saved no checkpoint for its beginning."""
        with self.writing():
            (self.path / "checkpoints").mkdir(exist_ok=True)
        self.remove_unfinished()
        self.rewind_metrics(0)

    def describe(self, spec_text: str, data: Document, init: Document | None) -> None:
        """Writes what the run is about: the spec, the data, the checkpoint it starts from."""
        with self.writing():
            write_atomically(self.spec, spec_text.encode())
            self._write_json("data.json", data)
            if init is not None:
                self._write_json("init.json", init)

    def update_spec(self, spec_text: str) -> None:
        """Writes the spec that a run goes on with."""
        with self.writing():
            write_atomically(self.spec, spec_text.encode())

    def add_start(self, environment: Document) -> None:
        """Adds an entry to `environment.json`: the run was started, or resumed, like this.

        Before all else of a run, as it tells that the directory is one.
        """
        entry = {**environment, "first_checkpoint": None}
        with self.writing():
            self._write_json("environment.json", {"starts": [*self.starts(), entry]})

    def _note_checkpoint(self, name: str) -> None:
        """Notes that this start has saved one: it is told apart from a run that never did."""
        with contextlib.suppress(RunError):  # a file that was damaged meanwhile is no reason to end
            starts = self.starts()
            if starts and starts[-1].get("first_checkpoint", name) is None:
                starts[-1]["first_checkpoint"] = name
                self._write_json("environment.json", {"starts": starts})

    # Checkpoints

    def save_checkpoint(
        self,
        step: int,
        files: Mapping[str, bytes],
        progress: Document,
        is_own: IsOwn = lambda identity: True,
    ) -> Path:
        """Writes a checkpoint, complete or not at all.

        Args:
            step: Optimizer steps done. The weights of one step are always the same; where its
                checkpoint is there already, only the progress is replaced.
            files: Content by name.
            progress: Content of `progress.json`.
            is_own: Whether an identity is this run's.

        Raises:
            RunError: It cannot be written, or something else is in its place.
        """
        final = self.checkpoint_path(step)
        with self.writing():
            if not final.exists():
                write_folder(final, {**files, "progress.json": as_json(progress)})
            elif is_checkpoint(final) and is_own((saved := self.progress(final))["identity"]):
                # What was saved stays; another way to the same weights may write them otherwise.
                kept = {FINGERPRINTS: saved[FINGERPRINTS]} if FINGERPRINTS in saved else {}
                write_atomically(final / "progress.json", as_json({**progress, **kept}))
            else:
                what, fix = f"{final} is in the way", "move it away, then continue with --resume"
                what += f": it is not this run's checkpoint of step {step}"
                raise RunError(Problem(what, fix=fix, code="write"))
            self._note_checkpoint(final.name)
        return final

    def point_to_best(self, best: Document) -> None:
        """Writes `best.json`; `best["checkpoint"]` is the name of a checkpoint."""
        with self.writing():
            self._write_json("best.json", best)

    def prune(
        self, keep: int, best_step: int | None, is_own: IsOwn = lambda identity: True
    ) -> None:
        """Deletes all but the newest `keep` checkpoints and the best one.

        Args:
            keep: How many.
            best_step: Of the best one.
            is_own: Whether an identity is this run's: checkpoints of another run stay.
        """
        best = None if best_step is None else self.checkpoint_path(best_step)
        for path in self.checkpoints[:-keep]:
            if path != best and is_own_checkpoint(path, is_own):
                with contextlib.suppress(OSError):  # it costs room, and no more
                    remove_folder(path)

    def remove_unfinished(self) -> None:
        """Deletes what a crash left of files and folders that were being written or removed."""
        for path in list(unfinished(self.path)):
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
        """The lines of `metrics.jsonl`; a last one that a crash cut short is left out.

        Raises:
            RunError: If it cannot be read.
        """
        path = self.path / "metrics.jsonl"
        return read_lines(path) if path.exists() or path.is_symlink() else []

    def rewind_metrics(self, epochs: int) -> None:
        """Drops the lines of epochs after the given number: they will be written again."""
        kept = [line for line in self.metrics() if line["epoch"] <= epochs]
        text = "".join(json.dumps(line) + "\n" for line in kept)
        with self.writing():
            write_atomically(self.path / "metrics.jsonl", text.encode())
            (self.path / "metrics.json").unlink(missing_ok=True)
            self._remove_pages()  # they tell of it

    def _remove_pages(self) -> None:
        for page in list(own_pages(self.path)):
            page.unlink()

    def finish(self, figures: Document) -> None:
        """Writes `metrics.json`, which marks the run as complete."""
        with self.writing():
            self._write_json("metrics.json", figures)

    def write_page(self, name: str, text: str) -> bool:
        """Writes one of `PAGES`, over nothing that people have written or changed.

        Returns:
            Whether it is there now, rather than theirs.

        Raises:
            RunError: It cannot be written.
        """
        with self.writing():
            return write_sealed(self.path / name, text)

    def record_shrinking(self, document: Document) -> None:
        """Writes `shrink.json`."""
        with self.writing():
            self._write_json("shrink.json", document)

    def result(self) -> Document | None:
        """The final figures, or None while the run is not complete."""
        return self._read("metrics.json")

    def best(self) -> Document | None:
        """Which checkpoint was best on validation so far; None where there is no validation."""
        return self._read("best.json")

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
        return read_document(path) if path.exists() or path.is_symlink() else None

    def _write_json(self, name: str, document: Document) -> None:
        write_atomically(self.path / name, as_json(document))

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Turns a failing write (disk full, no permission) into one clear RunError."""
        try:
            yield
        except OSError as error:
            raise RunError(self._write_problem(error)) from error

    def _write_problem(self, error: OSError) -> Problem:
        saved: list[Path] = []
        with contextlib.suppress(RunError):  # a folder that cannot be entered
            saved = self.checkpoints
        return write_problem(self.path, error, saved[-1].name if saved else None)
