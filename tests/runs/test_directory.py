import errno
import json
import os
import subprocess
import sys
import textwrap

import pytest

from nifbuild.errors import RunError, SpecError
from nifbuild.runs.directory import RunDirectory
from nifbuild.runs.intact import evaluated_weights

TEXT = "version: 1\nname: tiny\nmodel: [relu]\n"
IDENTITY = {
    "spec": TEXT,
    "world_size": 1,
    "precision": "fp32",
    "data": "",
}
FIGURES = {
    "name": "tiny",
    "split": "test",
    "top1": 0.5,
    "top5": 1.0,
    "loss": 0.5,
    "calibration_error": 0.1,
    "num_samples": 2,
    "per_class": [{"name": "a", "accuracy": None, "num_samples": 0}],
    "checkpoint": "step_00000001",
    "selected": "last",
    "step": 1,
    "epoch": 1,
    "train_images_per_second": None,
    "images_per_second": 1.0,
    "seconds": 1.0,
}


def progress(step, epoch=0):
    how_far = {"step": step, "epoch": epoch, "loss_sum": 0.0, "best": None, "seconds": 0.0}
    return {"progress": how_far, "identity": IDENTITY}


def best(name, figure=0.5):
    return {"checkpoint": name, "step": 1, "epoch": 1, "figure": figure}


START = {"started": "today", "command": ["nifbuild"], "working_directory": "/", "packages": {}}
DATA = {"class_names": ["a"], "mean": [0.5], "std": [1.0], "fingerprint": "0"}


@pytest.fixture
def run(tmp_path):
    directory = RunDirectory(tmp_path / "run")
    directory.create(overwrite=False)
    directory.add_start(START)
    directory.describe(TEXT, DATA, None)
    return directory


def save(run, *steps):
    for step in steps:
        run.save_checkpoint(step, {"model.safetensors": b"w" * 100}, progress(step))


def names(run):
    return [path.name for path in run.checkpoints]


def test_a_run_is_not_overwritten_unasked(run):
    save(run, 1)
    with pytest.raises(SpecError, match="already holds a run") as caught:
        RunDirectory(run.path).create(overwrite=False)
    assert caught.value.exit_code == 2
    for remedy in ("--resume", "--out", "--overwrite"):
        assert remedy in str(caught.value)
    (run.path / "notes.txt").write_text("mine")
    assert run.create(overwrite=True).endswith("before, too: notes.txt")
    assert run.checkpoints == []
    assert not run.spec.exists()
    assert (run.path / "notes.txt").read_text() == "mine"


def test_other_files_do_not_make_a_run_and_are_told(tmp_path):
    (tmp_path / "slurm.log").touch()
    assert RunDirectory(tmp_path).create(overwrite=False).endswith("before, too: slurm.log")


def test_a_misspelt_run(run):
    with pytest.raises(SpecError, match=r"rnu does not exist\n  did you mean '.*/run'\?"):
        RunDirectory(run.path.with_name("rnu")).require_run()


def test_keeps_the_newest_and_the_best(run):
    save(run, 1, 2, 3, 4, 5)
    run.prune(2, best_step=1)
    assert names(run) == ["step_00000001", "step_00000004", "step_00000005"]
    run.prune(1, best_step=None)
    assert names(run) == ["step_00000005"]


def test_finds_the_best_and_the_last(run):
    with pytest.raises(RunError, match="has no checkpoint yet"):
        run.find_checkpoint()
    save(run, 1, 2)
    with pytest.raises(RunError, match="has no best checkpoint: none was evaluated on validation"):
        run.find_checkpoint("best")
    run.point_to_best(best("step_00000001"))
    assert run.find_checkpoint("best").name == "step_00000001"
    assert run.find_checkpoint("last").name == "step_00000002"
    run.point_to_best(best("step_00000007"))
    with pytest.raises(RunError, match=r"step_00000007 is missing, although best\.json"):
        run.find_checkpoint("best")


def test_survives_being_moved(run, tmp_path):
    save(run, 1)
    run.point_to_best(best("step_00000001"))
    moved = run.path.rename(tmp_path / "moved")
    assert RunDirectory(moved).find_checkpoint("best").parent.parent == moved


def test_the_average_is_what_is_evaluated(run):
    save(run, 1)
    checkpoint = run.checkpoints[0]
    assert evaluated_weights(checkpoint).name == "model.safetensors"
    (checkpoint / "ema.safetensors").touch()
    assert evaluated_weights(checkpoint).name == "ema.safetensors"


def test_an_unfinished_checkpoint_does_not_count(run):
    save(run, 1)
    (run.path / "checkpoints" / ".writing_step_00000002").mkdir()
    assert names(run) == ["step_00000001"]
    run.remove_unfinished()
    assert [p.name for p in (run.path / "checkpoints").iterdir()] == ["step_00000001"]


def test_the_same_step_again_replaces_the_progress_only(run):
    save(run, 1)
    run.save_checkpoint(1, {"model.safetensors": b"other"}, progress(1, epoch=2))
    assert run.progress(run.checkpoints[0]) == progress(1, epoch=2)
    assert (run.checkpoints[0] / "model.safetensors").read_bytes() == b"w" * 100


def test_metrics(run):
    for epoch in (1, 2, 3):
        run.add_metrics({"epoch": epoch})
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"epo')
    assert [line["epoch"] for line in run.metrics()] == [1, 2, 3]
    run.finish(FIGURES)
    assert run.result() == FIGURES
    run.rewind_metrics(2)
    assert [line["epoch"] for line in run.metrics()] == [1, 2]
    assert run.result() is None


def test_json_has_a_line_for_each_key(run):
    run.finish({"top1": 0.5, "confusion_matrix": [[1, 0], [0, 1]]})
    text = (run.path / "metrics.json").read_text()
    assert text == '{\n  "top1": 0.5,\n  "confusion_matrix": [[1, 0], [0, 1]]\n}\n'
    assert json.loads(text) == {"top1": 0.5, "confusion_matrix": [[1, 0], [0, 1]]}


@pytest.mark.parametrize("content", ["{", "{}", "[]", "3", "null", "[" * 100_000, '{"x": 1}', ""])
@pytest.mark.parametrize(
    ("name", "read", "fix"),
    [
        ("data.json", RunDirectory.data, "train again"),
        ("best.json", lambda run: run.find_checkpoint("best"), "--checkpoint last"),
        ("metrics.json", RunDirectory.result, "evaluates the run again"),
        ("environment.json", lambda run: run.add_start({}), "copy it back"),
        ("progress.json", lambda run: run.progress(run.checkpoints[0]), "older checkpoint"),
    ],
)
def test_a_damaged_file_is_named(run, name, read, fix, content):
    save(run, 1)
    folder = run.checkpoints[0] if name == "progress.json" else run.path
    (folder / name).write_text(content)
    with pytest.raises(RunError) as caught:
        read(run)
    (problem,) = caught.value.problems
    assert problem.what.startswith(f"{folder / name} cannot be read: ")
    assert fix in problem.fix


def test_what_is_missing_from_a_damaged_file_is_named(run):
    run.finish({**FIGURES, "per_class": [{"name": "a", "accuracy": "x", "num_samples": 0}]})
    with pytest.raises(RunError, match=r"cannot be read: per_class\.0\.accuracy: "):
        run.result()


@pytest.mark.parametrize("line", ["3", "[]", "{}", "null"])
def test_lines_that_are_no_metrics_do_not_count(run, line):
    run.add_metrics({"epoch": 1})
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write(f"{line}\n")
    run.rewind_metrics(1)
    assert run.metrics() == [{"epoch": 1}]


@pytest.mark.parametrize(
    ("number", "fix"), [(errno.ENOSPC, "make room"), (errno.EACCES, "make it writable")]
)
def test_a_failing_write_is_one_clear_error(run, number, fix):
    with pytest.raises(RunError) as caught, run.writing():
        raise OSError(number, os.strerror(number))
    assert str(run.path) in str(caught.value)
    assert os.strerror(number) in str(caught.value)
    assert fix in str(caught.value)
    assert "--resume" in str(caught.value)  # the directory holds the start of a run
    save(run, 3)
    with pytest.raises(RunError, match="step_00000003 is intact") as caught, run.writing():
        raise OSError(number, os.strerror(number))
    assert "--resume" in str(caught.value)


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX limits")
def test_a_real_write_that_fails_leaves_the_old_checkpoint(run):
    save(run, 1)
    script = """
        import resource, sys
        from nifbuild.errors import RunError
        from nifbuild.runs.directory import RunDirectory
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
        run = RunDirectory(sys.argv[1])
        for write in (
            lambda: run.save_checkpoint(2, {"model.safetensors": b"w" * 100_000}, {}),
            lambda: run.describe("x" * 100_000, {}, None),
            lambda: run.add_metrics({"epoch": 1, "x": "x" * 100_000}),
        ):
            try:
                write()
            except RunError as error:
                print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), run.path],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.count("cannot write") == 3
    assert done.stdout.count("step_00000001 is intact") == 3
    assert [p.name for p in (run.path / "checkpoints").iterdir()] == ["step_00000001"]
    assert run.spec.read_text() == TEXT
    assert run.metrics() == []


@pytest.mark.skipif(
    sys.platform == "win32" or os.geteuid() == 0, reason="the superuser may write everywhere"
)
def test_a_directory_that_cannot_be_written(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(RunError, match="Permission denied"):
        RunDirectory(tmp_path / "run").create(overwrite=False)


def test_a_file_in_the_way(tmp_path):
    (tmp_path / "run").write_text("")
    for path in ("run", "run/within"):
        with pytest.raises(SpecError, match="run is a file, and a run is a directory"):
            RunDirectory(tmp_path / path).create(overwrite=True)
    with pytest.raises(SpecError, match="run is a file\n"):
        RunDirectory(tmp_path / "run").require_run()


class Killed(BaseException):
    """Stands for SIGKILL: nothing tidies up after it."""


def test_a_kill_while_old_checkpoints_go_leaves_no_half_of_one(run, monkeypatch):
    save(run, 1, 2)

    def half(path, *arguments, **options):
        for file in list(path.glob("*.safetensors")):
            file.unlink()
            raise Killed

    monkeypatch.setattr("nifbuild.runs.directory.shutil.rmtree", half)
    with pytest.raises(Killed):
        run.prune(1, best_step=None)
    assert names(run) == ["step_00000002"]
    monkeypatch.undo()
    run.remove_unfinished()
    assert [p.name for p in (run.path / "checkpoints").iterdir()] == ["step_00000002"]


def test_a_kill_while_a_run_is_overwritten_leaves_no_checkpoint_to_resume(run, monkeypatch):
    save(run, 1)

    def killed(path, *arguments, **options):
        raise Killed

    monkeypatch.setattr("nifbuild.runs.directory.shutil.rmtree", killed)
    with pytest.raises(Killed):
        run.create(overwrite=True)
    assert names(run) == []
    assert run.spec.exists()  # the checkpoints went first
    monkeypatch.undo()
    run.create(overwrite=True)
    assert not list(run.path.glob(".*"))


def test_what_a_kill_left_of_files_is_removed(run):
    save(run, 1)
    left = [run.path / ".writing_metrics.jsonl", run.checkpoints[0] / ".writing_progress.json"]
    for path in left:
        path.touch()
    run.remove_unfinished()
    assert not any(path.exists() for path in left)
    assert names(run) == ["step_00000001"]
