"""What of a study has been run, how it ended, and which of it is damaged."""

import os
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from nifbuild.ablate.cells import UNKNOWN, Cell, CellDirectory, Origin, Store, cells_of
from nifbuild.ablate.forms import Damaged, Document, State, unreadable
from nifbuild.ablate.origins import origins
from nifbuild.errors import RunError
from nifbuild.runs.directory import RunDirectory
from nifbuild.runs.intact import AVERAGE, WEIGHTS, digest_of_file, evaluated_weights
from nifbuild.runs.lock import is_locked, locked
from nifbuild.spec.study import Study, Variant

FIGURES = ("split", "top1", "top5", "loss", "num_samples", "epoch", "checkpoint", "seconds")
"""What a cell's result takes over from its run."""

_METRICS = "metrics.json"
_OTHER_WEIGHTS = "the checkpoint in run/ is not the one that was evaluated"

_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass
class Collected:
    """The cells of a study that lie in a directory.

    A result counts where it is of the data, the versions and the code that are here: those that
    `nifbuild ablate run` would not train anew. Where the data is not at hand, results have to be of
    the same data as the newest.

    Attributes:
        study: Which.
        origins: What results of each variant have to be of, by its name.
        directories: Cells that count, done or not, by the hash of their spec.
        stale: Why the results of a spec do not count, by its hash.
        stale_results: How many there are, by why.
        damaged: What is wrong with figures, by the hash of their spec.
        unchecked: Hashes of specs whose figures count, with none of the run to compare them with.
        nameless: Folders of cells that do not say what they are.
        other_specs: How many results are of specs that the study does not have (any more).
    """

    study: Study
    origins: Mapping[str, Origin]
    directories: dict[str, CellDirectory] = field(default_factory=dict)
    stale: dict[str, str] = field(default_factory=dict)
    stale_results: Counter[str] = field(default_factory=Counter)
    damaged: dict[str, str] = field(default_factory=dict)
    unchecked: set[str] = field(default_factory=set)
    nameless: list[Path] = field(default_factory=list)
    other_specs: int = 0

    def directory(self, cell: Cell) -> CellDirectory | None:
        """Where the cell lies, if it was ever started."""
        return self.directories.get(cell.spec_hash)

    def result(self, cell: Cell) -> Document | None:
        """Its figures, if it is done."""
        directory = self.directory(cell)
        damaged = cell.spec_hash in self.damaged
        return None if directory is None or damaged else directory.result()

    def state(self, cell: Cell) -> State:
        """How far it is."""
        directory = self.directory(cell)
        if self.result(cell) is not None:
            return "done"
        if directory is not None and is_locked(directory.path):
            return "running"
        if cell.spec_hash in self.damaged:
            return "damaged"
        if directory is not None and directory.failure() is not None:
            return "failed"
        if directory is not None and directory.has_begun:
            return "begun"
        return "stale" if cell.spec_hash in self.stale else "missing"

    def keys_done(self, variants: Collection[Variant]) -> set[str]:
        """The keys of the cells of these variants that are done."""
        cells = (Cell(variant, seed) for variant in variants for seed in self.study.spec.seeds)
        done = (cell for cell in cells if self.result(cell) is not None)
        return {self.directories[cell.spec_hash].path.name for cell in done}

    @property
    def unknown_data(self) -> bool:
        """Whether the data of some variant is not at hand, so that it was not looked at."""
        return any(origin.data == UNKNOWN for origin in self.origins.values())

    def warnings(self) -> list[str]:
        """What was found and does not count, or could not be checked, in words."""
        found = [
            f"{count} result{'s are' if count > 1 else ' is'} stale, being {why}: not counted"
            for why, count in self.stale_results.items()
        ]
        for cell in cells_of(self.study):
            if cell.spec_hash in self.damaged:
                found.append(f"{cell.name} is damaged: {self.damaged[cell.spec_hash]}: not counted")
        if count := self.other_specs:
            words = "1 result is" if count == 1 else f"{count} results are"
            found.append(f"{words} of specs or seeds that this study does not have: not counted")
        found += [f"{path} does not say what cell it is: not counted" for path in self.nameless]
        if count := len(self.unchecked):
            words = (
                f"{count} results have no run/{_METRICS} beside them, so that they were not checked"
                if count > 1
                else f"1 result has no run/{_METRICS} beside it, so that it was not checked"
            )
            found.append(words)
        return list(dict.fromkeys(found))


def collect(study: Study, store: Store) -> Collected:
    """Finds the study's cells in a directory; writes nothing.

    Raises:
        SpecError: A spec does not suit its data.
        RunError: A file there may not be read, or the data is broken.
    """
    collected = Collected(study, origins(study, fetch=False))
    wanted = {cell.spec_hash: cell for cell in cells_of(study)}
    candidates = []
    for directory in store.cells():
        description = directory.description()
        if description is None:
            # Without either, another process may be about to write what it is.
            collected.nameless += [directory.path] if directory.has_content else []
            continue
        cell, origin = wanted.get(description["spec_hash"]), Origin.of(description)
        if cell is None:
            collected.other_specs += directory.has_result
            continue
        if differences := collected.origins[cell.variant.name].differences(origin):
            _note_stale(collected, cell, directory, ", ".join(differences))
        elif origin is not None:
            candidates.append((_moment(directory), cell, directory, origin))
    # Oldest first: of what is unknown, the last one decides.
    candidates.sort(key=lambda candidate: candidate[0])
    newest = {(_data_of(c), c.variant.resolved.spec.train.init): o for _, c, _, o in candidates}
    for _, cell, directory, origin in candidates:
        of = newest[_data_of(cell), cell.variant.resolved.spec.train.init]
        if differences := of.differences(origin):
            _note_stale(collected, cell, directory, ", ".join(differences))
            continue
        collected.directories[cell.spec_hash] = directory
        if damage := damage_of(directory):
            collected.damaged[cell.spec_hash] = damage
        elif directory.has_result and not os.path.lexists(directory.run / _METRICS):
            collected.unchecked.add(cell.spec_hash)
    return collected


def _note_stale(collected: Collected, cell: Cell, directory: CellDirectory, why: str) -> None:
    if directory.has_result:
        collected.stale[cell.spec_hash] = why
        collected.stale_results[why] += 1


def _data_of(cell: Cell) -> str:
    data = cell.variant.resolved.spec.data
    return "" if data is None else data.model_dump_json()


def _moment(directory: CellDirectory) -> datetime:
    """When it was started; a cell without figures comes before all that have some."""
    result = directory.result()
    return _NEVER if result is None else datetime.fromisoformat(result["environment"]["started"])


def damage_of(cell: CellDirectory) -> str | None:
    """Why a cell's figures cannot be counted; None where they can, or there are none.

    Of its run, what is there is compared: checkpoints may have been left out to save room.

    Raises:
        RunError: A file may not be read.
    """
    try:
        result = cell.read_result()
        return None if result is None else _against_run(cell, result)
    except Damaged as error:
        return f"result.json: {error}"
    except OSError as error:
        raise unreadable(cell.path, error) from error


def _against_run(cell: CellDirectory, result: Document) -> str | None:
    run = RunDirectory(cell.run)
    try:
        figures = run.result()
    except RunError as error:
        return str(error)
    if figures is not None and any(figures.get(name) != result[name] for name in FIGURES):
        return f"result.json and run/{_METRICS} differ"
    checkpoint = next((c for c in run.checkpoints if c.name == result["checkpoint"]), None)
    if checkpoint is not None and weights_hash(checkpoint) not in (None, result["weights"]):
        return _OTHER_WEIGHTS
    return None


def weights_hash(checkpoint: Path) -> str | None:
    """SHA-256 of the weights that are evaluated, in hexadecimal; None where they are gone.

    Of weights that are not what was saved, it is empty.
    """
    try:
        return digest_of_file(evaluated_weights(checkpoint))
    except RunError:
        return "" if any((checkpoint / name).exists() for name in (WEIGHTS, AVERAGE)) else None


def set_damaged_aside(cell: CellDirectory) -> str | None:
    """Has a cell whose figures are damaged run again; why they are, or None where they are not.

    A sound checkpoint is evaluated anew; without one, training starts anew. Nothing but what can be
    computed from the checkpoint is deleted: the rest gets another name.

    Raises:
        RunError: A file may not be read or renamed.
    """
    if damage_of(cell) is None:
        return None
    try:
        with locked(cell.path):
            damage = damage_of(cell)  # another process may just have mended it
            if damage is None:
                return None
            cell.set_aside("result.json")
            run = RunDirectory(cell.run)
            if damage != _OTHER_WEIGHTS and run.checkpoints:
                (run.path / _METRICS).unlink(missing_ok=True)
            else:
                cell.set_aside("run")
            return damage
    except RunError as error:
        if any(problem.code == "run-in-use" for problem in error.problems):
            return None  # the other process mends it
        raise
    except OSError as error:
        raise RunError(f"cannot write to {cell.path}: {error.strerror or error}") from error
