"""What of a study has been run, and how it ended."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

from nifbuild.ablate.cells import Cell, CellDirectory, Document, Origin, Store, cells_of
from nifbuild.spec.study import Study
from nifbuild.train.lock import is_locked

State = Literal["done", "failed", "running", "missing"]


@dataclass
class Collected:
    """The cells of a study that lie in a directory.

    Results are compared only where they are of the same versions and the same data: those of the
    newest result count, and others are left out.

    Attributes:
        study: Which.
        directories: Those that count, by the hash of their spec.
        left_out: Results of other versions or other data.
    """

    study: Study
    directories: dict[str, CellDirectory] = field(default_factory=dict)
    left_out: int = 0

    def directory(self, cell: Cell) -> CellDirectory | None:
        """Where the cell lies, if it was ever started."""
        return self.directories.get(cell.spec_hash)

    def result(self, cell: Cell) -> Document | None:
        """Its figures, if it is done."""
        directory = self.directory(cell)
        return None if directory is None else directory.result()

    def state(self, cell: Cell) -> State:
        """How far it is."""
        directory = self.directory(cell)
        if directory is None:
            return "missing"
        if directory.result() is not None:
            return "done"
        if is_locked(directory.path):
            return "running"
        return "failed" if directory.failure() is not None else "missing"


def collect(study: Study, store: Store) -> Collected:
    """Finds the study's cells in a directory.

    Raises:
        RunError: A file there is damaged.
    """
    wanted = {cell.spec_hash: _data_of(cell) for cell in cells_of(study)}
    found = [
        (directory, description)
        for directory in store.cells()
        if (description := directory.description())["spec_hash"] in wanted
    ]
    # Oldest first, those without a result before all: of each sort, the last one counts.
    found.sort(key=lambda pair: _moment(pair[0]))
    collected = Collected(study)
    if not found:
        return collected
    newest = Origin.of(found[-1][1])
    same = [
        (directory, document)
        for directory, document in found
        if (origin := Origin.of(document)).nifbuild == newest.nifbuild
        and origin.torch == newest.torch
    ]
    data = {wanted[document["spec_hash"]]: Origin.of(document).data for _, document in same}
    for directory, document in same:
        if Origin.of(document).data == data[wanted[document["spec_hash"]]]:
            collected.directories[document["spec_hash"]] = directory
    counted = Counter(d.path for d in collected.directories.values())
    collected.left_out = sum(
        1 for d, _ in found if d.path not in counted and d.result() is not None
    )
    return collected


def _data_of(cell: Cell) -> str:
    data = cell.variant.resolved.spec.data
    return "" if data is None else data.model_dump_json()


def _moment(directory: CellDirectory) -> str:
    result = directory.result()
    return "" if result is None else str(result["environment"]["started"])
