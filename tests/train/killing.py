"""Trains for real, kills it for real, and goes on from what is left; a program for tests.

    python killing.py '{"spec": ..., "folder": ..., "processes": 1, "kills": [...], ...}'

Starting Python with torch takes seconds. So this process imports everything and forks those that
train: they are processes like any other, and each ends by SIGKILL, at one of two kinds of moment:

    {"at": "file", "count": 3}   a child stops when the event has come so often, and is killed there
    {"within": 0.2}              at a random share of the uninterrupted run's time, up to this one

It first trains once without a kill, into `whole`; then into `parts`, once for each kill and a last
time to the end. On stdout: what happened, as JSON.
"""

import json
import os
import random
import shutil
import signal
import socket
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import datasets
import safetensors.torch
import sklearn.datasets
import torch
import torch._dynamo

from nifbuild.machine.progress import Reporter
from nifbuild.runs.directory import RunDirectory
from nifbuild.spec.resolve import load_spec
from nifbuild.train.run import train_run

PRELOADED = (datasets, sklearn.datasets, torch._dynamo)
"""What training loads on the way: once here, rather than in each child."""

EVENTS = ("begin", "step", "batch", "file", "rename", "replace", "remove")
"""Training begins; a step is done; a batch was evaluated; a file of a checkpoint was written, a
checkpoint got its name, a JSON file got its name, an old checkpoint was removed."""

PATIENCE = 120.0


class Stops(Reporter):
    """Stops this process where an event has come `count` times, and says so through a pipe."""

    def __init__(self, pipe: int, event: str, count: int) -> None:
        self.pipe, self.event, self.left = pipe, event, count
        os.fsync = self.after("file", os.fsync)
        Path.rename = self.after("rename", Path.rename)
        Path.replace = self.after("replace", Path.replace)
        shutil.rmtree = self.after("remove", shutil.rmtree)

    def after(self, event: str, call: Any) -> Any:
        def called(*arguments: Any, **options: Any) -> Any:
            result = call(*arguments, **options)
            self.hear(event)
            return result

        return called

    def hear(self, event: str) -> None:
        if event == self.event:
            self.left -= 1
            if self.left == 0:
                os.write(self.pipe, b"x")
                time.sleep(10 * PATIENCE)

    def begin(self, *arguments: Any) -> None:
        self.hear("begin")

    def step(self, *arguments: Any) -> None:
        self.hear("step")

    def batch(self) -> None:
        self.hear("batch")


class Begins(Reporter):
    """Says through a pipe that training begins."""

    def __init__(self, pipe: int) -> None:
        self.pipe = pipe

    def begin(self, *arguments: Any) -> None:
        os.write(self.pipe, b"x")


def start(plan: dict[str, Any], out: str, kill: dict[str, Any] | None, victim: int) -> Any:
    """Forks the processes of one start; returns their ids, and where the victim is heard."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    heard, pipe = os.pipe()
    children = []
    for rank in range(plan["processes"]):
        child = os.fork()
        if child == 0:
            os.close(heard)
            train(plan, out, rank, port, report_for(kill, pipe) if rank == victim else None)
        children.append(child)
    os.close(pipe)
    return children, heard


def report_for(kill: dict[str, Any] | None, pipe: int) -> Reporter:
    return Stops(pipe, kill["at"], kill["count"]) if kill and "at" in kill else Begins(pipe)


def train(plan: dict[str, Any], out: str, rank: int, port: int, report: Reporter | None) -> None:
    os.chdir(plan["folder"])
    if plan["processes"] > 1:
        ranks = {"RANK": rank, "LOCAL_RANK": rank}
        sizes = {"WORLD_SIZE": plan["processes"], "LOCAL_WORLD_SIZE": plan["processes"]}
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "GLOO_SOCKET_IFNAME": "lo"}
        os.environ |= {name: str(value) for name, value in (ranks | sizes | meeting).items()}
    code = 1
    try:
        resolved = load_spec(Path(plan["spec"]), overrides=plan["settings"])
        train_run(resolved, out, resume=True, report=report)
        code = 0
    except BaseException:
        traceback.print_exc()
    sys.stderr.flush()
    os._exit(code)


def wait(children: list[int], seconds: float) -> list[int | None]:
    """Exit codes, negative for signals; None for what still runs after so long."""
    codes: dict[int, int] = {}
    deadline = time.monotonic() + seconds
    while len(codes) < len(children) and time.monotonic() < deadline:
        for child in set(children) - set(codes):
            found, status = os.waitpid(child, os.WNOHANG)
            if found:
                codes[child] = os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    return [codes.get(child) for child in children]


def killed(plan: dict[str, Any], kill: dict[str, Any], seconds: float, rng: Any) -> dict[str, Any]:
    """Starts or resumes the run in `parts` and kills it.

    One of several processes is killed, and the others have to end by themselves.
    """
    first_only = kill.get("at") in ("file", "rename", "replace", "remove")
    victim = 0 if first_only else rng.randrange(plan["processes"])
    children, heard = start(plan, "parts", kill, victim)
    reached = bool(os.read(heard, 1))  # empty: it has ended
    if reached and "within" in kill:
        time.sleep(rng.uniform(0, kill["within"]) * seconds)
    os.close(heard)
    seen = sorted(path.name for path in (Path(plan["folder"]) / "parts").rglob(".*_*"))
    os.kill(children[victim], signal.SIGKILL)
    codes = wait(children, PATIENCE)
    for child, code in zip(children, codes, strict=True):
        if code is None:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    run = RunDirectory(Path(plan["folder"]) / "parts")
    return {
        "kill": kill,
        "reached": reached,
        "victim": codes[victim],
        "others": codes[:victim] + codes[victim + 1 :],
        "unfinished": seen,
        "last": run.checkpoints[-1].name if run.checkpoints else None,
        "damaged": damaged(run),
    }


def damaged(run: RunDirectory) -> list[str]:
    """Checkpoints that are not whole."""
    found = []
    for path in run.checkpoints:
        try:
            run.progress(path)
            for file in path.glob("*.safetensors"):
                safetensors.torch.load_file(file)
            torch.load(path / "optimizer.pt", weights_only=True)
        except Exception as error:
            found.append(f"{path}: {error}")
    return found


def finished(plan: dict[str, Any], out: str) -> float:
    """Trains to the end; seconds from the beginning of training."""
    children, heard = start(plan, out, None, 0)
    os.read(heard, 1)
    began = time.monotonic()
    codes = wait(children, PATIENCE)
    if any(code != 0 for code in codes):
        raise SystemExit(f"{out}: exit codes {codes}")
    os.close(heard)
    return time.monotonic() - began


def main(plan: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    rng = random.Random(plan["seed"])
    seconds = finished(plan, "whole")
    kills = []
    for kill in plan["kills"]:
        done = killed(plan, kill, seconds, rng)
        while "within" in kill and done["victim"] == 0:  # the machine was fast: it came too late
            shutil.rmtree(Path(plan["folder"]) / "parts")
            kill["within"] /= 2
            done = killed(plan, kill, seconds, rng)
        kills.append(done)
    finished(plan, "parts")
    sys.stdout.write(json.dumps({"kills": kills, "seconds": seconds}))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
