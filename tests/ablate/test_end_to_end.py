"""A study with all that may happen to it, against the same study left in peace."""

import hashlib
import signal
import subprocess
import sys
import time

import pytest

from nifbuild.ablate.cells import Store
from nifbuild.runs.directory import RunDirectory
from nifbuild.runs.intact import evaluated_weights
from nifbuild.runs.lock import is_locked
from tests.ablate.conftest import STUDY, ablate, document, write_study

STUDY_OF_TWELVE = STUDY.replace("seeds: [0, 1]", "  vars.width: [4, 6]\nseeds: [0, 1, 2]")


def outcome(folder):
    """Figures and weights of each cell; not what differs from run to run, such as times."""
    found = {}
    for cell in Store(folder).cells():
        result = cell.result()
        if result is None:
            continue
        run = RunDirectory(cell.run)
        weights = evaluated_weights(run.find_checkpoint()).read_bytes()
        kept = {k: v for k, v in result.items() if k not in ("seconds", "environment")}
        found[cell.path.name] = (kept, hashlib.sha256(weights).hexdigest())
    return found


def started(study, folder, *options):
    """`nifbuild ablate run` in a process of its own."""
    command = [sys.executable, "-m", "nifbuild", "ablate", "run", study, "--dir", folder, *options]
    return subprocess.Popen(
        [str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals and locks")
def test_killed_then_continued_by_shards_and_another_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    study = write_study(tmp_path, STUDY_OF_TWELVE)
    calm, killed = tmp_path / "calm", tmp_path / "killed"
    assert len(document("run", study, "--dir", calm, "--workers", 2, "-q")["done"]) == 12
    expected = outcome(calm)
    assert len(expected) == 12

    runner = started(study, killed, "--workers", 2)
    while len(outcome(killed)) < 4:
        assert runner.poll() is None, runner.communicate()
        time.sleep(0.05)
    runner.send_signal(signal.SIGKILL)
    runner.communicate()
    # What it had started ends by itself.
    deadline = time.monotonic() + 60
    while any(is_locked(cell.path) for cell in Store(killed).cells()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    before = outcome(killed)
    assert 4 <= len(before) < 12
    assert ablate("gate", study, "--dir", killed).exit_code == 3  # not all seeds are done

    # One invocation for all of it, and two for a half each, on the same directory at once.
    other = started(study, killed, "--workers", 1)
    for shard in ("1/2", "2/2"):
        part = document("run", study, "--dir", killed, "--shard", shard, "--workers", 2, "-q")
        assert len(part["done"]) == 6 and part["failed"] == []
    stdout, stderr = other.communicate(timeout=300)
    assert other.returncode == 0 and "12 cells done" in stdout, stderr
    assert outcome(killed) == expected
    for cell in Store(killed).cells():
        # Once; or twice, where the first attempt was cut off.
        attempts = cell.log.read_text().split("--- attempt")[1:]
        assert len(attempts) == 1 or (len(attempts) == 2 and cell.path.name not in before)

    reports = [document("report", study, "--dir", folder) for folder in (calm, killed)]
    figures = [[v["summary"] for v in report["variants"]] for report in reports]
    assert figures[0] == figures[1]
    for folder in (calm, killed):
        assert ablate("gate", study, "--dir", folder, "--main", calm).exit_code == 0
