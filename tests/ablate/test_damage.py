"""What does not count: damaged figures, and those of other code, data, specs or cells."""

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import nifbuild
from nifbuild.ablate.cells import Origin, Store
from nifbuild.ablate.collect import damage_of
from nifbuild.ablate.origins import computes_figures
from tests.ablate.conftest import (
    STUDY,
    ablate,
    document,
    done_cells,
    forget_looks,
    result_of,
    write_study,
)
from tests.test_floors import imports

PACKAGE = Path(nifbuild.__file__).parent


@pytest.fixture
def store(finished, tmp_path):
    """A copy of a study that has run, without the variant that failed."""
    study = write_study(tmp_path)
    shutil.copytree(finished[1], tmp_path / "cells")
    forget_looks(tmp_path / "cells")
    return study, tmp_path / "cells"


def edited(path, **changes):
    """Writes a JSON file again with some values changed."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def set_text(text):
    return lambda cell: (cell.path / "result.json").write_bytes(text)


def set_value(name, value):
    return lambda cell: edited(cell.path / "result.json", **{name: value})


def make_folder(cell):
    (cell.path / "result.json").unlink()
    (cell.path / "result.json").mkdir()


def change_weights(cell):
    (path,) = (cell.run / "checkpoints").glob("step_00000008/model.safetensors")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (set_value("top1", "0.9"), "result.json: top1: "),
        (set_value("top1", 9.0), "result.json: top1: "),
        (set_value("top1", -0.1), "result.json: top1: "),
        (set_value("top1", True), "result.json: top1: "),
        (set_value("loss", float("nan")), "result.json: loss: "),
        (set_value("loss", float("inf")), "result.json: loss: "),
        (set_value("effective_size", float("-inf")), "result.json: effective_size: "),
        (set_value("num_samples", 0), "result.json: num_samples: "),
        (set_value("seconds", 1e300), "result.json: seconds: "),
        (set_value("environment", {"started": "yesterday"}), "result.json: environment."),
        (set_value("top1", 0.5), "result.json and run/metrics.json differ"),
        (set_value("spec_hash", "0"), "the result of another cell"),
        (set_value("origin", {}), "the result of another cell"),
        (set_text(b"{}"), "Field required"),
        (set_text(b"[" * 100_000), "result.json: "),
        (set_text(b'{"top1'), "result.json: "),
        (set_text(b"\xff\xfe"), "result.json: "),
        (set_text(b""), "result.json: "),
        (make_folder, "result.json: it is a folder"),
        (change_weights, "not the one that was evaluated"),
        (lambda cell: edited(cell.run / "metrics.json", loss=0.5), "metrics.json differ"),
        (lambda cell: (cell.run / "metrics.json").write_text("{}"), "metrics.json cannot be read"),
    ],
)
def test_damage_is_seen(store, damage, words):
    cell = done_cells(store[1])[0]
    assert damage_of(cell) is None
    damage(cell)
    assert words in damage_of(cell)


def test_what_was_left_out_to_save_room_is_no_damage(store):
    cell = done_cells(store[1])[0]
    shutil.rmtree(cell.run / "checkpoints")
    assert damage_of(cell) is None
    shutil.rmtree(cell.run)
    assert damage_of(cell) is None


def test_results_without_a_run_beside_them_count_and_are_told(store):
    study, folder = store
    one, other, *_ = done_cells(folder)
    shutil.rmtree(one.run)
    warning = "1 result has no run/metrics.json beside it, so that it was not checked"
    for command in ("plan", "gate", "report"):
        assert document(command, study, "--dir", folder)["warnings"] == [warning]
    (other.run / "metrics.json").unlink()
    set_value("top1", 0.5)(other)
    warning = "2 results have no run/metrics.json beside them, so that they were not checked"
    for command in ("plan", "gate", "report"):
        assert " ".join(warning.split()) in " ".join(
            ablate(command, study, "--dir", folder).output.split()
        )
    assert document("report", study, "--dir", folder)["done"] == 4


def test_damaged_cells_are_told_never_counted_and_run_again(store):
    study, folder = store
    cells = done_cells(folder)
    before = [cell.result() for cell in cells]
    for cell, damage in zip(
        cells,
        (set_value("top1", 9.0), make_folder, change_weights, set_text(b"[" * 100_000)),
        strict=True,
    ):
        damage(cell)
    plan = document("plan", study, "--dir", folder)
    assert [set(v["seeds"].values()) for v in plan["variants"]] == [{"damaged"}] * 2
    assert len(plan["warnings"]) == plan["remaining"] == 4
    report = document("report", study, "--dir", folder, "--out", study.parent / "out")
    assert report["done"] == 0 and all("is damaged: " in text for text in report["warnings"])
    assert "is damaged: " in (study.parent / "out" / "report.md").read_text()
    gate = ablate("gate", study, "--dir", folder)
    assert gate.exit_code == 3 and "those of the variant are damaged" in gate.stdout
    done = ablate("run", study, "--dir", folder, "--workers", 2)
    assert done.exit_code == 0, done.output
    assert "4 cells done, 0 of them before" in done.stdout
    assert done.stdout.count("damaged, and run again: ") == 4
    assert done.stderr.count("is damaged: ") == 4
    varying = ("seconds", "environment")
    for cell, result in zip(cells, before, strict=True):
        assert cell.result() | {name: result[name] for name in varying} == result
        assert (cell.path / "result.json.damaged").exists()
    # Only what was trained with other weights is trained again.
    assert [(cell.path / "run.damaged").exists() for cell in cells] == [False, False, True, False]
    assert ablate("gate", study, "--dir", folder).exit_code == 0


def test_cells_that_do_not_say_what_they_are(store):
    study, folder = store
    cells = done_cells(folder)
    for cell, text in zip(cells, ("{}", "[1]", "{", '{"spec_hash": "1"}'), strict=True):
        (cell.path / "cell.json").write_text(text)
    report = document("report", study, "--dir", folder)
    assert report["done"] == 0
    assert sum("does not say what cell it is" in text for text in report["warnings"]) == 4
    # Running says it again; the figures say themselves what they are of.
    said = document("run", study, "--dir", folder, "-q")
    assert len(said["found"]) == 4
    assert document("report", study, "--dir", folder)["done"] == 4


def test_copies_and_results_of_other_cells_are_none(store):
    study, folder = store
    one, *others = done_cells(folder)
    shutil.copytree(one.path, f"{one.path}.bak")
    shutil.copytree(one.path, one.path.with_name("0" * 16))
    shutil.copy(one.path / "result.json", others[0].path / "result.json")
    report = document("report", study, "--dir", folder)
    assert report["done"] == 3 and report["left_out"] == 0
    damaged, nameless = report["warnings"]
    assert "it is the result of another cell" in damaged
    assert "0000000000000000 does not say what cell it is" in nameless


def of_other(folder, **origin):
    """Has all cells be of another origin."""
    for cell in list(Store(folder).cells()):
        found = json.loads((cell.path / "cell.json").read_text())
        found["origin"] |= origin
        (cell.path / "cell.json").write_text(json.dumps(found))
        if cell.has_result:
            edited(cell.path / "result.json", origin=found["origin"])
        key = Origin(**found["origin"]).key(found["spec_hash"])
        cell.path.rename(cell.path.with_name(key))


@pytest.mark.parametrize(
    ("origin", "words"),
    [
        ({"code": "other"}, "of other code of nifbuild"),
        ({"nifbuild": "0.0.1"}, "of nifbuild 0.0.1"),
        ({"torch": "1.0"}, "of torch 1.0"),
        ({"data": "other"}, "of other data"),
        ({"init": "other", "torch": "1.0"}, "from other initial weights, of torch 1.0"),
    ],
)
def test_results_of_something_else_are_stale(store, origin, words):
    study, folder = store
    of_other(folder, **origin)
    warning = f"4 results are stale, being {words}: not counted"
    report = document("report", study, "--dir", folder)
    assert (report["done"], report["left_out"], report["warnings"]) == (0, 4, [warning])
    assert warning in (folder / "report" / "report.md").read_text()


def test_stale_cells_are_trained_anew(store):
    study, folder = store
    of_other(folder, code="other")
    plan = document("plan", study, "--dir", folder)
    assert [set(v["seeds"].values()) for v in plan["variants"]] == [{"stale"}] * 2
    gate = ablate("gate", study, "--dir", folder)
    assert gate.exit_code == 3 and "4 results are stale" in gate.stdout
    assert "those of the variant are stale" in gate.stdout
    done = ablate("run", study, "--dir", folder, "--workers", 2)
    assert "4 cells done, 0 of them before" in done.stdout
    assert "4 results are stale, being of other code of nifbuild" in done.stderr
    report = document("report", study, "--dir", folder)
    assert report["done"] == report["left_out"] == 4
    assert ablate("gate", study, "--dir", folder).exit_code == 0


def test_cells_of_versions_without_a_fingerprint_of_code_are_stale(store):
    study, folder = store
    for cell in done_cells(folder):
        origin = json.loads((cell.path / "cell.json").read_text())["origin"]
        del origin["code"]
        edited(cell.path / "cell.json", origin=origin)
    report = document("report", study, "--dir", folder)
    assert report["warnings"] == [
        "4 results are stale, being of another version of nifbuild: not counted"
    ]


def test_changed_data_is_seen_where_it_is_at_hand(tmp_path, monkeypatch):
    """Without it, results of one and the same data count, and the report says so."""
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    for index in range(40):
        folder = tmp_path / "images" / "ab"[index % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), index * 6).save(folder / f"{index}.png")
    data = "data: {source: imagefolder, path: images, validation: 0, test: 0.5}"
    study = write_study(tmp_path, STUDY.replace("seeds: [0, 1]", "seeds: [0]"))
    base = (tmp_path / "tiny.yaml").read_text()
    start = base.index("data:")
    base = base[:start] + data + base[base.index("\n", start) :]
    (tmp_path / "tiny.yaml").write_text(base.replace(", num_classes: 10", ", num_classes: 2"))
    done = document("run", study, "--dir", tmp_path / "cells", "-q")
    assert len(done["done"]) == 2, done
    before = document("report", study, "--dir", "cells")
    assert before["done"] == 2 and before["unknown_data"] is False
    (tmp_path / "images").rename(tmp_path / "elsewhere")
    without = document("report", study, "--dir", "cells")
    assert without["done"] == 2 and without["unknown_data"] is True
    assert "whether it has changed" in (tmp_path / "cells" / "report" / "report.md").read_text()
    (tmp_path / "elsewhere").rename(tmp_path / "images")
    Image.new("L", (8, 8), 255).save(tmp_path / "images" / "a" / "0.png")
    after = document("report", study, "--dir", "cells")
    assert after["done"] == 0
    assert after["warnings"] == ["2 results are stale, being of other data: not counted"]


def fingerprint(package):
    code = "from nifbuild.ablate.origins import code_fingerprint as f; print(f())"
    environment = {**os.environ, "PYTHONPATH": str(package.parent)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        cwd=package.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_code_that_figures_depend_on_is_told_from_code_that_shows_them(tmp_path):
    package = tmp_path / "nifbuild"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    found = [fingerprint(package)]
    for name in ("cli/app.py", "report/diff.py", "ablate/comment.py"):
        (package / name).write_text((package / name).read_text() + "# more\n")
    assert fingerprint(package) == found[0]
    for name in ("nn/fourier.py", "ablate/worker.py", "report/filter_windows.py"):
        (package / name).write_text((package / name).read_text() + "# more\n")
        found.append(fingerprint(package))
    assert len(set(found)) == 4


def test_all_that_a_cell_runs_is_code_that_figures_depend_on():
    """But for what starts cells and writes down files, such as the card of what was trained."""
    card = "report/model_card.py"
    seen, left = {card}, ["ablate/worker.py"]
    while left:
        module = left.pop()
        seen.add(module)
        for name, _ in imports(ast.parse((PACKAGE / module).read_text())):
            path = name.removeprefix("nifbuild.").replace(".", "/")
            for file in (f"{path}.py", f"{path}/__init__.py"):
                if name.startswith("nifbuild.") and (PACKAGE / file).is_file() and file not in seen:
                    left.append(file)
    assert {"train/loop.py", "nn/fourier.py", "report/filter_windows.py"} < seen
    shown = {module for module in seen if not computes_figures(module)}
    assert all(
        module.startswith("ablate/") or module in ("report/__init__.py", card) for module in shown
    )


def test_a_study_whose_seeds_change_after_results_were_shown(store):
    study, folder = store
    assert ablate("gate", study, "--dir", folder).exit_code == 0
    assert ablate("gate", study, "--dir", folder).exit_code == 0
    text = STUDY.replace("seeds: [0, 1]", "seeds: [1, 0]")
    assert ablate("gate", write_study(study.parent, text), "--dir", folder).exit_code == 0
    (folder / "looks.json").write_text(
        (folder / "looks.json").read_text().replace('"seeds": [', '"seeds": [2,')
    )
    done = ablate("gate", study, "--dir", folder)
    assert (
        done.exit_code == 3 and "when seeds 0, 1, 2 were planned, and seeds 0, 1 are" in done.stdout
    )
    (folder / "looks.json").write_text("{}")
    done = ablate("gate", study, "--dir", folder)
    assert done.exit_code == 1 and "looks.json is damaged: looks: Field required" in done.stderr


def test_looks_that_are_gone_after_a_report_are_damaged_ones(store):
    study, folder = store
    assert ablate("gate", study, "--dir", folder).exit_code == 0
    (folder / "looks.json").unlink()
    assert ablate("gate", study, "--dir", folder).exit_code == 0  # nobody can know
    assert ablate("report", study, "--dir", folder).exit_code == 0
    (folder / "looks.json").unlink()
    for command in ("gate", "report", "plan"):
        done = ablate(command, study, "--dir", folder)
        assert done.exit_code == 1 and "looks.json is damaged: it is gone, and " in done.stderr
        assert "nobody knows which seeds were planned when" in done.stderr
    report = folder / "report" / "report.json"
    edited(report, done=0)  # one of a study that had not been run yet
    assert ablate("gate", study, "--dir", folder).exit_code == 0


def test_a_result_that_is_none_fails_its_cell(tmp_path):
    from nifbuild.errors import RunError

    cell = Store(tmp_path).cell("0" * 16)
    with pytest.raises(RunError, match=r"what was found is no result: loss: .*finite"):
        cell.finish(result_of(loss=float("nan")))
    assert not cell.has_result
