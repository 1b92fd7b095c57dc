"""One cell in a process of its own, so that whatever happens to it happens to no other.

The process holds the cell's lock for as long as it lives, so that a cell is never run twice at
once; and it ends, with a checkpoint saved, where the process that started it has gone.
"""

import dataclasses
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from datetime import UTC, datetime
from pathlib import Path

from nifbuild.ablate.cells import CellDirectory, Origin
from nifbuild.ablate.collect import FIGURES, weights_hash
from nifbuild.ablate.forms import Document
from nifbuild.errors import InterruptedRun, NifbuildError, RunError
from nifbuild.machine.launch import stop_signals
from nifbuild.machine.terminal import careful_stderr

BUSY = 75
"""Exit code where another process runs the cell: EX_TEMPFAIL of sysexits.h."""

_GRACE_SECONDS = 60.0
"""How long a process may outlive the one that started it: it saves a checkpoint."""


def run_cell(path: str, working_directory: str, threads: int, gpu: str | None) -> None:
    """Trains a cell, or goes on where an earlier attempt stopped; the target of its process.

    Args:
        path: The cell's directory.
        working_directory: From which paths of data count.
        threads: Of torch.
        gpu: What CUDA_VISIBLE_DEVICES is to be; None: as it is.

    Raises:
        SystemExit: 0: done; 1: failed, `failure.json` says why; BUSY; 128 and more: interrupted.
    """
    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, stop_signals())  # see `process`
    threading.Thread(target=_follow_parent, daemon=True).start()
    os.chdir(working_directory)
    cell = CellDirectory(path)
    _write_to_log(cell.log)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    with careful_stderr():
        sys.exit(_exit_code(cell, threads))


def _follow_parent() -> None:
    """Ends this process as if by SIGTERM once the one that started it has gone."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE_SECONDS)
    os._exit(128 + signal.SIGTERM)


def _write_to_log(log: Path) -> None:
    """Sends all that is written from now on to the cell's log; and leaves the terminal.

    Ctrl-C then reaches the cell once, through the process that started it.
    """
    if hasattr(os, "setsid"):
        os.setsid()
    os.environ.pop("FORCE_COLOR", None)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for standard in (1, 2):
        os.dup2(descriptor, standard)
    os.close(descriptor)


def _exit_code(cell: CellDirectory, threads: int) -> int:
    from nifbuild.runs.lock import locked

    try:
        with locked(cell.path):
            if cell.result() is not None:
                return 0
            cell.forget_failure()
            _say(f"--- attempt at {datetime.now(UTC).isoformat(timespec='seconds')}")
            cell.finish(_trained(cell, threads))
            return 0
    except InterruptedRun as error:
        _say(str(error))
        return error.exit_code
    except NifbuildError as error:
        if any(problem.code == "run-in-use" for problem in error.problems):
            return BUSY
        _say(f"error: {error}")
        cell.fail(str(error))
    except Exception as error:
        _say(traceback.format_exc())
        cell.fail(f"{type(error).__name__}: {error}")
    return 1


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _trained(cell: CellDirectory, threads: int) -> Document:
    import torch

    from nifbuild.machine.progress import reporter
    from nifbuild.report.model_card import write_run_card
    from nifbuild.runs.directory import RunDirectory
    from nifbuild.spec.resolve import load_spec
    from nifbuild.train.run import train_run

    report = reporter(quiet=False)
    description = _description(cell)
    torch.set_num_threads(threads)
    resolved = load_spec(cell.spec)
    with resolved.placing():
        trained = train_run(resolved, cell.run, resume=True, report=report)
    write_run_card(RunDirectory(cell.run), report)
    return {**_figures(cell, trained.document(), description), **_filter_sizes(cell.run)}


def _description(cell: CellDirectory) -> Document:
    """What the cell is, which has to be what this process would run under that name."""
    from nifbuild.ablate.origins import versions

    found = cell.description()
    origin = None if found is None else Origin.of(found)
    if found is None or origin is None:
        raise RunError(f"{cell.path / 'cell.json'} does not say what the cell is")
    if dataclasses.replace(origin, **versions()) != origin:
        raise RunError(
            "nifbuild or torch differ from those that planned the cell",
            fix="install the same on all machines; after a change, call `nifbuild ablate run` anew",
        )
    return found


def _figures(cell: CellDirectory, figures: Document, description: Document) -> Document:
    from nifbuild.runs.directory import RunDirectory

    run = RunDirectory(cell.run)
    if run.data()["fingerprint"] != description["origin"]["data"]:
        raise RunError(
            "the data has changed since the cell was planned",
            fix=f"delete {cell.path}, and run again",
        )
    environment = run.starts()[-1]
    on = ("device", "device_name", "threads", "packages", "precision", "git_commit", "started")
    return {
        "spec_hash": description["spec_hash"],
        "origin": description["origin"],
        "weights": weights_hash(cell.run / "checkpoints" / figures["checkpoint"]),
        **{name: figures[name] for name in FIGURES},
        "train_images": run.data()["splits"]["train"],
        "environment": {name: environment[name] for name in on},
    }


def _filter_sizes(run: Path) -> Document:
    """Of a run, at the checkpoint of its figures, beside the weights that training started from."""
    from nifbuild.report.filter_windows import effective_sizes
    from nifbuild.runs.loaded import load_run
    from nifbuild.train.initial_weights import fresh_model

    trained = load_run(run)
    shape = trained.resolved.graph.input_shape
    size = (shape.channels, shape.size[0], shape.size[1])
    return effective_sizes(trained.model, fresh_model(trained.resolved), size)
