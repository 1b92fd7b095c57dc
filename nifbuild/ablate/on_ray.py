"""Runs cells on a Ray cluster.

A Ray task watches over a cell's process, as `local` does on one machine. Where its worker or node
dies, Ray gives the task to another one; if both see the same files, that one goes on from the last
checkpoint. Where they do not share files, results and logs come back through Ray.
"""

import os
import sys
import time
from pathlib import Path
from typing import Any

from nifbuild.ablate.cells import CellDirectory, write_file
from nifbuild.ablate.forms import Document
from nifbuild.ablate.process import CellProcess, Outcome
from nifbuild.errors import Mark, Problem, RunError, SpecError, not_installed

_MAX_RETRIES = 3
_POLL_SECONDS = 0.2

_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Cells without a GPU are not to have one taken away; Ray warns unless told.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


class RayEngine:
    """Gives all cells to Ray, which runs as many at once as its resources allow.

    Args:
        address: Of a running cluster, or `auto`; None: Ray is started on this machine.
        cpus: Processors of each cell; also its threads.
        gpus: Graphics cards of each cell; may be a fraction.
        timeout: Seconds that an attempt may take; None: any.

    Raises:
        SpecError: Ray is not installed, or this machine lacks what a cell needs.
        RunError: The cluster cannot be reached.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        cpus: float = 1,
        gpus: float = 0,
        timeout: float | None = None,
    ) -> None:
        for name, value in _QUIET.items():
            os.environ.setdefault(name, value)
        self._ray = _import_ray()
        self._options = {"num_cpus": cpus, "num_gpus": gpus, "max_retries": _MAX_RETRIES}
        self._threads = max(1, int(cpus))
        self._timeout = timeout
        self._tasks: dict[Any, CellDirectory] = {}
        self._connect(address)
        self._require_room(address, cpus, gpus)

    def _connect(self, address: str | None) -> None:
        try:
            self._ray.init(
                address=address,
                include_dashboard=None if address else False,
                logging_level="ERROR",
                log_to_driver=False,
            )
        except (ConnectionError, ValueError, RuntimeError) as error:
            what = f"cannot reach Ray at {address}: {error}" if address else f"no Ray: {error}"
            fix = "start it with `ray start --head`, or leave --address out"
            raise RunError(Problem(what, Mark("--address"), fix=fix, code="ray")) from error

    def _require_room(self, address: str | None, cpus: float, gpus: float) -> None:
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        if any(n.get("CPU", 0) >= cpus and n.get("GPU", 0) >= gpus for n in nodes):
            return
        what = f"no node has {cpus:g} CPUs and {gpus:g} GPUs for a cell"
        if address is None:
            self._ray.shutdown()
            fix = "ask for less: --cpus-per-cell, --gpus-per-cell"
            raise SpecError(Problem(what, fix=fix, code="ray"))
        sys.stderr.write(f"warning: {what} yet: cells wait for one\n")

    @property
    def free(self) -> bool:
        """Always: Ray queues what has no room yet, and a cluster may grow for it."""
        return True

    @property
    def workers(self) -> None:
        """Cells at once: nobody knows."""
        return None

    @property
    def running(self) -> list[CellDirectory]:
        """The cells that Ray has."""
        return list(self._tasks.values())

    def start(self, cell: CellDirectory) -> None:
        """Gives a cell to Ray."""
        files = {name: (cell.path / name).read_text() for name in ("cell.json", "spec.yaml")}
        remote = self._ray.remote(**self._options)(_run_on_worker)
        path, here = str(cell.path.absolute()), str(Path.cwd())
        self._tasks[remote.remote(path, files, here, self._threads, self._timeout)] = cell

    def ended(self, seconds: float) -> list[tuple[CellDirectory, Outcome]]:
        """Waits up to so long until a cell has ended; all that have, and how."""
        if not self._tasks:
            return []
        ready, _ = self._ray.wait(list(self._tasks), num_returns=1, timeout=seconds)
        more, _ = self._ray.wait(list(self._tasks), num_returns=len(self._tasks), timeout=0)
        return [self._settled(task) for task in dict.fromkeys([*ready, *more])]

    def _settled(self, task: Any) -> tuple[CellDirectory, Outcome]:
        cell = self._tasks.pop(task)
        try:
            report = self._ray.get(task)
        except self._ray.exceptions.TaskCancelledError:
            return cell, Outcome("interrupted")
        except self._ray.exceptions.RayError as error:
            reason = f"Ray: {type(error).__name__}: {' '.join(str(error).split())}"
            cell.fail(reason)
            return cell, Outcome("failed", reason)
        bring_home(cell, report)
        return cell, Outcome(report["state"], report["reason"])

    def stop(self) -> None:
        """Asks all cells to save a checkpoint and end."""
        for task in self._tasks:
            self._ray.cancel(task, force=False)

    def close(self) -> None:
        """Ends what still runs, and leaves the cluster."""
        for task in self._tasks:
            self._ray.cancel(task, force=True)
        self._tasks.clear()
        self._ray.shutdown()


def _import_ray() -> Any:
    try:
        import ray
        import ray.exceptions
    except ImportError:
        raise SpecError(not_installed("Ray", "ray", Mark("--engine"))) from None
    return ray


def _run_on_worker(
    path: str, files: dict[str, str], directory: str, threads: int, timeout: float | None
) -> Document:
    """The Ray task: runs one cell to its end, in a process of its own."""
    cell = CellDirectory(path)
    try:
        cell.path.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            if not (cell.path / name).exists():
                write_file(cell.path / name, text)
    except OSError as error:
        raise RunError(f"cannot write to {cell.path}: {error.strerror}") from error
    gpu = os.environ.get("CUDA_VISIBLE_DEVICES")
    here = directory if Path(directory).is_dir() else None
    while True:
        process = CellProcess(
            cell, threads=threads, gpu=gpu, timeout=timeout, working_directory=here
        )
        outcome = _watched(process)
        # Perhaps an attempt on a node that is going down is saving its checkpoint still.
        if outcome.state != "busy":
            break
        time.sleep(1)
    return {
        "state": outcome.state,
        "reason": outcome.reason,
        "result": cell.result(),
        "log": cell.log.read_text(errors="replace"),
    }


def _watched(process: CellProcess) -> Outcome:
    try:
        while (outcome := process.poll()) is None:
            try:
                time.sleep(_POLL_SECONDS)
            except KeyboardInterrupt:  # how Ray cancels a task
                process.stop()
        return outcome
    finally:
        process.kill()


def bring_home(cell: CellDirectory, report: Document) -> None:
    """Writes here what a node without shared files wrote there."""
    if not cell.log.exists():
        write_file(cell.log, report["log"])
    if report["state"] == "done" and cell.result() is None:
        cell.finish(report["result"])
    elif report["state"] == "failed" and cell.failure() is None:
        cell.fail(report["reason"])
