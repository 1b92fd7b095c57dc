"""Whether the figures of a cell are still those of its run, and what is done where they are not."""

from pathlib import Path

from nifbuild.ablate.cells import CellDirectory
from nifbuild.ablate.documents import Damaged, Document, unreadable
from nifbuild.errors import RunError
from nifbuild.runs.directory import RunDirectory
from nifbuild.runs.intact import AVERAGE, WEIGHTS, digest_of_file, evaluated_weights
from nifbuild.runs.lock import locked

FIGURES = ("split", "top1", "top5", "loss", "num_samples", "epoch", "checkpoint", "seconds")
"""What a cell's result takes over from its run."""

_OTHER_WEIGHTS = "the checkpoint in run/ is not the one that was evaluated"


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
        return "result.json and run/metrics.json differ"
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
                (run.path / "metrics.json").unlink(missing_ok=True)
            else:
                cell.set_aside("run")
            return damage
    except RunError as error:
        if any(problem.code == "run-in-use" for problem in error.problems):
            return None  # the other process mends it
        raise
    except OSError as error:
        raise RunError(f"cannot write to {cell.path}: {error.strerror or error}") from error
