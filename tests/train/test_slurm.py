"""The script for Slurm, with a stand-in for its commands: two nodes that are this machine."""

import os
import signal
import subprocess
import sys
import time

import pytest

from nifbuild.runs.directory import RunDirectory
from nifbuild.spec.shipped import shipped_folder
from nifbuild.train.run import train_run
from tests.children import in_children
from tests.tiny_runs import contents
from tests.train.test_machines import SETTINGS, free_port

SCRIPT = shipped_folder().parent / "examples" / "slurm.sh"

SRUN = """#!/bin/bash
# Runs the command on each node, and passes a signal on to all, as srun does.
shift  # --kill-on-bad-exit=0
for node in 0 1; do
    SLURM_NODEID=$node "$@" >"node$node.log" 2>&1 &
    nodes+=($!)
done
trap 'kill -TERM "${nodes[@]}"' TERM
code=0
for node in "${nodes[@]}"; do
    while kill -0 "$node" 2>/dev/null; do wait "$node" || code=$?; done
done
exit "$code"
"""
SCONTROL = """#!/bin/bash
if [ "$1" = show ]; then printf '127.0.0.1\\n127.0.0.2\\n'; else echo "$@" >>requeued; fi
"""
TORCHRUN = f"""#!/bin/bash
exec {sys.executable} -m torch.distributed.run "$@"
"""


@pytest.fixture
def submit(tmp_path, child_environment, spec_file):
    """Runs the script as Slurm does."""
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL), ("torchrun", TORCHRUN)):
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)
    spec = str(spec_file(dropout=True))
    started = []

    def run(*words):
        port = free_port()
        environment = {
            **child_environment,
            "PATH": f"{commands}:{os.environ['PATH']}",
            "SLURM_JOB_ID": str(port - 20_000 if 20_000 <= port < 40_000 else port % 20_000),
            "SLURM_JOB_NODELIST": "nodes[1-2]",
            "SLURM_NNODES": "2",
        }
        settings = [word for setting in SETTINGS for word in ("--set", setting)]
        command = ["bash", str(SCRIPT), spec, *settings, "--out", "run", *words]
        log = (tmp_path / "job.log").open("a")
        job = subprocess.Popen(
            command,
            cwd=tmp_path,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        log.close()
        started.append(job)
        return job

    yield run
    for job in started:
        if job.poll() is None:
            os.killpg(job.pid, signal.SIGKILL)
            job.wait()


def logs(folder):
    return "\n".join(path.read_text() for path in sorted(folder.glob("*.log")))


@pytest.mark.slow
def test_a_job_whose_time_is_over_saves_is_queued_again_and_goes_on(submit, resolve, tmp_path):
    run = RunDirectory(tmp_path / "run")
    for number, epochs in ((signal.SIGTERM, 1), (signal.SIGUSR1, 20)):
        job = submit()
        deadline = time.monotonic() + 200
        while len(run.metrics() if run.path.exists() else []) < epochs:
            assert job.poll() is None and time.monotonic() < deadline, logs(tmp_path)
            time.sleep(0.05)
        job.send_signal(number)  # to the script alone
        by_itself = number == signal.SIGUSR1
        assert (job.wait(timeout=200) == 0) == by_itself, logs(tmp_path)
        assert (tmp_path / "requeued").exists() == by_itself
        assert run.result() is None and "interrupted by SIGTERM after step" in logs(tmp_path)
    steps = [int(path.name.rpartition("_")[2]) for path in run.checkpoints]
    job = submit()
    assert job.wait(timeout=200) == 0, logs(tmp_path)
    assert f"continuing after step {max(steps)}" in logs(tmp_path)
    in_children(train_run, resolve(*SETTINGS, dropout=True), tmp_path / "whole")
    parts, whole = (contents(tmp_path / name) for name in ("run", "whole"))
    last = max(whole[0])
    assert parts[0][last] == whole[0][last]  # weights, bit for bit


def test_without_a_spec_it_says_so():
    done = subprocess.run(["bash", SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode != 0 and "name a spec" in done.stderr
