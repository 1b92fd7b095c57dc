import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

import nifbuild
from nifbuild.errors import RunError, SpecError
from nifbuild.report.side_by_side.recorded import Recorded, SideBySide
from nifbuild.report.side_by_side.run_tables import labels, told_by_run
from tests.tiny_runs import spec_text, trained


@pytest.fixture(scope="module")
def runs(two_epochs, tmp_path_factory):
    """Three runs in one folder: of two epochs; at another rate; of one that was interrupted."""
    folder = tmp_path_factory.mktemp("runs")
    shutil.copytree(two_epochs, folder / "two")
    (folder / "study").mkdir()
    path = trained(folder / "study", spec_text(dropout=True), "train.optimizer.lr=0.02")
    path.rename(folder / "study" / "faster")
    shutil.copytree(two_epochs, folder / "stopped")
    (folder / "stopped" / "metrics.json").unlink()
    lines = (folder / "stopped" / "metrics.jsonl").read_text().splitlines(keepends=True)
    (folder / "stopped" / "metrics.jsonl").write_text(lines[0])
    return folder


def figures(path):
    return json.loads((path / "metrics.json").read_text())


def test_runs_are_found_at_any_depth_best_first(runs):
    made = nifbuild.list_runs(runs)
    found = {run.path.relative_to(runs).as_posix(): run for run in made.runs}
    assert set(found) == {"two", "study/faster", "stopped"}
    accuracies = [run.figures["top1"] for run in made.runs]
    assert accuracies == sorted(accuracies, reverse=True)
    assert found["two"].figures["top1"] == figures(runs / "two")["top1"]
    assert (found["two"].state, found["stopped"].state) == ("complete", "unfinished")
    assert found["stopped"].num_epochs == 1
    first = json.loads((runs / "two" / "metrics.jsonl").read_text().splitlines()[0])
    assert found["stopped"].figures["loss"] == first["loss"]
    assert found["stopped"].figures["split"] == "validation"


def test_what_differs(runs):
    made = nifbuild.compare_runs([runs / "two", runs / "study" / "faster"])
    assert made.differences == {
        "train.epochs": [2, 3],
        "train.optimizer.lr": [0.01, 0.02],
        "model: dropout": [None, 1],
        "model: identity": [1, None],
    }
    (first, second) = made.document()["runs"]
    assert first["differs"]["train.optimizer.lr"] == 0.01
    assert second["params"] == figures(runs / "study" / "faster")["params"]
    assert nifbuild.compare_runs([runs / "two", runs / "stopped"]).differences == {}


def ran_on(path, run, *starts):
    """A copy of a run, started so."""
    shutil.copytree(run, path)
    (start,) = json.loads((run / "environment.json").read_text())["starts"]
    entries = [{**start, **other} for other in starts]
    (path / "environment.json").write_text(json.dumps({"starts": entries}))
    return path


def test_what_runs_ran_on_is_told_where_it_differs(runs, tmp_path, cli):
    ran = [
        ran_on(tmp_path / "one", runs / "two", {"processes": 1}),
        ran_on(tmp_path / "more", runs / "two", {"processes": 1}, {"processes": 2}),
        ran_on(tmp_path / "other", runs / "two", {"device_name": "H100", "packages": {}}),
        ran_on(tmp_path / "newer", runs / "two", {"packages": {"torch": "99.0"}}),
    ]
    (start,) = json.loads((runs / "two" / "environment.json").read_text())["starts"]
    device, torch = start["device_name"], start["packages"]["torch"]
    assert nifbuild.compare_runs(ran).differences == {
        "environment: processes": [1, "1, then 2", 1, 1],
        "environment: device": [device, device, "H100", device],
        "environment: torch": [torch, torch, None, "99.0"],
    }
    assert nifbuild.compare_runs([runs / "two", ran[0]]).differences == {}
    told = cli("compare", *ran[:2]).stdout
    assert "environment: processes" in told and "are the same" not in told
    assert "processes=1, then 2" in cli("runs", tmp_path).stdout


def test_models_with_the_same_number_of_ops_are_told_apart(runs, tmp_path):
    shutil.copytree(runs / "two", tmp_path / "wide")
    spec = tmp_path / "wide" / "spec.yaml"
    spec.write_text(spec.read_text().replace("out_channels: 6", "out_channels: 7"))
    shutil.rmtree(tmp_path / "wide" / "checkpoints")  # which would tell that it was not trained
    made = nifbuild.compare_runs([runs / "two", runs / "stopped", tmp_path / "wide"])
    assert made.differences == {"model": [f"{name} of 2 models" for name in "AAB"]}


def test_a_run_that_goes_on(runs):
    code = (
        "import sys; from pathlib import Path; from nifbuild.runs.lock import locked\n"
        "with locked(Path(sys.argv[1])): print('locked', flush=True); sys.stdin.read()"
    )
    words = [sys.executable, "-c", code, str(runs / "stopped")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "locked\n"
        assert nifbuild.compare_runs([runs / "stopped"]).runs[0].state == "running"
        other.stdin.close()


def test_a_run_that_has_lost_a_file_is_still_one(runs, tmp_path):
    for name in ("environment.json", "metrics.jsonl"):
        shutil.copytree(runs / "two", tmp_path / name)
        (tmp_path / name / name).unlink()
    assert len(nifbuild.list_runs(tmp_path).runs) == 2


def test_a_damaged_run_hides_no_other(runs, tmp_path, cli):
    shutil.copytree(runs, tmp_path / "runs")
    (tmp_path / "runs" / "two" / "metrics.json").write_text("{")
    made = nifbuild.list_runs(tmp_path / "runs")
    damaged = made.runs[-1]
    assert (damaged.state, damaged.path.name) == ("damaged", "two")
    assert "metrics.json cannot be read" in damaged.problem
    assert made.differences["train.epochs"] == [
        None if r is damaged else r.settings["train.epochs"] for r in made.runs
    ]
    result = cli("runs", tmp_path / "runs")
    assert result.exit_code == 0 and "metrics.json cannot be read" in result.stdout


def test_a_spec_that_was_changed_since_is_not_told_as_what_was_trained(runs, tmp_path, cli):
    copy = tmp_path / "edited"
    shutil.copytree(runs / "two", copy)
    (copy / "spec.yaml").write_text((copy / "spec.yaml").read_text().replace("lr: 0.", "lr: 0.5"))
    made = cli("compare", runs / "two", copy)
    assert "is not what was trained" in made.stdout and "What differs" not in made.stdout
    assert "are the same" not in made.stdout


def test_names_are_short(runs):
    made = nifbuild.list_runs(runs)
    assert set(labels(made.runs)) == {"two", "study/faster", "stopped"}
    assert labels(made.runs[:1]) == [made.runs[0].path.name]


def test_tables(runs, cli, monkeypatch):
    monkeypatch.setenv("COLUMNS", "140")
    assert "what differs:" not in cli("runs", runs).stdout  # but in a column
    monkeypatch.setenv("COLUMNS", "80")
    table = cli("runs", runs).stdout
    assert "what differs:" in table
    assert f"{figures(runs / 'two')['top1']:.2%}" in table
    assert "1/2 stopped" in table and "1 dropout" in table
    # Figures on validation, of a run that goes on, are no figures on test.
    assert {"split", "validation", "test"} <= set(table.split())
    monkeypatch.setenv("COLUMNS", "60")
    names = [line.split()[0] for line in cli("runs", runs).stdout.splitlines()[2:6]]
    assert {"stopped", "two", "study/f", "aster"} == set(names)
    monkeypatch.setenv("COLUMNS", "80")
    # Two of the three runs agree: what they have is told once.
    assert table.count("optimizer.lr=0.02") == table.count("optimizer.lr=0.01") == 1
    assert "where a run says nothing else: " in table
    compared = cli("compare", runs / "two", runs / "study" / "faster").stdout
    assert "train.optimizer.lr" in compared and "top-1 on test" in compared
    assert json.loads(cli("runs", runs, "--json").stdout)["runs"][0]["name"] == "tiny"
    same = cli("compare", runs / "two", runs / "stopped").stdout
    assert "their specs are the same, written out" in same


def test_what_only_some_runs_have_is_told_of_them(runs):
    """A setting that one run alone is without says nothing about the others."""
    paths = {"two": {"a": 1, "b.c": 2}, "faster": {"a": 1, "b.c": 3}, "stopped": {"b.c": 2}}
    made = SideBySide.of(
        [Recorded(runs / name, name, "complete", settings=s) for name, s in paths.items()]
    )
    assert told_by_run(made) == ([[], ["b.c=3"], []], ["b.c=2"])
    made = SideBySide.of(list(made.runs[:2]))
    assert told_by_run(made) == ([["b.c=2"], ["b.c=3"]], [])


@pytest.mark.parametrize("ending", [".html", ".png", ".svg", ".pdf"])
def test_files(runs, tmp_path, cli, ending):
    out = tmp_path / f"compared{ending}"
    paths = [runs / "two", runs / "study" / "faster", runs / "stopped"]
    assert f"wrote {out}" in cli("compare", *paths, "--out", out).stderr
    assert out.stat().st_size > 1000
    with pytest.raises(SpecError, match="exists"):
        nifbuild.compare_runs(paths, out=out)
    nifbuild.compare_runs(paths[:1], out=out, overwrite=True)
    if ending == ".html":
        page = out.read_text()
        assert "data:image/png;base64," in page and "made by nifbuild" in page
        assert f"{figures(runs / 'two')['top1']:.2%}" in page


def test_curves_are_those_of_the_lines(runs):
    from nifbuild.report.side_by_side.curves import plot_curves

    made = nifbuild.compare_runs([runs / "two", runs / "study" / "faster"])
    loss, top1, rate = plot_curves(made.runs, labels(made.runs)).axes
    for place, path in enumerate((runs / "two", runs / "study" / "faster")):
        lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
        drawn = loss.lines[2 * place : 2 * place + 2]
        assert [list(line.get_ydata()) for line in drawn] == [
            [line["loss"] for line in lines],
            [line["train_loss"] for line in lines],
        ]
        assert list(top1.lines[2 * place].get_ydata()) == [100 * line["top1"] for line in lines]
        assert list(rate.lines[place].get_ydata()) == [line["lr"] for line in lines]


def recorded_lines(name, split, epochs):
    """A run with these lines of `metrics.jsonl`."""
    lines = [
        {"epoch": e, "split": split, "loss": 1 / e, "train_loss": 2 / e, "lr": 0.1}
        for e in range(1, epochs + 1)
    ]
    return Recorded(Path(name), name, "complete", epochs=tuple(lines))


def test_rates_that_are_the_same_are_all_seen():
    from nifbuild.report.side_by_side.curves import plot_curves

    runs = [
        recorded_lines(name, "test", epochs)
        for name, epochs in zip("abcd", (3, 2, 3, 3), strict=True)
    ]
    widths = [line.get_linewidth() for line in plot_curves(runs, "abcd").axes[2].lines]
    assert widths[0] > widths[2] > widths[3] == widths[1]


@pytest.mark.parametrize("epochs", [1, 3, 30])
def test_images_of_each_kind_are_told_apart(epochs):
    from nifbuild.report.side_by_side.curves import plot_curves

    runs = [recorded_lines(split, split, epochs) for split in ("validation", "test")]
    figure = plot_curves(runs, ["a", "b"])
    FigureCanvasAgg(figure).draw()
    loss = figure.axes[0]
    (validation, training, test, other_training) = loss.lines[:4]
    looks = [(line.get_linestyle(), line.get_marker()) for line in (validation, training, test)]
    assert len({line for line, _ in looks}) == len({marker for _, marker in looks}) == 3
    assert other_training.get_linestyle() == training.get_linestyle()
    (legend,) = figure.legends
    shown = {
        text.get_text(): (handle.get_linestyle(), handle.get_marker())
        for text, handle in zip(legend.get_texts(), legend.get_lines(), strict=True)
    }
    assert list(shown) == ["a", "b", "validation", "test", "training"]
    assert [shown[name] for name in ("validation", "training", "test")] == looks
    low, high = loss.get_xlim()
    ticks = [tick for tick in loss.get_xticks() if low <= tick <= high]
    assert ticks and all(tick == round(tick) for tick in ticks)


def test_the_legend_says_which_run_has_no_curve():
    from nifbuild.report.side_by_side.curves import plot_curves

    runs = [recorded_lines("run", "test", 2), Recorded(Path("cut"), "cut", "complete")]
    for shown, names in ((runs, ["run", "cut"]), (runs[1:], ["cut"])):
        (legend,) = plot_curves(shown, names).legends
        texts = [text.get_text() for text in legend.get_texts()]
        assert "cut: no epochs, so no curve" in texts and "validation" not in texts
        assert ("run" in texts) == ("training" in texts) == (len(shown) == 2)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("runs", "nowhere"), "there is no folder nowhere"),
        (("runs", "tow"), "there is no folder tow\n  did you mean 'two'?"),
        (("runs", "two/spec.yaml"), "two/spec.yaml is a file, not a folder"),
        (("runs", "."), "there is no run in ."),
        (("compare", "nowhere"), "nowhere does not exist"),
        (("compare", "two", "two"), "two is named twice"),
        (("compare", "two", "-o", "x.gif"), "names no known format"),
    ],
)
def test_wrong_input(runs, tmp_path, monkeypatch, cli, arguments, told):
    shutil.copytree(runs / "two", tmp_path / "two")
    if arguments[-1] == ".":
        shutil.rmtree(tmp_path / "two")
    monkeypatch.chdir(tmp_path)
    result = cli(*arguments)
    assert result.exit_code == 2 and told in result.stderr


def test_a_folder_that_cannot_be_read_is_told(runs, tmp_path):
    (tmp_path / "closed").mkdir(mode=0)
    try:
        if list((tmp_path / "closed").iterdir()) == []:
            pytest.skip("this user may read everything")
    except PermissionError:
        with pytest.raises(RunError, match="closed cannot be read"):
            nifbuild.list_runs(tmp_path)
