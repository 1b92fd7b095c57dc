"""Model cards, read by the hub's own library, and their code, run as it stands."""

import contextlib
import io
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import nifbuild
from nifbuild.data.decode import Decoder
from nifbuild.errors import SpecError
from nifbuild.machine.progress import Reporter
from nifbuild.report.card_usage import file_usage
from nifbuild.report.model_card import card_text, run_facts, write_run_card
from nifbuild.runs.directory import RunDirectory
from nifbuild.spec.common_data import CommonData
from nifbuild.spec.resolve import load_spec
from tests.tiny_runs import photo_text, spec_text, trained


class Heard(Reporter):
    """Keeps what is said."""

    def __init__(self):
        self.notes, self.warnings = [], []

    def note(self, text):
        self.notes.append(text)

    def warning(self, text):
        self.warnings.append(text)


@pytest.fixture(scope="module")
def licensed(tmp_path_factory):
    """A run of a spec that has a licence."""
    folder = tmp_path_factory.mktemp("licensed")
    return trained(
        folder, spec_text() + "license: Apache-2.0\n", "train.epochs=2", "train.monitor=loss"
    )


@pytest.fixture
def run(licensed, tmp_path, monkeypatch):
    """A copy of it, in the working directory, beside a photograph."""
    shutil.copytree(licensed, tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    pixels = np.random.RandomState(0).randint(0, 256, (8, 8), dtype=np.uint8)
    Image.fromarray(pixels).save("photo.jpg")
    return RunDirectory("run")


def parsed(text):
    """The card as the hub reads it."""
    from huggingface_hub import ModelCard

    return ModelCard(text, ignore_metadata_errors=False)


def python_of(text):
    return re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]


def printed(code):
    """What Python prints."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(compile(code, "card", "exec"), {})
    return out.getvalue().strip()


@torch.no_grad()
def expected_class(run):
    """The class of the photograph, by the model itself; it has the size of the input."""
    model = nifbuild.load(run)
    pixels = torch.from_numpy(np.array(Image.open("photo.jpg").convert("L")))[None, None]
    return model.class_names[model(model.normalize(pixels)).argmax()]


def test_the_hub_reads_the_card_of_a_run(run):
    write_run_card(run, Reporter())
    data = parsed((run.path / "README.md").read_text()).data
    assert (data.library_name, data.license) == ("nifbuild", "apache-2.0")
    assert data.pipeline_tag == "image-classification"
    assert data.tags == ["image-classification", "nifbuild", "implicit-frequency"]
    assert data.datasets is None  # these are none of the hub
    (result,) = data.eval_results
    figures = json.loads((run.path / "metrics.json").read_text())
    assert (result.metric_type, result.metric_value) == ("accuracy", figures["top1"])
    assert (result.dataset_name, result.dataset_split) == ("digits", "test")


def test_what_a_card_tells(run):
    write_run_card(run, Reporter())
    text = (run.path / "README.md").read_text()
    figures = json.loads((run.path / "metrics.json").read_text())
    lines = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    best = min(lines, key=lambda line: line["loss"])
    for words in (
        "# tiny\n",
        "774 parameters",
        "1 of `kind: implicit_frequency`",
        f"| loss | {figures['loss']:.4f} |",
        f"| best loss on validation | {best['loss']:.4f}, after epoch {best['epoch']} |",
        "40 train, 21 validation, 17 test",
        "10 classes: 0, 1, 2,",
        f"| torch | {torch.__version__.partition('+')[0]}",
        "`Apache-2.0`",
        "seed 0",
    ):
        assert words in text, words
    (spec,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert spec == run.spec.read_text()


def test_what_a_run_s_card_says_holds_in_its_folder_wherever_that_lies(run, monkeypatch, cli):
    write_run_card(run, Reporter())
    wanted = expected_class("run")
    Path("elsewhere").mkdir()
    run.path.rename("elsewhere/renamed")
    Path("photo.jpg").rename("elsewhere/renamed/photo.jpg")
    monkeypatch.chdir("elsewhere/renamed")
    text = Path("README.md").read_text()
    assert printed(python_of(text)) == wanted
    commands = re.search(r"```sh\n(.*?)```", text, re.DOTALL)[1].splitlines()
    assert [command.split()[:2] for command in commands] == [
        ["nifbuild", "predict"],
        ["nifbuild", "evaluate"],
    ]
    for command in commands:
        result = cli(*command.partition("#")[0].split()[1:])
        assert result.exit_code == 0, result.stderr


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("form", "options"),
    [
        ("onnx", {}),
        ("onnx", {"end_to_end": True, "batch": 3}),
        ("torch", {}),
        ("torch", {"end_to_end": True}),
        ("safetensors", {}),
    ],
)
def test_the_code_of_an_export_s_card(run, monkeypatch, form, options):
    Path("hub").mkdir()
    exported = nifbuild.export("run", format=form, output="hub", **options)
    assert exported.path.parent == Path("hub") and exported.path.name.startswith("tiny.")
    text = Path("hub/README.md").read_text()
    (result,) = parsed(text).data.eval_results
    assert result.metric_value == json.loads((run.path / "metrics.json").read_text())["top1"]
    wanted = expected_class("run")
    Path("photo.jpg").rename("hub/photo.jpg")
    monkeypatch.chdir("hub")
    assert printed(python_of(text)) == wanted


def test_the_folder_of_one_file_is_as_good_as_the_file(run):
    Path("hub").mkdir()
    with pytest.raises(SpecError, match="hub is not a run directory"):
        nifbuild.load("hub")
    nifbuild.export("run", format="safetensors", output="hub")
    assert nifbuild.load("hub").class_names == nifbuild.load("run").class_names


def test_a_card_lies_beside_a_file_that_is_named(run):
    nifbuild.export("run", format="safetensors", output="model.st")
    assert parsed(Path("model.st.md").read_text()).data.license == "apache-2.0"
    assert not Path("README.md").exists()


def test_figures_of_other_weights_or_sizes_are_not_told(run):
    document = json.loads((run.path / "metrics.json").read_text())
    assert run.checkpoints[-1].name != document["checkpoint"]
    nifbuild.export("run", format="safetensors", output="last.st", checkpoint="last")
    nifbuild.export("run", format="torch", output="other.pt2", size=10)
    for card in ("last.st.md", "other.pt2.md"):
        text = Path(card).read_text()
        assert parsed(text).data.eval_results is None
        assert "was not evaluated as it is here" in text


def test_a_spec_has_neither_figures_nor_data(run):
    Path("fresh.yaml").write_text(spec_text())
    nifbuild.export("fresh.yaml", format="safetensors")
    text = Path("tiny.safetensors.md").read_text()
    assert parsed(text).data.eval_results is None
    assert "None is stated" in text and "license" not in parsed(text).data.to_dict()
    assert "those that training would start from" in text


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("share", [1.0, 0.875])
@pytest.mark.parametrize("resize", ["crop", "stretch"])
@pytest.mark.parametrize("shape", [(194, 122), (80, 240)])
def test_the_code_prepares_images_as_training_did(
    tmp_path, monkeypatch, shape, resize, share, interpolation
):
    """But for rounding, and for where exactly a centre is; the photograph is smooth, and turned."""
    monkeypatch.chdir(tmp_path)
    y, x = np.mgrid[: shape[0], : shape[1]] / max(shape)
    waves = [np.sin(4 * x + k) * np.cos(3 * y - k) for k in range(3)]
    photo = Image.fromarray(np.uint8(127 + 120 * np.stack(waves, axis=-1)))
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: a quarter turn
    photo.save("photo.jpg", quality=95, exif=exif)
    data = CommonData(resize=resize, crop_share=share, interpolation=interpolation)
    none = torch.zeros(3), torch.full((3,), 1 / 255)
    code = python_of(
        file_usage(
            "m",
            "",
            none,
            (None, 3, 20, 28),
            data,
            format="onnx",
            output="y",
            names_class=False,
        )
    )
    found: dict = {}
    exec(code.partition("session =")[0].replace("import onnxruntime\n", ""), found)
    expected = Decoder.of(data, 3, (20, 28))("photo.jpg")
    assert found["images"].shape == (1, *expected.shape)
    difference = np.abs(found["images"][0] - expected)
    assert difference.max() < 12 and difference.mean() < 3
    squeezed = np.asarray(Image.open("photo.jpg").resize((28, 20)), np.float32)
    assert np.abs(squeezed.transpose(2, 0, 1) - expected).mean() > 15  # that would not do


def test_a_card_that_people_have_changed_stays(run):
    heard = Heard()
    (run.path / "README.md").write_text("my notes")
    write_run_card(run, heard)
    assert (run.path / "README.md").read_text() == "my notes"
    assert "it stays" in heard.warnings[0]
    nifbuild.export("run", format="safetensors")
    Path("tiny.safetensors.md").write_text("my notes")
    nifbuild.export("run", format="safetensors", overwrite=True, report=heard)
    assert Path("tiny.safetensors.md").read_text() == "my notes"


def test_one_that_is_nifbuild_s_is_replaced_where_that_is_asked_for(run):
    nifbuild.export("run", format="safetensors")
    before = Path("tiny.safetensors.md").read_text()
    Path("tiny.safetensors").unlink()
    run.update_spec(run.spec.read_text().replace("Apache-2.0", "MIT"))
    heard = Heard()
    nifbuild.export("run", format="safetensors", report=heard)
    assert Path("tiny.safetensors.md").read_text() == before
    assert "--overwrite replaces it" in heard.notes[-1]
    nifbuild.export("run", format="safetensors", overwrite=True)
    assert "`MIT`" in Path("tiny.safetensors.md").read_text()


def test_one_that_cannot_be_written_is_a_warning(run):
    (run.path / ".writing_README.md").mkdir()
    heard = Heard()
    write_run_card(run, heard)
    assert "could not be written" in heard.warnings[0]
    Path(".writing_tiny.safetensors.md").mkdir()
    assert nifbuild.export("run", format="safetensors", report=heard).path.exists()
    assert "could not be written" in heard.warnings[1]


def test_names_forge_nothing(tmp_path, monkeypatch, photos):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(photos, "photos")
    evil = "<script>`|\n# not a heading"
    for split in ("train", "test"):
        Path("photos", split, "two").rename(Path("photos", split, evil))
    run = RunDirectory(trained(tmp_path, photo_text("photos"), "train.epochs=1"))
    write_run_card(run, Reporter())
    card = (run.path / "README.md").read_text()
    assert "<script>" not in card and "\n# not a heading" not in card


def test_a_licence_is_an_identifier(tmp_path):
    (tmp_path / "tiny.yaml").write_text(spec_text() + "license: you may not, ask me\n")
    with pytest.raises(SpecError) as caught:
        load_spec(tmp_path / "tiny.yaml")
    (problem,) = caught.value.problems
    assert problem.path == "license" and "such as mit" in str(problem)


def test_a_licence_does_not_touch_training(run):
    """A run may get one later, and goes on."""
    run.update_spec(run.spec.read_text().replace("Apache-2.0", "MIT"))
    nifbuild.train_spec(run.spec, out=run.path, resume=True, epochs=3)
    assert len(run.metrics()) == 3
    assert parsed((run.path / "README.md").read_text()).data.license == "mit"


def test_data_of_the_hub_is_linked(run, tmp_path):
    facts = run_facts(run)

    def datasets(name):
        settings = {**facts.settings, "data.source": "hub", "data.id": name}
        return parsed(card_text(replace(facts, settings=settings))).data.datasets

    assert datasets("uoft-cs/cifar10") == ["uoft-cs/cifar10"]
    (tmp_path / "mine" / "digits").mkdir(parents=True)
    assert datasets("mine/digits") is None  # a folder in the hub's layout
    assert datasets(str(tmp_path / "mine")) is None
