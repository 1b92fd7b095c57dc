"""Results where nothing may be written, or not even read."""

import ctypes
import shutil
import sys
from contextlib import contextmanager

import pytest

from nifbuild.runs.lock import locked
from tests.ablate.conftest import ablate, done_cells, forget_looks, write_study
from tests.children import in_child

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs the capabilities of Linux")


def heed_permissions():
    """Has the superuser, as whom tests may run, be held to the modes of files."""
    cap_dac_override, cap_dac_read_search = 1, 2
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # the third version, of this process
    # Effective, permitted and inheritable ones, of 32 each; then those above.
    sets = (ctypes.c_uint32 * 6)()
    assert libc.capget(header, sets) == 0
    for kind in range(3):
        sets[kind] &= ~(1 << cap_dac_override | 1 << cap_dac_read_search)
    assert libc.capset(header, sets) == 0


def outputs(study, calls):
    """A line for each command, called by a process that may do no more than the modes allow."""
    heed_permissions()
    lines = []
    for command, cells in calls:
        done = ablate(command, study, "--dir", cells)
        lines.append(f"{done.exit_code} {done.exception} {' '.join(done.output.split())}")
    return lines


@contextmanager
def read_only(folder):
    """All that is in a folder may be read, and nothing written."""
    found = [folder, *folder.rglob("*")]
    for path in found:
        path.chmod(0o555 if path.is_dir() else 0o444)
    yield
    for path in found:
        path.chmod(0o755 if path.is_dir() else 0o644)
    assert sorted(found) == sorted([folder, *folder.rglob("*")])


def test_what_may_only_be_read_is_shown_and_what_may_not_is_not_taken_for_missing(
    finished, tmp_path
):
    """Several folders in one child."""
    study = write_study(tmp_path)
    names = ("calm", "running", "no_result", "no_cells")
    calm, running, no_result, no_cells = folders = [tmp_path / name for name in names]
    for folder in folders:
        shutil.copytree(finished[1], folder)
        forget_looks(folder)
    # As of a copy that was made while a cell ran, and of one whose cell is running.
    (done_cells(calm)[0].path / ".lock").write_text("{}")
    cell = done_cells(running)[0]
    (cell.path / "result.json").unlink()
    (done_cells(no_result)[0].path / "result.json").chmod(0)
    (no_cells / "cells").chmod(0)
    with locked(cell.path), read_only(calm), read_only(running):
        calls = [("plan", calm), ("report", calm), ("gate", calm), ("gate", running)]
        calls += [("gate", no_result), ("gate", no_cells), ("plan", running)]
        found = in_child(outputs, study, calls)
    (no_cells / "cells").chmod(0o755)
    plan, report, gate, incomplete, *denied, also_running = found
    assert plan.startswith("0 None") and "All cells are done." in plan
    assert report.startswith("0 None") and "warning: cannot write to" in report
    assert gate.startswith("0 ") and "3 of 3 checks pass" in gate
    assert incomplete.startswith("3 ") and "not done: seed" in incomplete
    assert all(line.startswith("1 ") for line in denied)
    assert all("cannot be read: Permission denied" in line for line in denied)
    assert "1 running" in also_running
