"""Two machines, as far as one can be two: two launchers that meet at an address of the loopback."""

import contextlib
import json
import socket
import subprocess
import sys
import time

import psutil
import pytest

from nifbuild.runs.directory import RunDirectory
from nifbuild.train.run import train_run
from tests.children import in_children
from tests.tiny_runs import contents

SETTINGS = ("train.epochs=60", "train.ema=0.9", "train.keep=1", "train.precision=bf16")
TWO_EPOCHS = ("train.epochs=2", *SETTINGS[1:])


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def launch(tmp_path, child_environment, spec_file):
    """Starts torchrun on each of two nodes; each sees one process of its own."""
    started = []

    def run(out, *words, settings=SETTINGS):
        port = free_port()
        sets = [word for setting in settings for word in ("--set", setting)]
        command = ["train", str(spec_file(dropout=True)), *sets, "--out", out, *words]
        nodes = []
        for rank in range(2):
            torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2"]
            torchrun += [f"--node-rank={rank}", "--nproc-per-node=1"]
            torchrun += ["--master-addr=127.0.0.1", f"--master-port={port}", "-m", "nifbuild"]
            log = (tmp_path / f"node{rank}.log").open("a")
            nodes.append(
                subprocess.Popen(
                    [*torchrun, *command],
                    cwd=tmp_path,
                    env=child_environment,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
            )
            log.close()
        started.extend(nodes)
        return nodes

    yield run
    for node in started:
        kill(node)


def kill(node):
    """As if the machine had lost its power: the launcher, and what it has launched."""
    with contextlib.suppress(psutil.NoSuchProcess):
        launcher = psutil.Process(node.pid)
        for process in (launcher, *launcher.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
    node.wait()


def logs(tmp_path):
    return "\n".join((tmp_path / f"node{rank}.log").read_text() for rank in range(2))


@pytest.mark.slow
def test_two_nodes_are_one_run_also_after_one_was_killed(launch, resolve, tmp_path):
    nodes = launch("run", settings=TWO_EPOCHS)
    codes = [node.wait(timeout=200) for node in nodes]
    assert codes == [0, 0], logs(tmp_path)
    starts = json.loads((tmp_path / "run" / "environment.json").read_text())["starts"]
    assert [start["processes"] for start in starts] == [2]
    one_machine = resolve(*TWO_EPOCHS, dropout=True)
    in_children(train_run, one_machine, tmp_path / "two_epochs")
    assert contents(tmp_path / "run") == contents(tmp_path / "two_epochs")

    nodes = launch("parts")
    run = RunDirectory(tmp_path / "parts")
    deadline = time.monotonic() + 200
    while len(run.metrics() if run.path.exists() else []) < 2:
        assert time.monotonic() < deadline, logs(tmp_path)
        time.sleep(0.05)
    kill(nodes[1])
    assert run.result() is None  # else there was nothing to kill
    assert nodes[0].wait(timeout=200) != 0  # it cannot go on alone, and does not wait for ever
    assert run.checkpoints
    nodes = launch("parts", "--resume")
    codes = [node.wait(timeout=200) for node in nodes]
    assert codes == [0, 0], logs(tmp_path)
    in_children(train_run, resolve(*SETTINGS, dropout=True), tmp_path / "whole")
    parts, whole = (contents(tmp_path / name) for name in ("parts", "whole"))
    last = max(whole[0])
    assert parts[0][last] == whole[0][last]  # weights, bit for bit
    for mine, theirs in zip(parts[2], whole[2], strict=True):
        assert mine["loss"] == theirs["loss"]
