"""Cells on a Ray cluster of two nodes, of which one dies."""

import sys
import threading
import time

import pytest

from nifbuild.ablate.cells import CellDirectory, Origin, Store
from nifbuild.ablate.on_ray import RayEngine, bring_home
from nifbuild.ablate.run import prepare, run_tasks
from nifbuild.ablate.study_progress import Progress
from nifbuild.errors import RunError, SpecError
from nifbuild.spec.ablation import load_study
from tests.ablate.conftest import ORIGIN, STUDY, ablate, result_of, write_study


@pytest.mark.slow
@pytest.mark.timeout(600)
# Ray's own: sockets and processes that it leaves to the interpreter to close.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_node_dies_and_its_cell_goes_on_elsewhere(tmp_path, monkeypatch):
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    text = STUDY.replace("[0, 1]", "[0]") + "set: {train.epochs: 400}\n"
    study = load_study(write_study(tmp_path, text))
    tasks = prepare(study, Store(tmp_path / "cells"))
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    node = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 80 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    doomed = cluster.add_node(**node)

    def kill():
        # Each node has room for one cell.
        while not all(task.directory.epochs_done() >= 2 for task in tasks):
            time.sleep(0.1)
        cluster.remove_node(doomed, allow_graceful=False)

    killer = threading.Thread(target=kill, daemon=True)
    try:
        engine = RayEngine(cluster.address)
        killer.start()
        summary = run_tasks(tasks, engine, Progress())
        killer.join(60)
        assert len(cluster.worker_nodes) == 0
    finally:
        cluster.shutdown()
    assert len(summary.done) == 2 and summary.failed == []
    logs = sorted((task.directory.log.read_text() for task in tasks), key=len)
    assert "continuing after step" not in logs[0]
    assert "interrupted by SIGTERM after step" in logs[1] and "continuing after step" in logs[1]
    for task in tasks:
        assert task.directory.result()["epoch"] == 400


def test_without_ray(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    done = ablate("run", write_study(tmp_path), "--dir", tmp_path / "cells", "--engine", "ray")
    assert done.exit_code == 2 and "Ray is not installed" in done.stderr
    assert "pip install 'nifbuild[ray]'" in done.stderr


class _Ray:
    """As much of Ray as its engine asks before anything runs."""

    def __init__(self, error=None, **resources):
        self._error, self._resources = error, resources
        self.left = False

    def init(self, **options):
        self.options = options
        if self._error is not None:
            raise self._error

    def nodes(self):
        return [{"Alive": True, "Resources": self._resources}, {"Alive": False, "Resources": {}}]

    def shutdown(self):
        self.left = True


def test_what_a_cell_needs_must_be_there(monkeypatch, capsys):
    ray = _Ray(CPU=4)
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "ray.exceptions", ray)
    RayEngine(cpus=4)
    assert ray.options["address"] is None and ray.options["include_dashboard"] is False
    for need in ({"cpus": 5}, {"gpus": 0.5}):
        with pytest.raises(SpecError, match="no node has"):
            RayEngine(**need)
    assert ray.left and capsys.readouterr().err == ""
    RayEngine("auto", gpus=1)  # a cluster may grow
    assert "no node has 1 CPUs and 1 GPUs for a cell yet" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "ray", _Ray(ConnectionError("no")))
    with pytest.raises(RunError, match="cannot reach Ray at here:1: no"):
        RayEngine("here:1")


def test_results_of_a_node_without_shared_files_come_home(tmp_path):
    key = Origin(**ORIGIN).key("s1")
    result = result_of(top1=0.5)
    report = {"state": "done", "reason": "", "result": result, "log": "said"}
    cell = Store(tmp_path).cell(key)
    cell.path.mkdir(parents=True)
    bring_home(cell, report)
    assert cell.result() == result and cell.log.read_text() == "said"
    bring_home(cell, {**report, "result": result_of(top1=1.0), "log": "else"})
    assert cell.result() == result and cell.log.read_text() == "said"
    (tmp_path / "other").mkdir()
    other = CellDirectory(tmp_path / "other")
    bring_home(other, {"state": "failed", "reason": "why", "result": None, "log": ""})
    assert other.failure()["reason"] == "why"
