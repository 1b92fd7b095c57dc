"""Which processors a process has."""

import os

import pytest

from nifbuild.errors import SpecError
from nifbuild.machine.processes import available_cores, own_cores


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")
def test_processors_are_those_that_the_process_may_use():
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert available_cores() == own_cores() == 1
    finally:
        os.sched_setaffinity(0, before)
    assert available_cores() == len(before)


@pytest.mark.parametrize(("cores", "local", "own"), [(8, 1, 8), (8, 3, 2), (2, 4, 1)])
def test_processes_of_a_run_share_the_processors_of_their_machine(monkeypatch, cores, local, own):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {*range(cores)}, raising=False)
    monkeypatch.setenv("WORLD_SIZE", str(2 * local))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(local))
    assert own_cores() == own
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "many")
    with pytest.raises(SpecError):
        own_cores()
