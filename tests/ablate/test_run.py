"""Running: what is done once, what is tried again, what is told."""

import json
import multiprocessing.forkserver
import os
import signal
import threading
import time

import pytest

from nifbuild.ablate.cells import Cell, CellDirectory, Store, cells_of
from nifbuild.ablate.local import LocalEngine
from nifbuild.ablate.process import threads_for
from nifbuild.ablate.run import choose_shard, parse_shard, prepare
from nifbuild.errors import SpecError
from nifbuild.runs.directory import RunDirectory
from nifbuild.runs.loaded import load_run
from nifbuild.runs.lock import locked
from nifbuild.spec.ablation import load_study
from tests.ablate.conftest import STUDY, ablate, document, write_study


def test_cells_that_fail_do_not_stop_others(finished):
    _, folder, said = finished
    assert said.exit_code == 1
    assert "4 cells done, 0 of them before" in said.stdout
    assert "failed: filters=broken, seed 0: bn2.running_var: the loss is nan" in said.stdout
    assert "\n  try a lower train.optimizer.lr" in said.stdout and "\\n" not in said.stdout
    lines = said.stderr.splitlines()
    assert len(lines) == 6 and sum("failed" in line for line in lines) == 2
    assert all(" top-1 " in line for line in lines if "failed" not in line)
    for cell in Store(folder).cells():
        broken = cell.description()["labels"]["filters"] == "broken"
        assert (cell.result() is None) is broken is (cell.failure() is not None)
        assert "--- attempt at" in cell.log.read_text()


def test_figures_are_those_of_the_run(finished):
    _, folder, _ = finished
    for cell in Store(folder).cells():
        result, run = cell.result(), RunDirectory(cell.run).result()
        if result is None:
            continue
        for name in ("top1", "top5", "loss", "num_samples", "seconds"):
            assert result[name] == run[name]
        assert result["train_images"] == 64 and result["num_samples"] == 50
        assert f"| top-1 | {run['top1']:.2%} |" in (cell.run / "README.md").read_text()


def test_filter_sizes_beside_those_at_the_start(finished):
    _, folder, _ = finished
    for cell in Store(folder).cells():
        result = cell.result()
        if result is None:
            continue
        if cell.description()["labels"]["filters"] == "standard":
            assert result["effective_size"] is None and result["layers"] == []
            continue
        (layer,) = result["layers"]
        assert layer["path"] == "conv2" and layer["grid"] == [8, 8]
        # Counted tap by tap, window by window.
        kernels = load_run(cell.run).model.conv2.spatial_kernel(8, 8, centered=True).detach()
        sizes = []
        for kernel in kernels.double().abs():
            shares = [
                float(kernel[max(0, 4 - r) : 5 + r, max(0, 4 - r) : 5 + r].sum() / kernel.sum())
                for r in range(5)
            ]
            sizes.append(2 * next(r for r, share in enumerate(shares) if share >= 0.95) + 1)
        sizes.sort()
        assert layer["effective_size"] == (sizes[1] + sizes[2]) / 2 == result["effective_size"]
        assert 1 <= result["effective_size_at_init"] <= 9


def test_what_is_done_is_not_run_again_and_what_failed_is(finished):
    study, folder, _ = finished
    before = {c.path: (c.log.read_text(), c.result()) for c in Store(folder).cells()}
    said = document("run", study, "--dir", folder, "--quiet")
    assert len(said["found"]) == len(said["done"]) == 4 and len(said["failed"]) == 2
    for cell in Store(folder).cells():
        log, result = before[cell.path]
        attempts = cell.log.read_text().count("--- attempt")
        assert cell.result() == result
        assert attempts == log.count("--- attempt") + (result is None)


def test_renaming_labels_keeps_results(finished, tmp_path):
    study, folder, _ = finished
    text = study.read_text().replace("implicit:", "learned:").replace("\nseeds", "\nname: b\nseeds")
    plan = document("plan", write_study(tmp_path, text), "--dir", folder)
    assert [v["seeds"]["0"] for v in plan["variants"]] == ["done", "done", "failed"]
    other = write_study(tmp_path, text.replace("seeds: [0, 1]", "seeds: [0, 2]"))
    assert document("plan", other, "--dir", folder)["variants"][0]["seeds"] == {
        "0": "done",
        "2": "missing",
    }


def test_a_key_is_of_spec_seed_data_and_versions(tmp_path):
    study = load_study(write_study(tmp_path))
    tasks = prepare(study, Store(tmp_path / "cells"))
    assert len({task.directory.path for task in tasks}) == 4
    origin = tasks[0].directory.description()["origin"]
    assert set(origin) == {"data", "init", "nifbuild", "torch", "code"}
    assert len(origin["data"]) == 32 and len(origin["code"]) == 16
    from nifbuild.ablate.cells import Origin

    spec_hash = tasks[0].cell.spec_hash
    keys = {Origin(**origin).key(spec_hash)}
    for name in origin:
        keys.add(Origin(**{**origin, name: "other"}).key(spec_hash))
    assert len(keys) == 6 and tasks[0].directory.path.name in keys
    other = "set: {budget: {max_params: 1M}, license: mit, train.epochs: 2}\n"
    assert [c.spec_hash for c in cells_of(load_study(write_study(tmp_path, STUDY + other)))] == [
        c.spec_hash for c in cells_of(study)
    ]


def test_equal_variants_are_run_once(tmp_path):
    text = STUDY.replace("seeds: [0, 1]", "    same: {vars: {width: 4}}\nseeds: [0]")
    study = write_study(tmp_path, text)
    tasks = prepare(load_study(study), Store(tmp_path / "cells"))
    assert [task.cell.variant.labels["filters"] for task in tasks] == ["standard", "implicit"]
    plan = document("plan", study)
    assert plan["cells"] == 2 and plan["variants"][2]["same_as"] == {"filters": "standard"}
    assert "filters=same is the same spec as filters=standard" in ablate("plan", study).stdout


def test_shards_are_all_cells_once(tmp_path):
    cells = cells_of(load_study(write_study(tmp_path, STUDY.replace("[0, 1]", "[0, 1, 2, 3]"))))
    shards = [choose_shard(cells, (i, 3)) for i in (1, 2, 3)]
    assert sorted(len(shard) for shard in shards) == [2, 3, 3]
    assert {c.name for shard in shards for c in shard} == {c.name for c in cells}
    assert choose_shard(list(reversed(cells)), (2, 3))[::-1] == shards[1]
    assert parse_shard("2/3") == (2, 3)
    for text in ("0/3", "4/3", "2", "a/b", "1/0", "-1/2"):
        with pytest.raises(SpecError, match="is no shard"):
            parse_shard(text)


def test_a_cell_that_takes_too_long_has_failed(tmp_path):
    study = write_study(tmp_path, STUDY.replace("[0, 1]", "[0]"))
    # Long enough for `prepare`, which does not count, and for no training at all.
    said = document("run", study, "--dir", tmp_path / "cells", "--timeout", "0.01s", "-q")
    assert [f["reason"] for f in said["failed"]] == ["not done after 0.01 s (--timeout): ended"] * 2
    assert said["done"] == []
    assert len(document("run", study, "--dir", tmp_path / "cells", "-q")["done"]) == 2


def test_a_cell_that_is_killed_fails_alone(tmp_path):
    text = STUDY.replace("[0, 1]", "[0]").replace(
        "standard: {}", "standard: {train: {epochs: 999}}"
    )
    study, folder = write_study(tmp_path, text), tmp_path / "cells"

    def kill():
        while True:
            for cell in Store(folder).cells():
                if cell.epochs_done() and "epochs: 999" in cell.spec.read_text():
                    os.kill(json.loads((cell.path / ".lock").read_text())["pid"], signal.SIGKILL)
                    return
            time.sleep(0.05)

    killer = threading.Thread(target=kill)
    killer.start()
    said = document("run", study, "--dir", folder, "--workers", 2, "-q")
    killer.join()
    assert said["done"] == ["filters=implicit, seed 0"]
    (failed,) = said["failed"]
    assert failed["reason"].startswith("its process was ended by SIGKILL: perhaps the machine ran")


def test_signals_save_and_the_next_run_goes_on(tmp_path):
    text = STUDY.replace("[0, 1]", "[0]").replace("standard: {}", "standard: {train: {epochs: 15}}")
    study, folder = write_study(tmp_path, text), tmp_path / "cells"

    def interrupt():
        while not any(cell.epochs_done() for cell in Store(folder).cells()):
            time.sleep(0.05)
        # As a scheduler does, to all processes of a job.
        os.kill(multiprocessing.forkserver._forkserver._forkserver_pid, signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=interrupt).start()
    said = ablate("run", study, "--dir", folder)
    assert said.exit_code == 143
    assert "interrupted by SIGTERM" in said.stderr and "goes on where it stopped" in said.stderr
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    (cell,) = [c for c in Store(folder).cells() if c.epochs_done()]
    assert "interrupted by SIGTERM after step" in cell.log.read_text()
    assert cell.result() is None and cell.failure() is None
    done = document("run", study, "--dir", folder, "-q")
    assert len(done["done"]) == 2 and "continuing after step" in cell.log.read_text()


def test_a_cell_that_another_process_runs_is_waited_for(tmp_path):
    study = load_study(write_study(tmp_path, STUDY.replace("[0, 1]", "[0]")))
    tasks = prepare(study, Store(tmp_path / "cells"))
    # The lock is this process's own: only its cells' processes find it held.
    engine = LocalEngine(1)
    with locked(tasks[0].directory.path):
        engine.start(tasks[0].directory)
        while not (ended := engine.ended(0.2)):
            pass
    ((directory, outcome),) = ended
    assert outcome.state == "busy" and directory.failure() is None and directory.result() is None


def test_where_cells_cannot_be(tmp_path):
    (tmp_path / "cells").mkdir()
    (tmp_path / "cells" / "cells").touch()
    done = ablate("run", write_study(tmp_path), "--dir", tmp_path / "cells")
    assert done.exit_code == 1 and "cannot be read: Not a directory" in done.stderr
    assert ablate("plan", tmp_path / "study.yaml", "--dir", tmp_path / "cells").exit_code == 1


def test_what_is_wrong_is_told_before_anything_runs(tmp_path):
    study = write_study(tmp_path, STUDY + "set: {budget.max_params: 200}\n")
    done = ablate("run", study, "--dir", tmp_path / "cells")
    assert done.exit_code == 3 and "exceed the budget of 200" in done.stderr
    assert ablate("plan", study).exit_code == 3
    study = write_study(tmp_path, STUDY + "set: {train.batch_size: 4096}\n")
    done = ablate("run", study, "--dir", tmp_path / "cells")
    assert done.exit_code == 2 and "4096" in done.stderr
    assert not (tmp_path / "cells").exists()
    (tmp_path / "file").touch()
    done = ablate("run", write_study(tmp_path), "--dir", tmp_path / "file")
    assert done.exit_code == 2 and "is a file" in done.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--engine", "ray", "--workers", "2"), "--workers has no meaning with --engine ray"),
        (("--cpus-per-cell", "2"), "--cpus-per-cell has no meaning with --engine local"),
        (("--address", "auto"), "--address has no meaning with --engine local"),
        (("--gpus-per-cell", "1"), "--gpus-per-cell has no meaning with --engine local"),
        (("--shard", "5/4"), "'5/4' is no shard"),
        (("--timeout", "soon"), "90s, 30m or 2h"),
    ],
)
def test_options_that_mean_nothing(tmp_path, options, words):
    done = ablate("run", write_study(tmp_path), *options)
    assert done.exit_code == 2 and words in " ".join(done.stderr.split())


def test_cells_share_cores_and_take_turns_at_gpus(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert threads_for(2) == 3
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr("nifbuild.ablate.process.available_cores", lambda: 8)
    assert [threads_for(n) for n in (1, 3, 16)] == [8, 2, 1]
    seen = []

    class Recorded:
        def __init__(self, cell, **options):
            self.cell = cell
            seen.append((options["gpu"], options["threads"]))

    monkeypatch.setattr("nifbuild.ablate.local.CellProcess", Recorded)
    engine = LocalEngine(3, gpus=["0", "5"])
    for name in "abc":
        assert engine.free
        engine.start(CellDirectory(tmp_path / name))
    assert not engine.free and seen == [("0", 2), ("5", 2), ("0", 2)]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    engine = LocalEngine(1)
    engine.start(CellDirectory(tmp_path / "a"))
    assert seen[-1] == ("7", 8)


def test_progress_of_a_terminal(tmp_path, monkeypatch):
    import io

    from rich.console import Console

    from nifbuild.ablate.process import Outcome
    from nifbuild.ablate.run import Task
    from nifbuild.ablate.study_progress import progress_on_stderr

    study = load_study(write_study(tmp_path))
    directory = CellDirectory(tmp_path / "cell")
    (directory.run).mkdir(parents=True)
    (directory.run / "metrics.jsonl").write_text("{}\n")
    task = Task(Cell(study.variants[1], 0), directory)
    console = Console(file=io.StringIO(), force_terminal=True, width=160, highlight=False)
    screen = progress_on_stderr(False, console)
    screen.begin(4, 1)
    screen.show([task] * 20)
    screen.ended(task, Outcome("failed", "no memory\nmore"))
    screen.show([])
    screen.close()
    shown = console.file.getvalue()
    for words in ("1 of 4 cells done", "seed 0: epoch 2/2", "and 8 more", "failed: no memory (",
                  "1 failed"):  # fmt: skip
        assert words in shown
