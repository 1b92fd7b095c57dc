"""Searches on disk: what they run, prune, go on from, refuse and report."""

import itertools
import json
import re
import shutil
import signal
import sys
import time
from xml.etree import ElementTree

import pytest

from nifbuild.ablate.cells import Store
from nifbuild.runs.directory import RunDirectory
from nifbuild.runs.lock import is_locked, locked
from tests.ablate.conftest import STUDY, ablate, document, write_study
from tests.ablate.test_end_to_end import started

SEARCH = """
base: tiny.yaml
set: {train.epochs: 3, data.validation: 0.25}
search:
  trials: 6
  pruner: {name: median, warmup_epochs: 1, startup_trials: 2}
  space:
    train.optimizer.lr: {low: 1e-4, high: 1e-1, log: true}
    vars.width: {choices: [4, 6]}
"""
HOPELESS = SEARCH.replace("{low: 1e-4, high: 1e-1, log: true}", "{choices: [1e-9, 0.02]}")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    pytest.importorskip("optuna")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")  # as figures are compared to the last digit
        yield


def outcome(folder):
    """What was drawn, in order, and what came of it; not what differs from run to run."""
    trials = json.loads((folder / "trials.json").read_text())["trials"]
    ended = {}
    for cell in Store(folder).cells():
        path = cell.path / "trial.json"
        if path.exists():
            kept = json.loads(path.read_text())
            result = cell.result()
            figures = result and {name: result[name] for name in ("top1", "loss", "epoch")}
            ended[cell.path.name] = (kept, figures if kept["state"] == "done" else None)
    return trials, ended


def test_results_of_another_study_in_the_folder_are_told(finished, tmp_path):
    folder = tmp_path / "cells"
    shutil.copytree(finished[1], folder)
    study = write_study(tmp_path, SEARCH)
    words = "4 results are of specs or seeds that this study does not have: not counted"
    assert words in document("plan", study, "--dir", folder)["warnings"]
    assert words in document("report", study, "--dir", folder, "--out", tmp_path)["warnings"]


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A search that has run in peace: its file, its folder, what `run` said."""
    folder = tmp_path_factory.mktemp("searched")
    study = write_study(folder, SEARCH)
    said = ablate("run", study, "--dir", folder / "cells")
    assert said.exit_code == 0, said.output
    return study, folder / "cells", said


def test_trials_are_cells_whose_values_are_in_range(searched):
    _, folder, said = searched
    trials, ended = outcome(folder)
    assert len(trials) == 6 and [trial["known"] for trial in trials] == [0, 1, 2, 3, 4, 5]
    for trial in trials:
        assert 1e-4 <= trial["values"]["train.optimizer.lr"] <= 0.1
        assert trial["values"]["vars.width"] in (4, 6)
    cells = {cell.path.name: cell for cell in Store(folder).cells()}
    assert cells.keys() == ended.keys()
    labels = [cell.description()["labels"] for cell in cells.values()]
    drawn = [{p: json.dumps(v) for p, v in trial["values"].items()} for trial in trials]
    assert sorted(map(str, labels)) == sorted(map(str, drawn))
    assert len([line for line in said.stderr.splitlines() if "validation top-1" in line]) == 6
    states = [kept["state"] for kept, _ in ended.values()]
    words = f"{states.count('done')} trials trained to the end, {states.count('pruned')} pruned"
    assert f"{words}; 0 of them before" in said.stdout


def test_figures_are_those_of_the_selected_checkpoint_on_validation(searched):
    _, folder, _ = searched
    for cell in Store(folder).cells():
        kept = json.loads((cell.path / "trial.json").read_text())
        lines = RunDirectory(cell.run).metrics()
        assert all(line["split"] == "validation" for line in lines)
        seen = {str(line["epoch"]): line["top1"] for line in lines}
        assert kept["figures"].items() <= seen.items()
        if kept["state"] == "done":
            assert kept["value"] == max(seen.values()) and len(kept["figures"]) == 3
            assert cell.result()["split"] == "test"


def test_what_has_ended_is_not_run_again(searched):
    study, folder, _ = searched
    before = outcome(folder)
    logs = {cell.path: cell.log.read_text() for cell in Store(folder).cells()}
    said = document("run", study, "--dir", folder, "--quiet")
    assert len(said["found"]) == 6 and len(said["done"]) + len(said["pruned"]) == 6
    assert outcome(folder) == before
    assert {cell.path: cell.log.read_text() for cell in Store(folder).cells()} == logs


def test_more_trials_go_on_where_fewer_have_stopped(searched, tmp_path):
    _, folder, _ = searched
    few = write_study(tmp_path, SEARCH.replace("trials: 6", "trials: 2"))
    document("run", few, "--dir", tmp_path / "cells", "-q")
    assert len(outcome(tmp_path / "cells")[0]) == 2
    more = write_study(tmp_path, SEARCH)
    assert len(document("run", more, "--dir", tmp_path / "cells", "-q")["found"]) == 2
    assert outcome(tmp_path / "cells") == outcome(folder)


def test_of_fewer_trials_than_were_drawn_the_others_are_named(searched, tmp_path):
    _, folder, _ = searched
    few = write_study(tmp_path, SEARCH.replace("trials: 6", "trials: 4"))
    said = document("run", few, "--dir", folder, "-q")
    assert len(said["done"]) + len(said["pruned"]) == 4
    words = ("report", few, "--dir", folder, "--out", tmp_path / "report")
    report = document(*words)
    assert [trial["number"] for trial in report["trials"]] == [0, 1, 2, 3]
    assert report["done"] + report["pruned"] == report["total"] == 4
    (warning,) = report["warnings"]
    assert warning.startswith("2 trials beyond the 4 that the study asks for were drawn before")
    assert "4 of 4 trials ended" in ablate(*words, "--overwrite").stdout
    assert document("plan", few, "--dir", folder)["ended"] == 4


def on_their_way(folder, number):
    """Whether more than so many trials are drawn, and one of them is being trained."""
    if not (folder / "trials.json").exists() or len(outcome(folder)[0]) <= number:
        return False
    left = (c for c in Store(folder).cells() if not (c.path / "trial.json").exists())
    return any(cell.epochs_done() for cell in left)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals and locks")
@pytest.mark.parametrize(("workers", "kills"), [(1, (1, 3)), (2, (2,))])
def test_killed_and_continued_it_gives_the_same_trials(tmp_path, workers, kills):
    """Killed for real, with trials on their way; by one worker, once more after that."""
    text = SEARCH.replace("train.epochs: 3", "train.epochs: 12")
    study, calm, killed = write_study(tmp_path, text), tmp_path / "calm", tmp_path / "killed"
    document("run", study, "--dir", calm, "--workers", workers, "-q")
    expected = outcome(calm)
    assert len(expected[0]) == 6

    for enough in kills:
        runner = started(study, killed, "--workers", workers, "-q")
        while not on_their_way(killed, enough):
            assert runner.poll() is None, runner.communicate()
            time.sleep(0.02)
        runner.send_signal(signal.SIGKILL)
        runner.communicate()
        assert len(outcome(killed)[1]) < 6
    # Its last trial may be saving a checkpoint still: it is waited for.
    document("run", study, "--dir", killed, "--workers", workers, "-q")
    assert outcome(killed) == expected
    logs = [cell.log.read_text() for cell in Store(killed).cells()]
    assert sum(log.count("--- attempt") for log in logs) > 6
    assert any("continuing after step" in log for log in logs)


def test_a_hopeless_trial_is_pruned_and_never_run_again(tmp_path):
    study, folder = (
        write_study(tmp_path, HOPELESS.replace("epochs: 3", "epochs: 6")),
        tmp_path / "c",
    )
    said = ablate("run", study, "--dir", folder)
    assert said.exit_code == 0, said.output
    trials, ended = outcome(folder)
    pruned = [kept for kept, _ in ended.values() if kept["state"] == "pruned"]
    assert pruned and "pruned after epoch 2: validation top-1" in said.stderr
    report = document("report", study, "--dir", folder)
    for trial in report["trials"]:
        if trial["state"] == "pruned":
            assert trial["values"]["train.optimizer.lr"] == 1e-9
            assert trial["epoch"] >= 2 and trial["result"] is None
            assert trial["value"] == trial["figures"][str(trial["epoch"])]
            assert len(trial["figures"]) == trial["epoch"] < 6
    assert report["best"]["values"]["train.optimizer.lr"] == 0.02
    attempts = [cell.log.read_text().count("--- attempt") for cell in Store(folder).cells()]
    ablate("run", study, "--dir", folder)
    assert set(attempts) == {1}
    assert [c.log.read_text().count("--- attempt") for c in Store(folder).cells()] == attempts
    assert outcome(folder) == (trials, ended)


def test_interrupted_before_a_trial_runs_it_says_how_to_go_on(tmp_path, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    study = write_study(tmp_path, SEARCH)
    monkeypatch.setattr("nifbuild.ablate.search_run.read_trials", interrupted)
    done = ablate("run", study, "--dir", tmp_path / "cells")
    assert done.exit_code == 130
    words = "interrupted by SIGINT\n  the same command goes on where it stopped"
    assert words in done.stderr


def test_a_trial_that_was_killed_has_begun(searched, tmp_path):
    """Killed in training, and killed between its end and its judgement."""
    study, folder, _ = searched
    shutil.copytree(folder, tmp_path / "cells")
    first, second = [cell for cell in Store(tmp_path / "cells").cells() if cell.has_result][:2]
    for cell in (first, second):
        (cell.path / "trial.json").unlink()
    (first.path / "result.json").unlink()
    report = document("report", study, "--dir", tmp_path / "cells")
    assert [trial["state"] for trial in report["trials"]].count("begun") == 2
    assert "2 begun, to be continued" in ablate("report", study, "--dir", tmp_path / "cells").stdout
    begun = [t["directory"] for t in report["trials"] if t["state"] == "begun"]
    assert sorted(begun) == sorted(str(cell.path) for cell in (first, second))


def test_values_that_do_not_go_together_and_trials_that_fail_do_not_stop_a_search(tmp_path):
    text = SEARCH.replace("vars.width: {choices: [4, 6]}", "train.accumulate: {choices: [1, 2, 4]}")
    text = text.replace("high: 1e-1, log: true}", "high: 1e-1, log: true}\n"
                        "    train.batch_size: {choices: [16, 10, 16000]}")  # fmt: skip
    done = ablate("plan", write_study(tmp_path, text))
    assert done.exit_code == 2  # a batch of all images is at one end
    text = text.replace("[16, 10, 16000]", "[16, 10, 12]").replace("[1, 2, 4]", "[1, 4, 2]")
    done = ablate("plan", write_study(tmp_path, text))
    assert done.exit_code == 0, done.output
    said = document("run", tmp_path / "study.yaml", "--dir", tmp_path / "cells", "-q")
    together = [v["values"] for v in outcome(tmp_path / "cells")[0]]
    wrong = [v for v in together if v["train.batch_size"] % v["train.accumulate"]]
    assert len(wrong) == len(said["refused"])
    assert all("must be a multiple of accumulate" in each["reason"] for each in said["refused"])
    assert len(said["done"]) + len(said["pruned"]) == 6 - len(wrong)


def test_a_trial_that_diverges_fails_alone_and_is_tried_again(tmp_path):
    text = SEARCH.replace("{low: 1e-4, high: 1e-1, log: true}", "{choices: [0.02, 1.0e+12]}")
    study = write_study(tmp_path, text.replace("trials: 6", "trials: 4"))
    done = ablate("run", study, "--dir", tmp_path / "cells")
    assert done.exit_code == 1 and "the loss is nan" in done.stdout
    report = document("report", study, "--dir", tmp_path / "cells")
    failed = [t for t in report["trials"] if t["state"] == "failed"]
    assert failed and all(t["values"]["train.optimizer.lr"] == 1e12 for t in failed)
    assert all("the loss is nan" in t["reason"] for t in failed)
    shown = ablate("report", study, "--dir", tmp_path / "cells").stdout
    assert "failed: trial" in shown and f"{len(failed)} failed" in shown
    page = (tmp_path / "cells" / "report" / "report.html").read_text()
    assert "Failed trials" in page and "the loss is nan" in page
    before = outcome(tmp_path / "cells")
    again = document("run", study, "--dir", tmp_path / "cells", "-q")
    assert len(again["failed"]) == len(failed) and outcome(tmp_path / "cells") == before


def test_damaged_figures_are_made_again(searched, tmp_path):
    study, folder, _ = searched
    copy = tmp_path / "cells"
    shutil.copytree(folder, copy)
    expected = outcome(folder)
    cells = [cell for cell in Store(copy).cells() if cell.result() is not None]
    result = json.loads((cells[0].path / "result.json").read_text())
    (cells[0].path / "result.json").write_text(json.dumps({**result, "top1": 0.5}))
    assert len(document("run", study, "--dir", copy, "-q")["damaged"]) == 1
    (cells[0].path / "trial.json").write_text("{")
    document("run", study, "--dir", copy, "-q")
    assert outcome(copy) == expected
    (copy / "trials.json").write_text('{"of": {}}')
    done = ablate("run", study, "--dir", copy)
    assert done.exit_code == 1 and "trials.json is damaged: trials" in done.stderr
    (copy / "trials.json").unlink()  # it begins anew, and finds what it has run
    assert len(document("run", study, "--dir", copy, "-q")["done"]) > 0
    assert outcome(copy) == expected


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (("search:\n", "search:\n  seed: 1\n"), "seed"),
        (("search:\n", "search:\n  metric: loss\n"), "metric"),
        (("search:\n", "search:\n  sampler: random\n"), "sampler"),
        (("high: 1e-1", "high: 1.0"), "space"),
        (("warmup_epochs: 1", "warmup_epochs: 2"), "pruner"),
        (("train.epochs: 3", "train.epochs: 4"), "the spec"),
    ],
)
def test_trials_of_another_search_are_not_mixed_in(searched, tmp_path, change, word):
    _, folder, _ = searched
    study = write_study(tmp_path, SEARCH.replace(*change, 1))
    for command in ("plan", "report"):
        done = ablate(command, study, "--dir", folder, *(["--out", tmp_path] * (command[0] == "r")))
        assert done.exit_code == 2, done.output
        assert f"is of another search: it differs in {word}" in done.stderr


def test_the_report(searched, tmp_path):
    study, folder, _ = searched
    done = ablate("report", study, "--dir", folder, "--out", tmp_path)
    assert done.exit_code == 0, done.output
    names = {path.name for path in tmp_path.iterdir()}
    plots = {"trials.png", "parameters.png"}
    assert names == {"report.md", "report.html", "report.json", *plots}
    read = json.loads((tmp_path / "report.json").read_text())
    assert read == document("report", study, "--dir", folder)
    trials = read["trials"]
    assert [trial["number"] for trial in trials] == list(range(6))
    values = {t["number"]: t["value"] for t in trials if t["state"] == "done"}
    best = max(values, key=lambda number: (values[number], -number))
    assert read["best"]["number"] == best and read["best"]["value"] == values[best]
    spec = f"{read['best']['directory']}/spec.yaml"
    for text in (done.stdout, (tmp_path / "report.md").read_text()):
        assert f"Best: trial {best}, validation top-1 {values[best]:.2%}" in text
        assert spec in text and "6 of 6 trials ended" in text
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 2
    root = ElementTree.fromstring(re.sub(r"<(meta|img)([^>]*)>", r"<\1\2/>", page[15:]))
    cells = ["".join(cell.itertext()) for cell in root.iter("td")]
    for trial in trials:
        assert f"{trial['value']:.2%}" in cells
    printed = ablate("report", study, "--dir", folder, "--markdown").stdout
    assert printed == (tmp_path / "report.md").read_text()


def test_plots_show_each_trial(searched):
    from nifbuild.ablate.search_plots import plot_parameters, plot_trials
    from nifbuild.ablate.search_report import make_search_report
    from nifbuild.spec.ablation import load_study

    study, folder, _ = searched
    report = make_search_report(load_study(study), Store(folder))
    values = {t.number: t.ended.value * 100 for t in report.trials}
    (axes,) = plot_trials(report.study.spec.search, report.trials).axes
    points = [tuple(p) for marks in axes.collections for p in marks.get_offsets().tolist()]
    assert sorted(points) == sorted((float(n), pytest.approx(v)) for n, v in values.items())
    panels = plot_parameters(report.study.spec.search, report.trials).axes
    assert [panel.get_xlabel() for panel in panels] == ["train.optimizer.lr", "vars.width"]
    assert [panel.get_xscale() for panel in panels] == ["log", "linear"]
    panels[0].figure.draw_without_rendering()
    labels = [label for label in panels[0].get_xticklabels() if label.get_text()]
    boxes = [label.get_window_extent() for label in labels]
    assert len(labels) > 1 and not any("$" in label.get_text() for label in labels)
    assert not any(one.overlaps(other) for one, other in itertools.pairwise(boxes))
    assert not any(label.get_text() for label in panels[0].get_xticklabels(minor=True))
    for panel, place in (
        (panels[0], lambda v: v["train.optimizer.lr"]),
        (panels[1], lambda v: (4, 6).index(v["vars.width"])),
    ):
        found = [tuple(p) for marks in panel.collections for p in marks.get_offsets().tolist()]
        expected = [(float(place(t.values)), values[t.number]) for t in report.trials]
        assert sorted(found) == [pytest.approx(pair) for pair in sorted(expected)]


def test_the_plan_of_fewer_trials_than_end_early_promises_nothing_more(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    study = write_study(tmp_path, SEARCH.replace("trials: 6", "trials: 2"))
    words = " ".join(ablate("plan", study).stdout.split())
    assert "No trial is ended early: that begins once 2 are done." in words
    assert "such as trial 1" in words and "such as trial 2" not in words
    text = SEARCH.replace("warmup_epochs: 1", "warmup_epochs: 2")
    words = " ".join(ablate("plan", write_study(tmp_path, text)).stdout.split())
    assert "the warm-up, 2 epochs, leaves but the last of training, 3 epochs at most." in words
    text = SEARCH.replace("warmup_epochs: 1", "warmup_epochs: 5")
    words = " ".join(ablate("plan", write_study(tmp_path, text)).stdout.split())
    expected = "No trial is ended early: the warm-up, 5 epochs, is no shorter than training, 3 "
    assert expected in words and "Pruned after" not in words


def test_the_plan_shows_the_space_and_what_it_costs(searched, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")  # in a narrow terminal examples are left out
    study = write_study(tmp_path, SEARCH)
    done = ablate("plan", study, "--dir", tmp_path / "cells")
    assert done.exit_code == 0, done.output
    words = " ".join(done.stdout.split())
    assert "numbers from 0.0001 to 0.1, logarithmic" in words and "one of 4, 6" in words
    assert "such as trial 0" in words and "such as trial 2" in words
    assert "6 of 6 trials to run." in words and "Pruned after epoch 2 at the earliest" in words
    assert not (tmp_path / "cells").exists()
    plan = document("plan", study, "--dir", tmp_path / "cells")
    # 4 or 6 filters of 9 taps on 64 pixels; as many times as many; and the classifier.
    macs = [64 * 9 * width * (1 + width) + 10 * width for width in (4, 6)]
    assert [end["costs"]["macs"] for end in plan["ends"]] == macs
    first = plan["examples"][0]["labels"]
    drawn = outcome(searched[1])[0][0]["values"]
    assert first == {path: json.dumps(value) for path, value in drawn.items()}
    assert document("plan", study, "--dir", searched[1])["ended"] == 6
    assert "All trials have ended." in ablate("plan", study, "--dir", searched[1]).stdout
    budget = write_study(tmp_path, SEARCH.replace("set: {", "set: {budget.max_params: 400, "))
    assert ablate("plan", budget).exit_code == 3
    done = ablate("run", budget, "--dir", tmp_path / "cells")
    assert done.exit_code == 3 and not (tmp_path / "cells").exists()


@pytest.mark.parametrize("command", ["plan", "run"])
def test_without_validation_images_there_is_nothing_to_judge_by(tmp_path, command):
    study = write_study(tmp_path, SEARCH.replace("data.validation: 0.25", "data.validation: 0"))
    done = ablate(command, study, "--dir", tmp_path / "cells")
    assert done.exit_code == 2
    assert "a search needs a validation split to judge trials by" in done.stderr
    assert "test images must not decide" in done.stderr
    assert not (tmp_path / "cells").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("run", "--engine", "ray"), "a search runs on this machine"),
        (("run", "--shard", "1/2"), "a search has no parts"),
        (("gate",), "is a search, which has no gates"),
        (("report", "--main", "x"), "--main is for gates, which a search has none of"),
    ],
)
def test_what_a_search_has_no_use_for(tmp_path, words, expected):
    study = write_study(tmp_path, SEARCH)
    (tmp_path / "cells").mkdir()
    done = ablate(words[0], study, *words[1:], "--dir", tmp_path / "cells")
    assert done.exit_code == 2 and expected in " ".join(done.stderr.split())
    assert not any((tmp_path / "cells").iterdir())


@pytest.mark.parametrize("command", ["report", "gate"])
def test_results_in_a_folder_that_is_not_there(tmp_path, command):
    study = write_study(tmp_path, SEARCH)
    done = ablate(command, study, "--dir", tmp_path / "cells")
    assert done.exit_code == 2 and f"there is no folder {tmp_path}/cells" in done.stderr
    assert "nifbuild ablate run" in done.stderr and not (tmp_path / "cells").exists()


def test_without_optuna_it_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    study = write_study(tmp_path, SEARCH)
    for command in ("plan", "run"):
        done = ablate(command, study, "--dir", tmp_path / "cells")
        assert done.exit_code == 2 and "Optuna is not installed" in done.stderr
        assert "pip install 'nifbuild[search]'" in done.stderr
    grid = write_study(tmp_path, STUDY, "grid")
    assert ablate("plan", grid).exit_code == 0  # which needs none


def test_one_process_at_a_time(searched):
    from tests.children import in_child

    study, folder, _ = searched
    with locked(folder):
        code, text = in_child(refused, study, folder)
    assert code == 1 and "is writing to" in text and "search elsewhere with --dir" in text
    assert not is_locked(folder)


def refused(study, folder):
    done = ablate("run", study, "--dir", folder, "-q")
    return done.exit_code, done.stderr


def test_validate_tells_a_search(tmp_path):
    from typer.testing import CliRunner

    from nifbuild.cli.app import app

    study = write_study(tmp_path, SEARCH)
    done = CliRunner().invoke(app, ["validate", str(study)])
    assert done.exit_code == 0 and "ok, a search of 6 trials" in done.stdout
