"""Runs cells in processes on this machine."""

import os
from collections.abc import Sequence
from multiprocessing.connection import wait

from nifbuild.ablate.cells import CellDirectory
from nifbuild.ablate.process import CellProcess, Outcome, threads_for


def visible_gpus() -> list[str]:
    """The GPUs of this machine that may be used, as CUDA_VISIBLE_DEVICES names them."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [name for name in given.split(",") if name.strip()]
    import torch

    return [str(index) for index in range(torch.cuda.device_count())]


class LocalEngine:
    """Runs up to `workers` cells at once; they share the cores, and take turns at the GPUs.

    Args:
        workers: Cells at once.
        timeout: Seconds that an attempt may take; None: any.
        gpus: Names of the GPUs; each cell sees one of them.
    """

    def __init__(
        self, workers: int, timeout: float | None = None, gpus: Sequence[str] | None = None
    ) -> None:
        self.workers = workers
        self._timeout = timeout
        self._threads = threads_for(workers)
        self._gpus = visible_gpus() if gpus is None else gpus
        self._slots: dict[int, CellProcess] = {}

    @property
    def free(self) -> bool:
        """Whether another cell can be started."""
        return len(self._slots) < self.workers

    @property
    def running(self) -> list[CellDirectory]:
        """The cells that have been started and have not ended."""
        return [process.cell for process in self._slots.values()]

    def start(self, cell: CellDirectory) -> None:
        """Starts a cell."""
        slot = next(i for i in range(self.workers) if i not in self._slots)
        gpu = self._gpus[slot % len(self._gpus)] if self._gpus else None
        self._slots[slot] = CellProcess(cell, threads=self._threads, gpu=gpu, timeout=self._timeout)

    def ended(self, seconds: float) -> list[tuple[CellDirectory, Outcome]]:
        """Waits up to so long until a cell has ended; all that have, and how."""
        wait([process.sentinel for process in self._slots.values()], seconds)
        found = []
        for slot, process in list(self._slots.items()):
            outcome = process.poll()
            if outcome is not None:
                del self._slots[slot]
                found.append((process.cell, outcome))
        return found

    def stop_cell(self, cell: CellDirectory) -> None:
        """Asks one cell to save a checkpoint and end."""
        for process in self._slots.values():
            if process.cell is cell:
                process.stop()

    def stop(self) -> None:
        """Asks all cells to save a checkpoint and end."""
        for process in self._slots.values():
            process.stop()

    def close(self) -> None:
        """Ends what still runs, at once."""
        for process in self._slots.values():
            process.kill()
        self._slots.clear()
