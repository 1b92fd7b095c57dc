"""What a report looks like: Markdown, JSON, JUnit XML, plots, tables."""

import base64
import errno
import json
import re
import shutil
import tempfile
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from matplotlib.text import Text
from scipy import stats

from nifbuild.ablate.accuracy_plots import QUESTIONS, plot
from nifbuild.ablate.comment import report_markdown
from nifbuild.ablate.gate import GateResult
from nifbuild.ablate.junit import junit_xml
from nifbuild.ablate.power import GatePower
from nifbuild.ablate.report_page import report_html
from nifbuild.ablate.results import Failed, Results, load_results
from nifbuild.ablate.statistics import judge
from nifbuild.ablate.study_tables import accuracy_text, difference_text, results_grid
from nifbuild.spec.ablation import load_study
from nifbuild.spec.gates import GateSpec
from tests.ablate.conftest import STUDY, ablate, document, forget_looks, write_study
from tests.ablate.test_gate import LOWER, STANDARD, results


def with_sizes(found, size):
    """The results, as of filters of some size."""
    variants = []
    for index, variant in enumerate(found.variants):
        extra = {"effective_size": size, "effective_size_at_init": 7} if index else {}
        each = {s: {**r, **extra} for s, r in variant.results.items()}
        variants.append(replace(variant, results=each))
    return replace(found, variants=tuple(variants))


@pytest.fixture
def found():
    failed = (
        Failed(2, "no <memory> | left\n  make room", "cells/x/log.txt", "bad\x1b[0m\n```\nlines"),
    )
    return with_sizes(results(STANDARD, {0: 0.89, 1: 0.91}, failed=failed), 5)


def test_report_writes_all_forms(finished, tmp_path):
    study, folder, _ = finished
    done = ablate("report", study, "--dir", folder, "--out", tmp_path)
    assert done.exit_code == 0, done.output
    assert "failed: filters=broken, seed 0: bn2.running_var: the loss is nan" in done.stdout
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {
        "report.md",
        "report.html",
        "report.json",
        "junit.xml",
        *(q.file for q in QUESTIONS),
    }
    read = json.loads((tmp_path / "report.json").read_text())
    assert read == document("report", study, "--dir", folder)
    assert read["verdict"] == "inconclusive" and (read["done"], read["total"]) == (4, 6)
    printed = ablate("report", study, "--dir", folder, "--markdown").stdout
    assert printed == (tmp_path / "report.md").read_text()
    assert (folder / "report" / "report.md").read_text() == printed
    again = json.loads(json.dumps(load_results(tmp_path).document()))
    beside = ("generator", "verdict", "gates", "seal")
    assert again == {k: v for k, v in read.items() if k not in beside}


def test_a_report_replaces_reports_alone(finished, tmp_path):
    study, folder, _ = finished
    words = ("report", study, "--dir", folder, "--out", tmp_path)
    assert ablate(*words).exit_code == 0
    (tmp_path / "notes.md").write_text("mine")
    done = ablate(*words)
    assert done.exit_code == 2 and "add --overwrite" in done.stderr
    assert ablate(*words, "--overwrite").exit_code == 0
    (tmp_path / "junit.xml").write_text("mine")
    done = ablate(*words, "--overwrite")
    assert done.exit_code == 2 and "junit.xml in " in done.stderr
    assert (tmp_path / "junit.xml").read_text() == (tmp_path / "notes.md").read_text() == "mine"


def test_texts_that_were_changed_stay(finished, tmp_path):
    study = finished[0]
    shutil.copytree(finished[1], tmp_path / "cells", ignore=shutil.ignore_patterns("report"))
    folder, words = tmp_path / "cells" / "report", ("report", study, "--dir", tmp_path / "cells")
    for _ in range(2):  # what nobody has changed is replaced without a word
        done = ablate(*words)
        assert done.exit_code == 0 and "warning" not in done.stderr
    texts = {
        name: (folder / name).read_text() for name in ("report.md", "report.html", "junit.xml")
    }
    ElementTree.fromstring(texts["junit.xml"])
    mine = {name: f"{text.rstrip()}\nmine\n" for name, text in texts.items()}
    for name, text in mine.items():
        (folder / name).write_text(text)
    (folder / "report.json").unlink()
    done = ablate(*words)
    assert done.exit_code == 0
    for name, text in mine.items():
        assert (folder / name).read_text() == text
        warning = f"{folder / name} was not made by nifbuild, or was changed: it stays"
        assert f"warning: {warning}; --overwrite replaces it" in done.stderr
        assert name not in done.stdout.rpartition("written to")[2].rpartition(": ")[2]
    assert (folder / "report.json").exists()
    done = ablate(*words, "--overwrite")
    assert done.exit_code == 0 and "warning" not in done.stderr
    assert {name: (folder / name).read_text() for name in texts} == texts


def test_a_study_that_can_only_be_read(finished, monkeypatch):
    def refuse(*arguments, **options):
        raise OSError(errno.EROFS, "Read-only file system")

    study, folder, _ = finished
    before = (folder / "report" / "report.md").stat() if (folder / "report").exists() else None
    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    done = ablate("report", study, "--dir", folder)
    assert done.exit_code == 0 and "failed: filters=broken" in done.stdout
    assert "warning: cannot write to" in done.stderr and "written to" not in done.stdout
    after = (folder / "report" / "report.md").stat() if before else None
    assert after == before
    done = ablate("report", study, "--dir", folder, "--out", folder / "elsewhere")
    assert done.exit_code == 2 and "Read-only file system" in done.stderr


def test_nothing_run_yet(tmp_path):
    study = write_study(tmp_path)
    (tmp_path / "cells").mkdir()  # a folder that is not there would be taken for a misspelt one
    said = document("report", study, "--dir", tmp_path / "cells", "--out", tmp_path / "out")
    assert said["verdict"] == "inconclusive" and said["done"] == 0
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "report.md",
        "report.html",
        "report.json",
        "junit.xml",
    }


def test_markdown_says_the_verdict_first(found):
    gate = GateSpec(metric="params", max="1M")
    gates = [
        GateResult(gate, {"filters": "implicit"}, "filters=implicit", "fail", "2 M (2,000,000)"),
        GateResult(gate, {"filters": "standard"}, "filters=standard", "pass", "1"),
    ]
    text = report_markdown(found, gates)
    head, status, unsettled, table, *folded = text.split("\n\n")
    assert head == "## Ablation study: fails"
    assert status == "1 of 2 checks pass, 1 fail; 5 of 6 cells done, 1 failed."
    assert unsettled == "- **fail**: params at most 1M, filters=implicit: 2 M (2,000,000)"
    rows = [line.count("|") for line in table.splitlines()]
    assert len(set(rows)) == 1 and len(rows) == 4
    rest = "\n\n".join(folded)
    assert rest.count("<details>") == rest.count("</details>") == 3
    assert "no &lt;memory> \\| left" in rest and "````\nbad" in rest
    assert "Before training: filters=implicit: 7 px." in rest
    assert report_markdown(found, []).startswith("## Ablation study: incomplete")


def test_figures_of_the_table(found):
    standard, implicit = found.variants
    # By hand: 90, 92, 97 have the mean 93 and the variance (9 + 1 + 16) / 2.
    assert accuracy_text(standard) == "93.00 ± 3.61 (3)"
    assert accuracy_text(implicit) == "90.00 ± 1.41 (2, 1 failed)"
    # -1 and -1: two equal differences.
    assert difference_text(found, implicit) == "-1.00 [-1.0, -1.0]"
    assert difference_text(found, standard) == "-"
    lower = results(STANDARD, LOWER)
    # -1, -2, -3: 2 -+ 4.3027 / sqrt(3).
    assert difference_text(lower, lower.variants[1]) == "-2.00 [-4.5, +0.5]"
    assert "train peak" in results_grid(found, 120).headings
    assert "train peak" not in results_grid(found, 80).headings


def test_junit(found):
    gate = GateSpec(metric="top1", min="90%")
    gates = [
        GateResult(gate, {}, "a", "pass", ""),
        GateResult(gate, {}, "b", "fail", "too low"),
        GateResult(gate, {}, "c", "inconclusive", "2 more seeds"),
    ]
    root = ElementTree.fromstring(junit_xml(found, gates))
    (suite,) = root
    assert root.attrib == {"tests": "4", "failures": "2", "errors": "1"}
    outcomes = [[child.tag for child in case] for case in suite]
    assert outcomes == [[], ["failure"], ["error"], ["failure", "system-out"]]
    assert suite[2][0].attrib == {"type": "inconclusive", "message": "2 more seeds"}
    assert suite[3].get("name") == "filters=implicit, seed 2"
    assert "\x1b" not in suite[3][1].text


def _texts(figure):
    figure.draw_without_rendering()
    # Without the lines that lead from names to their points.
    return {t.get_text(): Text.get_window_extent(t) for t in figure.axes[0].texts}


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.file)
def test_plots_name_every_variant(found, question):
    figure = plot(found, question)
    (axes,) = figure.axes
    assert set(_texts(figure)) == {"standard", "implicit"}
    assert axes.get_title() and axes.get_xlabel()
    assert axes.get_ylabel() == "top-1 accuracy (%), mean ± std, up to 3 seeds"
    across = [line for line in axes.lines if line.get_linestyle() == "--"]
    assert len(across) == (question.file == "top1_filter_size.png")
    shown = [bars for bars in axes.containers if bars.has_yerr]
    standard = next(iter(shown)) if not across else None
    if standard is not None:
        assert standard.lines[0].get_ydata()[0] == pytest.approx(93)
        low, high = standard.lines[2][-1].get_segments()[0][:, 1]
        assert (low, high) == pytest.approx((93 - 13**0.5, 93 + 13**0.5))


def test_names_in_plots_do_not_overlap():
    """Eight variants in nearly one place."""
    variants = [
        replace(
            with_sizes(results(STANDARD, LOWER), 5).variants[0],
            labels={"filters": f"variant number {i}"},
            costs={"params": 1000 + i},
        )
        for i in range(8)
    ]
    figure = plot(Results("s", ("filters",), tuple(variants), (0, 1, 2)), QUESTIONS[0])
    boxes = list(_texts(figure).values())
    frame = figure.axes[0].bbox
    for index, box in enumerate(boxes):
        assert frame.x0 <= box.x0 and box.x1 <= frame.x1
        assert not any(box.overlaps(other) for other in boxes[:index])
    assert len(boxes) == 8


def test_names_keep_clear_of_bars():
    """Error bars on both sides of a line across, where its name would begin."""
    (variant,) = with_sizes(results(STANDARD, LOWER), 5).variants[:1]
    variants = [replace(variant, labels={"filters": "a line across"})]
    for index, sizes in enumerate(([3, 41, 81], [5, 43, 79])):
        each = {
            seed: {**result, "effective_size": size, "top1": result["top1"] + 0.01 * index}
            for (seed, result), size in zip(variant.results.items(), sizes, strict=True)
        }
        variants.append(replace(variant, labels={"filters": f"bar {index}"}, results=each))
    figure = plot(Results("s", ("filters",), tuple(variants), (0, 1, 2)), QUESTIONS[2])
    axes = figure.axes[0]
    bars = [
        axes.transData.transform_bbox(path.get_extents()).padded(1)
        for collection in axes.collections
        for path in collection.get_paths()
    ]
    names = _texts(figure)
    assert len(names) == 3 and len(bars) == 4
    for name, box in names.items():
        assert not any(box.overlaps(bar) for bar in bars), name


def of_sizes(*sizes):
    """Results of variants with these sizes of each seed."""
    (variant,) = with_sizes(results(STANDARD, LOWER), 5).variants[:1]
    variants = []
    for index, each in enumerate(sizes):
        found = {seed: {**variant.results[seed], "effective_size": each[seed]} for seed in range(3)}
        variants.append(replace(variant, labels={"filters": f"variant {index}"}, results=found))
    return Results("s", ("filters",), tuple(variants), (0, 1, 2))


@pytest.mark.parametrize(
    ("sizes", "ticks"),
    [
        (([5, 5, 5], [5, 5, 5]), [5]),
        (([5, 5, 6], [5, 5, 6]), [5, 7]),
        (([3, 3, 3], [15, 15, 15]), [1, 5, 9, 13, 17]),
        (([3, 3, 3], [81, 81, 81]), [3, 5, 11, 21, 51, 101]),
    ],
)
def test_sizes_of_windows_are_odd(sizes, ticks):
    axes = plot(of_sizes(*sizes), QUESTIONS[2]).axes[0]
    assert axes.get_xticks().tolist() == ticks
    assert [label.get_text() for label in axes.get_xticklabels()] == list(map(str, ticks))


def test_bars_of_variants_with_one_size_stand_beside_each_other():
    axes = plot(of_sizes([5, 5, 5], [7, 7, 7], [5, 5, 5]), QUESTIONS[2]).axes[0]
    axes.figure.draw_without_rendering()
    marks = [bars.lines[0] for bars in axes.containers]
    assert [mark.get_xdata()[0] for mark in marks] == [5, 7, 5]  # drawn apart, not changed
    seen = [mark.get_transform().transform((mark.get_xdata()[0], 93))[0] for mark in marks]
    five, seven = (axes.transData.transform((size, 93))[0] for size in (5, 7))
    assert seen[1] == pytest.approx(seven) and seen[2] - seen[0] > marks[0].get_markersize()
    assert (seen[0] + seen[2]) / 2 == pytest.approx(five)
    told = "\nmarks of equal value are drawn side by side"
    assert axes.get_xlabel().endswith(told)
    assert told not in plot(of_sizes([5, 5, 5], [7, 7, 7]), QUESTIONS[2]).axes[0].get_xlabel()


def test_values_far_apart_get_a_logarithmic_axis(found):
    wide = replace(found.variants[0], costs={**found.variants[0].costs, "params": 10**7})
    figure = plot(replace(found, variants=(wide, found.variants[1])), QUESTIONS[0])
    assert figure.axes[0].get_xscale() == "log"
    figure.draw_without_rendering()
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert {"1 k", "1 M"} & set(labels)
    assert plot(found, QUESTIONS[0]).axes[0].get_xscale() == "linear"


def test_plan_counts_work_by_hand(tmp_path):
    study = write_study(tmp_path, STUDY.replace("[0, 1]", "[0, 1, 2]"))
    plan = document("plan", study)
    first = plan["variants"][0]
    # 4 filters of 9 taps on 64 pixels; 4 x 4 of them; and the classifier.
    assert first["costs"]["macs"] == 64 * 4 * 9 + 64 * 4 * 4 * 9 + 4 * 10
    assert first["train_macs"] == first["costs"]["macs"] * 64 * 2
    assert plan["cells"] == plan["remaining"] == 6 and plan["remaining_seconds"] is None
    assert plan["remaining_macs"] == 3 * sum(v["train_macs"] for v in plan["variants"])
    assert re.search(r"filters +params +MACs", ablate("plan", study).stdout)


def test_plan_says_how_many_seeds_it_takes(finished, tmp_path):
    folder = tmp_path / "cells"
    shutil.copytree(finished[1], folder)
    gates = """gates:
  - {metric: top1, versus: baseline, margin: -20pp, spread: 10pp}
  - {metric: loss, versus: baseline, margin: 0.01}
  - {metric: loss, versus: main, margin: -0.01}
  - {metric: effective_size, max: 90}
"""
    study = write_study(tmp_path, STUDY[: STUDY.index("gates:")] + gates)
    told = {entry["gate"]: entry for entry in document("plan", study)["gates"]}
    assumed = told["top1 within -20pp of baseline"]
    assert (assumed["seeds"], assumed["needed"], assumed["spread"]) == (2, 4, 0.1)
    assert stats.nct.sf(stats.t.ppf(0.95, 3), 3, 2 * 2) > 0.8
    assert stats.nct.sf(stats.t.ppf(0.95, 2), 2, 2 * 3**0.5) < 0.8
    assert told["loss within 0.01 of baseline"]["spread"] is None
    assert told["loss at least 0.01 below main"]["largest_spread"] is None
    assert told["effective_size at most 90"]["mean"] is None
    report = document("report", study, "--dir", folder, "--out", tmp_path / "out")
    told = {entry["gate"]: entry for entry in document("plan", study, "--dir", folder)["gates"]}
    losses = [[v["results"][s]["loss"] for s in "01"] for v in report["variants"]]
    spread = abs((losses[1][0] - losses[0][0]) - (losses[1][1] - losses[0][1])) / 2**0.5
    piloted = told["loss within 0.01 of baseline"]
    assert piloted["spread"] == pytest.approx(spread) and piloted["pilot_seeds"] == 2
    said = ablate("plan", study, "--dir", folder).stdout
    assert (
        "-20pp of baseline, filters=implicit: 2 seeds have a power of 80% if the truth is" in said
    )
    assert "with the 10pp assumed, their power is " in said and "and 4 seeds would have" in said
    assert "other than those, would have 80%" in said
    assert "no number of seeds shows it if the truth is +0" in said
    assert "effective_size at most 90: not for filters=standard" in said
    one = write_study(tmp_path, study.read_text().replace("[0, 1]", "[0]"))
    assert "it cannot pass with fewer than two" in ablate("plan", one).stdout


def test_why_a_small_spread_of_few_seeds_gives_less_power(tmp_path):
    variant = load_study(write_study(tmp_path)).variants[1]
    gate = GateSpec(metric="loss", versus="baseline", margin=0.01)
    told = GatePower(gate, variant, 5, 0.0, 0.005, 2)
    assert told.spread < told.largest_spread and told.power < 0.8
    assert ", as 2 seeds tell little of the true spread, and " in told.text()
    for other in (replace(told, spread=0.02), replace(told, pilot_seeds=None)):
        assert "tell little" not in other.text()


def test_few_test_images_leave_few_seeds_without_power(tmp_path):
    """What the gate will say of seeds that all agree: 2.015 x 5pp / sqrt(6) is more than 2pp."""
    gates = "gates:\n  - {metric: top1, versus: main, margin: -2pp}\n"
    text = STUDY[: STUDY.index("gates:")].replace("[0, 1]", "[0, 1, 2, 3, 4, 5]") + gates
    study = write_study(tmp_path, f"set: {{data.limit.test: 20}}\n{text}")
    assert {e["resolution"] for e in document("plan", study)["gates"]} == {1 / 20}
    said = " ".join(ablate("plan", study).stdout.split())
    assert "6 seeds cannot show it if the truth is +0.00pp, even if all agree" in said
    assert (
        "at least one image, 5pp. It takes at least 19 seeds, more images or a wider margin" in said
    )
    judged = judge([0.0] * 6, -0.02, at_least=True, confidence=0.95, resolution=1 / 20)
    assert judged.verdict == "inconclusive"
    judged = judge([0.0] * 19, -0.02, at_least=True, confidence=0.95, resolution=1 / 20)
    assert judged.verdict == "pass"


def test_plan_says_beforehand_which_seeds_gates_will_not_count(finished, tmp_path):
    folder = tmp_path / "cells"
    shutil.copytree(finished[1], folder)
    forget_looks(folder)
    study = write_study(tmp_path)
    assert document("plan", study, "--dir", folder)["warnings"] == []
    document("report", study, "--dir", folder, "--out", tmp_path / "out")
    assert document("plan", study, "--dir", folder)["warnings"] == []
    write_study(tmp_path, STUDY.replace("[0, 1]", "[0, 1, 2]"))
    (warning,) = document("plan", study, "--dir", folder)["warnings"]
    assert warning.startswith(
        "gates will not pass: results of these were shown when seeds 0, 1 were"
    )
    assert warning.endswith("plan seeds that are all new, as in `seeds: [3, 4, 5]`")
    assert warning in ablate("plan", study, "--dir", folder).stdout
    write_study(tmp_path, STUDY.replace("[0, 1]", "[3, 4, 5]"))
    (warning,) = document("plan", study, "--dir", folder)["warnings"]
    assert warning == "4 results are of specs or seeds that this study does not have: not counted"
    known = STUDY[: STUDY.index("gates:")].replace("[0, 1]", "[0, 1, 2]")
    write_study(tmp_path, known + "gates: [{metric: params, max: 1M}]\n")
    assert document("plan", study, "--dir", folder)["warnings"] == []


def test_plan_estimates_time_from_what_is_done(finished, tmp_path):
    folder = tmp_path / "cells"
    shutil.copytree(finished[1], folder)
    study = write_study(tmp_path, STUDY.replace("[0, 1]", "[0, 1, 2]"))
    plan = document("plan", study, "--dir", folder)
    report = document("report", study, "--dir", folder, "--out", tmp_path / "out")
    runs = [(v, r) for v in report["variants"] for r in v["results"].values()]
    macs = sum(v["costs"]["macs"] * 64 * 2 for v, _ in runs)
    speed = macs / sum(r["seconds"] for _, r in runs)
    assert plan["remaining"] == 2
    assert plan["remaining_seconds"] == pytest.approx(plan["remaining_macs"] / speed)
    assert (
        "at the speed of the cells that are done" in ablate("plan", study, "--dir", folder).stdout
    )


def test_the_page_holds_all_of_it(found):
    gate = GateSpec(metric="params", max="1M")
    gates = [GateResult(gate, {"filters": "implicit"}, "filters=implicit", "fail", "2 M <more>")]
    page = report_html(found, gates, {"top1_params.png": b"picture"})
    root = ElementTree.fromstring(re.sub(r"<(meta|img)([^>]*)>", r"<\1\2/>", page[15:]))
    texts = ["".join(cell.itertext()) for cell in root.iter("td")]
    for figure in ("93.00 ± 3.61 (3)", "90.00 ± 1.41 (2, 1 failed)", "fail", "2 M <more>"):
        assert figure in texts
    (image,) = root.iter("img")
    assert image.get("src") == "data:image/png;base64,cGljdHVyZQ=="
    (title,) = (heading.text for heading in root.iter("h1"))
    assert title == "Ablation study: fails"
    assert [h.text for h in root.iter("h2")] == [
        "Gates", "Accuracy and parameters", "Failed cells", "How this was measured"
    ]  # fmt: skip
    everything = "".join(root.itertext())
    assert "no <memory> | left" in everything and "\x1b" not in page and "```" in everything
    assert "<p>  make room</p>" in page and "left\\n" not in page
    assert "filters=implicit: 7 px" in everything and 'src="http' not in page


def test_a_page_is_written_with_the_plots_in_it(finished, tmp_path):
    study, folder, _ = finished
    assert ablate("report", study, "--dir", folder, "--out", tmp_path).exit_code == 0
    page = (tmp_path / "report.html").read_text()
    for question in QUESTIONS:
        picture = base64.b64encode((tmp_path / question.file).read_bytes()).decode()
        assert page.count(picture) == 1
    assert "filters=broken, seed 0" in page and "Ablation study: inconclusive" in page
