"""Functions called in other processes, which are forked from one that has loaded torch.

Starting Python with torch anew takes seconds for each process; tests in which the start is not the
subject need not pay for it.
"""

import multiprocessing
import os
import pickle
import signal
import socket
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nifbuild.machine.launch import stop_signals

PRELOADED = [
    "nifbuild.ablate.worker",
    "nifbuild.cli.app",
    "nifbuild.train.run",
    "nifbuild.runs.loaded",
    "nifbuild.report.filter_windows",
    "torch._dynamo",
    "datasets",
    "sklearn.datasets",
]
"""What children begin with, and with what training loads on its way; as `ablate` has it, too."""

PATIENCE = 120.0
"""Seconds after which a child is taken for one that will never end."""


def in_child(function: Callable[..., Any], *arguments: Any) -> Any:
    """What the function returns in a process of its own."""
    (result,) = _results(function, arguments, [{}])
    return result


def in_children(function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What the function returns in each of two processes that train together."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "GLOO_SOCKET_IFNAME": "lo"}
    common |= {"WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
    ranks = [{**common, "RANK": rank, "LOCAL_RANK": rank} for rank in range(2)]
    return _results(function, arguments, ranks)


def _results(
    function: Callable[..., Any], arguments: tuple[Any, ...], environments: list[dict[str, Any]]
) -> list[Any]:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    children = []
    try:
        for environment in environments:
            receiving, sending = context.Pipe(duplex=False)
            task = (sending, environment, Path.cwd(), function, arguments)
            child = context.Process(target=_call, args=task)
            child.start()
            sending.close()
            children.append((child, receiving))
        results = []
        for rank, (child, receiving) in enumerate(children):
            assert receiving.poll(PATIENCE), f"process {rank} has not ended"
            done, result = pickle.loads(receiving.recv_bytes())
            assert done, f"in process {rank}:\n{result}"
            results.append(result)
            child.join(PATIENCE)
        return results
    finally:
        for child, receiving in children:
            child.kill()
            child.join()
            child.close()
            receiving.close()


def _call(
    sending: Any,
    environment: dict[str, Any],
    folder: Path,
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
) -> None:
    import torch

    # The server that forks may have been started by an ablation, which blocks them at its start.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, stop_signals())
    os.environ |= {name: str(value) for name, value in environment.items()}
    os.chdir(folder)
    torch.set_num_threads(1)
    try:
        result = (True, function(*arguments))
    except BaseException:
        result = (False, traceback.format_exc())
    # Not by `send`: it would hand over tensors as files that are open as long as this process is.
    sending.send_bytes(pickle.dumps(result))
