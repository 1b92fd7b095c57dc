"""`nifbuild analyze` on tiny runs."""

import json
import re
import resource
import shutil
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from PIL import Image
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from nifbuild.cli.analyze import analyze
from nifbuild.cli.output import guard
from nifbuild.errors import SpecError
from nifbuild.report.analysis.analysis import analyze_run
from nifbuild.spec.resolve import load_spec
from nifbuild.train.run import train_run

SPEC = """
version: 1
name: tiny
vars: {num_classes: 10}
input: {channels: 1, size: [8, 8]}
model:
  - {id: conv1, op: conv, out_channels: 6, kernel_size: 3, kind: implicit_frequency,
     mixing: depthwise}
  - {id: bn1, op: batch_norm}
  - relu
  - {id: conv2, op: conv, out_channels: 8, kernel_size: 3, stride: 2}
  - {id: conv3, op: conv, out_channels: 8, kernel_size: 3, kind: implicit_frequency}
  - {id: bn3, op: batch_norm}
  - relu
  - {id: pool, op: global_avg_pool}
  - {op: flatten}
  - {id: fc, op: linear, out_features: $num_classes}
data: {source: digits, limit: {train: 40, validation: 21, test: 17}}
train: {epochs: 2, batch_size: 8, optimizer: {lr: 0.01}, trackers: [], device: cpu}
"""
STILL = "train.optimizer.lr=1e-30"  # what training leaves as it was
FILES = {"analysis.json", "report.html"}
PLOTS = {"sizes", "mass", "energy", "spectra", "components", "gallery_01", "receptive_fields"}

Call = Callable[..., Any]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`learned`; `still`, the same without learning; and `ordinary`, without implicit filters."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "tiny.yaml").write_text(SPEC)
    ordinary = re.sub(r",\s*mixing: depthwise", "", SPEC).replace(", kind: implicit_frequency", "")
    (folder / "ordinary.yaml").write_text(ordinary)
    for name, spec, overrides in (
        ("learned", "tiny", ["train.epochs=4"]),
        ("still", "tiny", [STILL, "train.epochs=1"]),
        ("ordinary", "ordinary", ["train.epochs=1"]),
    ):
        train_run(load_spec(folder / f"{spec}.yaml", overrides=overrides), folder / name)
    return folder


@pytest.fixture(scope="module")
def call(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Call]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("here"))
        app = typer.Typer()
        app.command("analyze")(guard(analyze, lambda: False))
        yield lambda *arguments: CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def done(call: Call, runs: Path) -> Any:
    """The command's result, with `learned/analysis` written, beside the run that stood still."""
    found = call(runs / "learned", "--against", runs / "still", "--images", 5)
    assert found.exit_code == 0, found.output
    return found


@pytest.fixture
def document(done: Any, runs: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((runs / "learned/analysis/analysis.json").read_text())
    return found


def analysed(run: Path, **options: Any) -> dict[str, Any]:
    """The document, without the drawing."""
    return analyze_run(run, **options).document()


@pytest.fixture
def copied(runs: Path, tmp_path: Path) -> Path:
    """A run to damage."""
    return Path(shutil.copytree(runs / "learned", tmp_path / "copied"))


def test_images_of_a_folder_are_read_as_those_of_training_were(tmp_path):
    """Stretched to the nearest pixel, images with each column twice are those without."""
    generator = np.random.default_rng(0)
    for kind in "ab":
        for name in ("plain", "twice"):
            (tmp_path / name / kind).mkdir(parents=True)
        for i in range(6):
            pixels = generator.integers(0, 256, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / f"plain/{kind}/{i}.png")
            Image.fromarray(pixels.repeat(2, axis=1)).save(tmp_path / f"twice/{kind}/{i}.png")
    how = "test: 0.5, validation: 0, resize: stretch, interpolation: nearest"
    data = f"data: {{source: imagefolder, path: {tmp_path}/plain, {how}}}"
    spec = SPEC.replace("num_classes: 10", "num_classes: 2")
    (tmp_path / "tiny.yaml").write_text(re.sub("data: {.*", data, spec))
    run = tmp_path / "run"
    train_run(load_spec(tmp_path / "tiny.yaml", overrides=["train.batch_size=6"]), run)

    def fields(folder):
        found = analysed(run, data=tmp_path / folder, num_images=3)
        assert found["notes"] == [
            f"receptive fields are measured on the data of {tmp_path / folder}"
        ]
        return found["receptive_fields"]

    assert fields("plain") == fields("twice")
    (tmp_path / "cropped.yaml").write_text(
        data.replace("plain", "twice").replace("stretch", "crop")
    )
    assert fields("cropped.yaml") != fields("twice")


def test_what_is_written(done, runs):
    folder = runs / "learned/analysis"
    assert {p.name for p in folder.iterdir()} == FILES | {f"{name}.png" for name in PLOTS}
    assert f"report: {folder / 'report.html'}" in done.stdout.replace("\n", "")
    for word in ("conv1", "conv3", "8x8", "4x4", "Half of the kernel mass lies within"):
        assert word in done.stdout


def test_the_document(document):
    assert set(document) == {
        "generator", "schema_version", "name", "directory", "checkpoint", "step", "against",
        "input_size", "shares", "notes", "layers", "grids", "receptive_fields",
    }  # fmt: skip
    assert document["schema_version"] == 1
    assert [layer["path"] for layer in document["layers"]] == ["conv1", "conv3"]
    first, second = document["layers"]
    assert set(first) == {"path", "kind", "trained", "initial", "against"}
    assert first["kind"] == "implicit_frequency"
    assert (first["trained"]["grid"], second["trained"]["grid"]) == ([8, 8], [4, 4])
    assert (first["trained"]["num_filters"], second["trained"]["num_filters"]) == (6, 8)
    assert first["trained"]["windows"] == [1, 3, 5, 7, 9]
    for measure in ("mass", "energy"):
        means = first["trained"][measure]["mean"]
        assert means == sorted(means) and means[-1] == pytest.approx(1)
        assert set(first["trained"]["effective_size"][measure]) == {"0.5", "0.9", "0.95"}
    assert [grid["layers"] for grid in document["grids"]] == [["conv1"], ["conv3"]]
    explained = document["grids"][0]["components"]["trained"]["explained_variance"]
    assert explained == sorted(explained, reverse=True) and sum(explained) <= 1 + 1e-9
    assert [f["path"] for f in document["receptive_fields"]] == ["relu", "relu_2"]
    assert document["receptive_fields"][0]["trained"]["num_images"] == 5


def test_initialisation_is_what_a_run_has_that_learns_nothing(document):
    for layer in document["layers"]:
        initial, still = (layer[name]["mass"]["mean"] for name in ("initial", "against"))
        assert initial == pytest.approx(still, abs=1e-6)
        assert initial != pytest.approx(layer["trained"]["mass"]["mean"], abs=1e-4)


class Page(HTMLParser):
    """What a page has, and whether its elements are closed in turn."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        self.sources += [value for key, value in attrs if key in ("src", "href", "srcset")]
        if tag not in ("img", "meta"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_stands_alone(done, runs):
    text = (runs / "learned/analysis/report.html").read_text()
    page = Page()
    page.feed(text)
    assert page.open == []
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert "http:" not in text and "https:" not in text and "url(" not in text
    assert len(page.sources) == len(PLOTS)
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert text.index("Half of the kernel mass") < text.index("<img")
    assert "prefers-color-scheme: dark" in text
    assert page.tags.count("tr") == 2 + 2  # headings, their groups, and layers


def test_json_size_shares_and_out(call, runs, tmp_path):
    out = tmp_path / "deep/out"
    options = ("--size", "12x16", "--shares", "0.8,0.3", "--images", 0, "--out", out, "--json")
    found = call(runs / "learned", *options)
    assert found.exit_code == 0, found.output
    document = json.loads(found.stdout)
    assert document == json.loads((out / "analysis.json").read_text())
    assert document["input_size"] == [12, 16]
    assert [layer["trained"]["grid"] for layer in document["layers"]] == [[12, 16], [6, 8]]
    assert list(document["layers"][0]["trained"]["effective_size"]["mass"]) == ["0.3", "0.8"]
    assert document["receptive_fields"] == []
    assert not (out / "receptive_fields.png").exists()
    assert (document["against"], "against" in document["layers"][0]) == (None, False)


def test_a_run_that_started_from_another_is_set_beside_that(runs, tmp_path):
    start = tmp_path / "start"
    shutil.copytree(runs / "learned", start)
    overrides = [f"train.init={start}", STILL, "train.epochs=1"]
    run = tmp_path / "continued"
    train_run(load_spec(runs / "tiny.yaml", overrides=overrides), run)
    layer = analysed(run)["layers"][0]
    expected = analysed(runs / "learned")["layers"][0]["trained"]["mass"]["mean"]
    assert layer["initial"]["mass"]["mean"] == pytest.approx(expected, abs=1e-6)
    assert layer["trained"]["mass"]["mean"] == pytest.approx(expected, abs=1e-6)

    for other, note in (
        (runs / "still", "has changed since the run started from it"),
        (None, "without the weights that the run started from"),
    ):
        shutil.rmtree(start)
        if other is not None:
            shutil.copytree(other, start)
        document = analysed(run)
        assert "initial" not in document["layers"][0]
        assert note in document["notes"][0]


def test_an_unfinished_run_is_analysed_with_a_note(copied):
    (copied / "metrics.json").unlink()
    (note,) = analysed(copied, checkpoint="last")["notes"]
    assert note.startswith("the run is not complete: its weights are those after step ")


def rename(run: Path, old: str, new: str) -> None:
    """Gives a layer another name, in spec and weights."""
    spec = run / "spec.yaml"
    spec.write_text(spec.read_text().replace(f"id: {old}", f"id: {new}"))
    for path in run.glob("checkpoints/*/model.safetensors"):
        tensors = load_file(path)
        save_file({k.replace(f"{old}.", f"{new}."): v for k, v in tensors.items()}, path)
    as_trained(run)


def as_trained(run: Path) -> None:
    """Has a run say that it was trained with the spec that lies there."""
    for path in (*run.glob("checkpoints/*/progress.json"), run / "metrics.json"):
        document = json.loads(path.read_text())
        document.pop("evidence", None)
        document.pop("fingerprints", None)
        if "identity" in document:
            document["identity"]["spec"] = load_spec(run / "spec.yaml").text
        path.write_text(json.dumps(document))


def test_layers_without_counterpart(runs, copied):
    rename(copied, "conv3", "other")
    document = analysed(runs / "learned", against=copied)
    assert document["layers"][0]["against"] is not None
    assert document["layers"][1]["against"] is None
    assert document["notes"] == ["1 of 2 layers have no counterpart in the other run"]
    rename(copied, "conv1", "different")
    with pytest.raises(SpecError) as caught:
        analysed(runs / "learned", against=copied)
    (problem,) = caught.value.problems
    assert problem.what == "none of its layers has the name of one of this run's"
    assert problem.fix == "here: conv1, conv3\nthere: different, other"


def test_only_an_analysis_is_replaced(call, done, runs, tmp_path):
    out = tmp_path / "pics"
    out.mkdir()
    (out / "gallery_holiday.png").write_bytes(b"mine")
    words = (runs / "learned", "--images", 0, "--out", out)
    for options in ((), ("--overwrite",)):
        (out / "mass.png").write_bytes(b"mine")
        found = call(*words, *options)
        assert found.exit_code == 2 and "mass.png in" in found.stderr
        assert {p.read_bytes() for p in out.iterdir()} == {b"mine"}
    (out / "mass.png").unlink()
    # One of more layers, with receptive fields: what is not drawn again goes.
    for name in ("gallery_01.png", "receptive_fields.png"):
        shutil.copy(runs / "learned/analysis" / name, out / name.replace("01", "02"))
    found = call(*words)
    assert found.exit_code == 2 and "add --overwrite" in found.stderr
    assert call(*words, "--overwrite").exit_code == 0
    made = {f"{name}.png" for name in PLOTS - {"receptive_fields"}} | FILES
    assert {p.name for p in out.iterdir()} == made | {"gallery_holiday.png"}
    assert (out / "gallery_holiday.png").read_bytes() == b"mine"


def test_an_analysis_that_cannot_be_written_is_told(call, runs, tmp_path):
    """The disk is full: files cannot grow beyond a limit."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        found = call(runs / "learned", "--images", 0, "--out", tmp_path / "out", "--json")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert found.exit_code == 1
    assert json.loads(found.stdout)["layers"]  # one document, and no other
    assert "make room" in found.stderr and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["missing"], 2, "missing does not exist"),
        (["{runs}"], 2, "is not a run directory"),
        (["{runs}/ordinary"], 2, "no filter of tiny is as large as the image"),
        (["{runs}/learned", "--against", "missing"], 2, "--against missing: missing does not"),
        (["{runs}/learned", "--against", "{runs}/ordinary"], 2, "no filter of tiny"),
        (["{runs}/learned", "--against", "{runs}/learned"], 2, "is the run itself"),
        (["{runs}/learned", "--shares", "0.5,1.5"], 2, "'1.5' is no share above 0"),
        (["{runs}/learned", "--shares", "half"], 2, "'half' is no share above 0"),
        (["{runs}/learned", "--size", "0"], 2, "'0' is no size"),
        (["{runs}/learned", "--images", "-1"], 2, "or equal to 0"),
        (["{runs}/learned", "--data", "x.yaml", "--images", "0"], 2, "has no effect with --images"),
        (["{runs}/learned", "--out", "{runs}/tiny.yaml"], 2, "a file is in the way"),
        (["{runs}/learned", "--out", "{runs}/tiny.yaml/x"], 2, "a file is in the way"),
        (["{runs}/learned", "--device", "cuda:99"], 2, "is not available"),
    ],
)
def test_what_cannot_be_analysed_is_said(call, runs, options, code, words):
    found = call(*(option.format(runs=runs) for option in options), "--overwrite")
    assert found.exit_code == code
    assert words in found.output
    assert "Traceback" not in found.output


def test_an_analysis_in_the_run_is_replaced_only_when_asked_for(call, copied):
    page = copied / "analysis" / "report.html"
    page.write_text(page.read_text() + "<p>what I saw</p>")
    found = call(copied, "--images", 0)
    assert found.exit_code == 2 and "add --overwrite" in found.stderr
    assert "what I saw" in page.read_text()
    assert call(copied, "--images", 0, "--overwrite").exit_code == 0
    assert "what I saw" not in page.read_text()


def test_a_run_of_another_version(call, copied):
    spec = (copied / "spec.yaml").read_text()
    (copied / "spec.yaml").write_text(spec.replace("version: 1", "version: 99"))
    found = call(copied)
    assert found.exit_code == 2
    assert "version" in found.stderr


def test_a_run_without_checkpoint(call, copied):
    shutil.rmtree(copied / "checkpoints")
    found = call(copied, "--overwrite")
    assert found.exit_code == 1
    assert "checkpoints holds no checkpoint, although step_" in found.stderr


def test_a_size_that_the_head_does_not_take(copied):
    """Without the pooling, the linear layer is for one size: that of training."""
    spec = copied / "spec.yaml"
    spec.write_text(
        re.sub(r"op: global_avg_pool[^}]*", "op: max_pool, kernel_size: 4", spec.read_text())
    )
    as_trained(copied)
    analysed(copied)
    with pytest.raises(SpecError, match="--size 16x16: fc: takes 8 channels, and would have 32"):
        analysed(copied, size=(16, 16))
    with pytest.raises(SpecError, match="--size 4x4: "):
        analysed(copied, size=(4, 4))
