"""What is a run's is told by content: nothing else is deleted, replaced, or taken for a run's."""

import contextlib
import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from nifbuild import evaluate_run
from nifbuild.errors import InterruptedRun, RunError, SpecError
from nifbuild.runs.directory import RunDirectory
from nifbuild.spec.resolve import load_spec
from nifbuild.train.run import train_run
from tests.tiny_runs import SPEC, Stop

AS_ROOT = sys.platform == "linux" and os.geteuid() == 0
NOT_MINE = (
    "wandb/run/x",
    "analysis/paper.ipynb",
    "checkpoints/other.ckpt",
    "tensorboard/x",
    "finetuned/x",
    "data.json",
    "best.json",
    "spec.yaml",
    "environment.json",
    "metrics.jsonl",
    ".writing_data.json",
    ".lock",
)


def snapshot(folder):
    """All files and links below a folder, with their content."""
    found = {}
    for path in sorted(Path(folder).rglob("*")):
        if path.is_symlink():
            found[str(path)] = path.readlink()
        else:
            found[str(path)] = path.read_bytes() if path.is_file() else None
    return found


def write(path, text="{}"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    path = tmp_path_factory.mktemp("spec") / "tiny.yaml"
    path.write_text(SPEC.replace("DROPOUT", "{op: identity}"))
    return lambda *more: load_spec(
        path,
        overrides=["train.trackers=[tensorboard]", "train.keep=20", "train.epochs=2", *more],
    )


@pytest.fixture(scope="module")
def originals(spec, tmp_path_factory):
    """A complete run, and one that was stopped in its second epoch."""
    folder = tmp_path_factory.mktemp("runs")
    train_run(spec(), folder / "complete")
    with pytest.raises(InterruptedRun):
        train_run(spec(), folder / "stopped", report=Stop(at_step=7))
    return folder


@pytest.fixture(params=["complete", "stopped"])
def run(originals, tmp_path, request):
    shutil.copytree(originals / request.param, tmp_path / "run")
    return RunDirectory(tmp_path / "run")


@pytest.fixture
def stopped(originals, tmp_path):
    shutil.copytree(originals / "stopped", tmp_path / "run")
    return RunDirectory(tmp_path / "run")


@pytest.fixture
def complete(originals, tmp_path):
    shutil.copytree(originals / "complete", tmp_path / "run")
    return RunDirectory(tmp_path / "run")


@pytest.mark.parametrize("name", NOT_MINE)
@pytest.mark.parametrize("asked", [{"resume": True}, {"overwrite": True}, {}], ids=str)
def test_a_folder_that_is_no_run_is_refused(spec, tmp_path, name, asked):
    write(tmp_path / "mine" / name)
    write(tmp_path / "mine" / ".writing_thesis.tex", "mine")
    before = snapshot(tmp_path)
    with pytest.raises(SpecError) as caught:
        train_run(spec(), tmp_path / "mine", **asked)
    assert name.partition("/")[0] in caught.value.problems[0].what
    assert "--out DIR" in str(caught.value)
    assert snapshot(tmp_path) == before


def test_neither_spec_nor_environment_alone_makes_a_run(spec, run, tmp_path):
    for name in ("spec.yaml", "environment.json"):
        for content in (None, "{}", "["):
            shutil.copytree(run.path, tmp_path / "copy")
            (tmp_path / "copy" / name).unlink()
            if content is not None:
                (tmp_path / "copy" / name).write_text(content)
            before = snapshot(tmp_path)
            for asked in ({"resume": True}, {"overwrite": True}):
                with pytest.raises(SpecError, match=f"is not a run: {name}"):
                    train_run(spec(), tmp_path / "copy", **asked)
            assert snapshot(tmp_path) == before
            shutil.rmtree(tmp_path / "copy")


def test_what_lies_beside_a_run_survives(spec, stopped):
    mine = [".writing_thesis.tex", ".removing_notes", "notes.txt", "figure.png"]
    mine += ["checkpoints/.writing_mine", "checkpoints/other.ckpt", "analysis/paper.ipynb"]
    mine += [f"checkpoints/{stopped.checkpoints[0].name}/.writing_mine", "wandb/run/x"]
    for name in mine:
        write(stopped.path / name, "mine")
    train_run(spec("train.keep=1"), stopped.path, resume=True)
    assert all((stopped.path / name).read_text() == "mine" for name in mine)


def test_overwriting_leaves_what_others_write(spec, run):
    mine = ["analysis/paper.ipynb", "wandb/run/x", ".writing_thesis.tex", "notes.txt"]
    for name in mine:
        write(run.path / name, "mine")
    warnings = []

    class Warnings(Stop):
        def warning(self, text):
            warnings.append(text)

    with pytest.raises(InterruptedRun):
        train_run(spec(), run.path, overwrite=True, report=Warnings(at_step=1))
    assert all((run.path / name).read_text() == "mine" for name in mine)
    assert [path.name for path in run.checkpoints] == ["step_00000001"]
    assert run.metrics() == [] and run.result() is None
    assert len(run.starts()) == len(list((run.path / "tensorboard").iterdir())) == 1
    (warning,) = warnings
    assert warning.endswith("before, too: .writing_thesis.tex, analysis, notes.txt, wandb")


@pytest.mark.parametrize(
    "name",
    [
        "checkpoints/other.ckpt",
        "checkpoints/step_00000001.bak/model.safetensors",
        "checkpoints/step_00000005/notes.txt",
        "tensorboard/events.out.tfevents.mine",
        "finetuned/notes.txt",
        "init.json",
    ],
)
def test_overwriting_is_refused_where_it_would_delete_something_else(spec, complete, name):
    write(complete.path / name, "mine, and not TensorBoard's")
    before = snapshot(complete.path)
    with pytest.raises(SpecError, match="holds what is not this run's: ") as caught:
        train_run(spec(), complete.path, overwrite=True)
    assert "/".join(name.split("/")[:2]) in str(caught.value) or "finetuned" in str(caught.value)
    assert snapshot(complete.path) == before


@pytest.mark.parametrize("name", ["checkpoints", "tensorboard"])
def test_overwriting_does_not_follow_links(spec, complete, tmp_path, name):
    (complete.path / name).rename(tmp_path / "elsewhere")
    (complete.path / name).symlink_to(tmp_path / "elsewhere")
    before = snapshot(tmp_path)
    with pytest.raises(SpecError, match=f"not this run's: {name}"):
        train_run(spec(), complete.path, overwrite=True)
    assert snapshot(tmp_path) == before


def test_overwriting_deletes_a_finetuned_run_of_the_same_kind(spec, complete, originals):
    shutil.copytree(originals / "stopped", complete.path / "finetuned")
    with complete.locked():
        complete.create(overwrite=True)
    assert [path.name for path in complete.path.iterdir() if path.name != ".lock"] == [
        "checkpoints"
    ]


def test_copies_of_checkpoints_are_none(spec, run):
    before = [path.name for path in run.checkpoints]
    copies = ("step_00000001.bak", "step_00000005_old", "step_00000099", "step_5", "xstep_00000001")
    for name in copies:
        shutil.copytree(run.checkpoints[0], run.path / "checkpoints" / name)
    assert [path.name for path in run.checkpoints] == before
    assert evaluate_run(run.path, checkpoint="last").only.checkpoint == before[-1]
    train_run(spec("train.keep=1", "train.epochs=3"), run.path, resume=True)
    assert run.checkpoints[-1].name == "step_00000015"
    assert all((run.path / "checkpoints" / name / "optimizer.pt").exists() for name in copies)


def test_checkpoints_of_another_run_stay(spec, stopped, tmp_path):
    with pytest.raises(InterruptedRun):
        train_run(spec("train.seed=3"), tmp_path / "other", report=Stop(at_step=2))
    shutil.copytree(tmp_path / "other/checkpoints/step_00000002", stopped.checkpoint_path(2))
    train_run(spec("train.keep=1"), stopped.path, resume=True)
    best = stopped.find_checkpoint("best").name
    assert {path.name for path in stopped.checkpoints} == {"step_00000002", best, "step_00000010"}


def test_another_run_s_checkpoint_in_the_way_is_not_replaced(stopped):
    document = stopped.progress(stopped.checkpoints[-1])
    with pytest.raises(RunError, match="is in the way"):
        stopped.save_checkpoint(7, {}, document, is_own=lambda identity: False)
    shutil.copytree(stopped.checkpoints[-1], stopped.checkpoint_path(9))
    before = snapshot(stopped.path)
    with pytest.raises(RunError, match=r"step_00000009 is in the way.*of step 9"):
        stopped.save_checkpoint(9, {}, document)
    assert snapshot(stopped.path) == before


def test_checkpoints_are_in_the_order_of_their_steps(stopped):
    last = stopped.progress(stopped.checkpoints[-1])
    for step in (99_999_999, 100_000_000):
        last["progress"]["step"] = step
        stopped.save_checkpoint(step, {}, last)
    assert stopped.checkpoints[-1].name == "step_100000000"


def moved(path, folder):
    path.rename(folder / "away")


def emptied(path, folder):
    moved(path, folder)
    path.mkdir()


def a_file(path, folder):
    moved(path, folder)
    path.write_text("")


def a_link_to_nowhere(path, folder):
    moved(path, folder)
    path.symlink_to(folder / "not mounted")


def a_link_to_itself(path, folder):
    moved(path, folder)
    path.symlink_to(path.name)


@pytest.mark.parametrize("lose", [moved, emptied, a_file, a_link_to_nowhere, a_link_to_itself])
def test_checkpoints_that_are_gone_are_no_fresh_start(spec, run, tmp_path, lose):
    lose(run.path / "checkpoints", tmp_path)
    before = snapshot(tmp_path)
    with pytest.raises(RunError, match="checkpoints") as caught:
        train_run(spec(), run.path, resume=True)
    assert caught.value.exit_code == 1
    assert snapshot(tmp_path) == before


def test_checkpoints_of_an_older_version_that_are_gone(spec, stopped, tmp_path):
    environment = json.loads((stopped.path / "environment.json").read_text())
    del environment["starts"][0]["first_checkpoint"]
    (stopped.path / "environment.json").write_text(json.dumps(environment))
    moved(stopped.path / "checkpoints", tmp_path)
    with pytest.raises(RunError, match="holds no checkpoint, although step_00000005 was saved"):
        train_run(spec(), stopped.path, resume=True)


@pytest.fixture
def as_somebody():
    """This process as another user, who owns what it makes from then on."""
    if not AS_ROOT:
        pytest.skip("only the superuser can become another")

    @contextlib.contextmanager
    def become():
        os.seteuid(65534)
        try:
            yield
        finally:
            os.seteuid(0)

    return become


@pytest.mark.parametrize("name", ["checkpoints", "spec.yaml", "metrics.jsonl", "environment.json"])
def test_what_cannot_be_read_is_not_taken_to_be_absent(spec, run, monkeypatch, as_somebody, name):
    for path in (run.path, *run.path.rglob("*")):
        os.chown(path, 65534, 65534)
    os.chown(run.path / name, 0, 0)
    (run.path / name).chmod(0o700)
    monkeypatch.chdir(run.path)  # as the folders above are for this user only
    before, resolved = snapshot(run.path), spec()
    for asked in ({"resume": True}, {"overwrite": True}):
        with as_somebody(), pytest.raises(RunError, match=f"{name} cannot be read: Permission"):
            train_run(resolved, ".", **asked)
    assert snapshot(run.path) == before


def test_a_run_that_never_saved_a_checkpoint_begins_again(spec, tmp_path):
    def fail(*arguments):
        raise KeyError

    class Breaks(Stop):
        step = fail

    with pytest.raises(KeyError):
        train_run(spec(), tmp_path / "run", report=Breaks())
    run = RunDirectory(tmp_path / "run")
    assert run.checkpoints == []
    before = snapshot(tmp_path)
    with pytest.raises(SpecError, match="the spec has changed"):
        train_run(spec("train.seed=3"), run.path, resume=True)
    assert snapshot(tmp_path) == before
    assert train_run(spec(), run.path, resume=True).epochs == 2
    assert [line["epoch"] for line in run.metrics()] == [1, 2]


class Killed(BaseException):
    """Stands for SIGKILL: nothing tidies up after it."""


def killed_at(count, monkeypatch, call):
    """Whether a call got so far as to change the disk so often, and was ended there."""
    left = [count]

    def ending(change):
        def changed(*arguments, **options):
            result = change(*arguments, **options)
            left[0] -= 1
            if left[0] == 0:
                raise Killed
            return result

        return changed

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", ending(os.fsync))
        patch.setattr(shutil, "rmtree", ending(shutil.rmtree))
        for name in ("mkdir", "rename", "replace", "unlink"):
            patch.setattr(Path, name, ending(getattr(Path, name)))
        try:
            call()
        except Killed:
            return True
    return False


def test_a_kill_while_a_run_is_begun_leaves_what_goes_on(spec, complete, tmp_path, monkeypatch):
    (start,), data, text = complete.starts(), complete.data(), complete.spec.read_text()
    for count in range(1, 20):
        run = RunDirectory(tmp_path / f"run{count}")

        def begin(run=run):
            run.create(overwrite=False)
            run.add_start(start)
            run.describe(text, data, None)

        if not killed_at(count, monkeypatch, begin):
            break
        run.require_free(overwrite=False, resume=True)
        if run.starts():
            run.begin_again()
        else:
            run.create(overwrite=False)
        run.add_start(start)
        run.describe(text, data, None)
        assert not list(run.path.rglob(".*")), count
    assert count > 8


def test_a_kill_while_a_run_is_overwritten_leaves_what_can_be(
    spec, complete, originals, tmp_path, monkeypatch
):
    shutil.copytree(originals / "stopped", complete.path / "finetuned")
    for count in range(1, 40):
        shutil.copytree(complete.path, tmp_path / "copy")
        run = RunDirectory(tmp_path / "copy")
        reached = killed_at(count, monkeypatch, lambda run=run: run.create(overwrite=True))
        run.create(overwrite=True)
        assert [path.name for path in run.path.iterdir()] == ["checkpoints"], count
        assert list(run.path.rglob("*")) == [run.path / "checkpoints"], count
        shutil.rmtree(run.path)
        if not reached:
            break
    assert count > 10


def test_an_empty_lock_file_of_others_stays(spec, tmp_path):
    write(tmp_path / "run" / ".lock", "")
    with RunDirectory(tmp_path / "run").locked():
        assert (tmp_path / "run" / ".lock").read_text()
    assert (tmp_path / "run" / ".lock").read_text() == ""
    (tmp_path / "run" / ".lock").unlink()
    write(tmp_path / "thesis.tex", "mine")
    (tmp_path / "run" / ".lock").symlink_to(tmp_path / "thesis.tex")
    with pytest.raises(RunError), RunDirectory(tmp_path / "run").locked():
        pass
    assert (tmp_path / "thesis.tex").read_text() == "mine"


def test_a_link_to_nowhere_is_no_place_for_a_run(spec, tmp_path):
    (tmp_path / "run").symlink_to(tmp_path / "not mounted")
    with pytest.raises(SpecError, match="is a link to what is not there"):
        train_run(spec(), tmp_path / "run", resume=True)


def test_a_run_behind_a_link_goes_on(spec, stopped, tmp_path):
    (tmp_path / "link").symlink_to(stopped.path)
    assert train_run(spec(), tmp_path / "link", resume=True).epochs == 2
    assert (tmp_path / "link").is_symlink()


@pytest.mark.parametrize("content", [b"\xff\xfe", b'{"epoch": "2"}\n', b'{"epoch": 1, "step": []}'])
def test_metrics_that_are_damaged_are_named(spec, stopped, content):
    (stopped.path / "metrics.jsonl").write_bytes(content)
    before = snapshot(stopped.path)
    with pytest.raises(RunError, match=r"metrics\.jsonl cannot be read: ") as caught:
        train_run(spec(), stopped.path, resume=True)
    assert "move it away" in str(caught.value)
    assert snapshot(stopped.path) == before


def test_metrics_that_are_a_folder_are_named(spec, stopped):
    (stopped.path / "metrics.jsonl").unlink()
    (stopped.path / "metrics.jsonl").mkdir()
    with pytest.raises(RunError, match=r"metrics\.jsonl cannot be read: it is not a file"):
        train_run(spec(), stopped.path, resume=True)


def test_lost_lines_give_no_figure_of_another_epoch(spec, complete):
    lines = (complete.path / "metrics.jsonl").read_text().splitlines(keepends=True)
    (complete.path / "metrics.jsonl").write_text(lines[0])
    (complete.path / "metrics.json").unlink()
    warnings = []

    class Warnings(Stop):
        def warning(self, text):
            warnings.append(text)

    result = train_run(spec(), complete.path, resume=True, report=Warnings()).document()
    taken = ("train_loss", "train_images_per_second", "data_wait_share")
    assert [result[name] for name in taken] == [None] * 3
    assert (result["epochs"], complete.result()["train_loss"]) == (2, None)
    assert warnings == [f"{complete.path}/metrics.jsonl has lost the figures of epoch 2"]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("progress.json", {"step": "7"}),
        ("progress.json", {"step": -1}),
        ("progress.json", {"epoch": 2}),
        ("progress.json", {"best": {"step": 5, "epoch": 1, "figure": "0.5"}}),
        ("progress.json", {"loss_sum": None}),
    ],
)
def test_progress_of_a_wrong_form_is_named(spec, stopped, name, change):
    path = stopped.checkpoints[-1] / name
    document = json.loads(path.read_text())
    document["progress"] |= change
    path.write_text(json.dumps(document))
    before = snapshot(stopped.path)
    with pytest.raises(RunError, match="step_00000007"):
        train_run(spec(), stopped.path, resume=True)
    assert snapshot(stopped.path) == before
