"""From a run to a run with small filters."""

import json
import math
import re
import shutil
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch
import typer
from PIL import Image
from torch import nn
from typer.testing import CliRunner

import nifbuild
from nifbuild import evaluate_run
from nifbuild.cli.output import guard
from nifbuild.cli.shrink import shrink
from nifbuild.errors import RunError
from nifbuild.machine.progress import Reporter
from nifbuild.report.shrink.changes import compare_speed
from nifbuild.report.shrink.windows import smallest_mass
from nifbuild.runs.directory import RunDirectory


class Warnings(Reporter):
    def __init__(self):
        self.texts = []

    def warning(self, text):
        self.texts.append(text)


WINDOWS = {"conv_2": 9, "conv_3": 9, "full": 5}


@pytest.fixture(scope="module")
def call(trained_run, tmp_path_factory):
    """Runs the command in a folder of this module's own, where `run` is a trained run."""
    app = typer.Typer()
    app.command()(guard(shrink, lambda: False))
    folder = tmp_path_factory.mktemp("shrink")
    (folder / "run").symlink_to(trained_run)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield lambda *arguments: CliRunner().invoke(app, [str(a) for a in arguments])


def document(done):
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def whole(call):
    """Cut to the whole grid."""
    return document(call("run", "--kernel-size", 9, "--out", "whole", "--json", "-q"))


@pytest.fixture(scope="module")
def small(call):
    return document(call("run", "--mass", 0.4, "--out", "small", "--json", "-q"))


def test_on_the_whole_grid_the_model_is_the_same(whole):
    before, after = nifbuild.load("run"), nifbuild.load("whole")
    x = torch.randn(7, 1, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(after(x), before(x), atol=1e-5, rtol=0)
    assert {layer["path"]: layer["window"] for layer in whole["layers"]} == WINDOWS
    for layer in whole["layers"]:
        assert layer["kept_mass"] == layer["least_kept_mass"] == 1
        assert layer["bound"] == pytest.approx(0, abs=1e-9)
        assert layer["change"] < 1e-5 and layer["rms_change"] < 1e-5
    assert whole["before"]["top1"] == whole["after"]["top1"]
    assert whole["before"]["params"] == sum(p.numel() for p in before.parameters())
    assert whole["after"]["params"] == sum(p.numel() for p in after.parameters())


class PlainNetwork(nn.Module):
    """The cut network, written by hand from torch's own modules."""

    def __init__(self, sizes):
        super().__init__()

        def depthwise(channels, size, stride, mode="circular"):
            return nn.Conv2d(
                channels, channels, size, stride, size // 2, groups=channels, bias=False,
                padding_mode=mode,
            )  # fmt: skip

        self.conv = nn.Conv2d(1, 6, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(6)
        self.conv_2 = nn.Module()
        self.conv_2.depthwise = depthwise(6, sizes["conv_2"], 1)
        self.conv_2.pointwise = nn.Conv2d(6, 6, 1, bias=False)
        self.conv_3 = nn.Module()
        self.conv_3.pointwise_in = nn.Conv2d(6, 4, 1, bias=False)
        self.conv_3.depthwise = depthwise(4, sizes["conv_3"], 2)
        self.conv_3.pointwise = nn.Conv2d(4, 8, 1)
        self.full = nn.Conv2d(8, 8, sizes["full"], padding=sizes["full"] // 2)
        self.fc = nn.Linear(8, 10)

    def forward(self, x):
        x = self.bn1(self.conv(x)).relu()
        x = x + self.conv_2.pointwise(self.conv_2.depthwise(x))
        x = self.conv_3.pointwise_in(x)
        x = self.conv_3.pointwise(self.conv_3.depthwise(x)).relu()
        return self.fc(self.full(x).mean((2, 3)))


def test_plain_torch_loads_the_weights(small):
    sizes = {layer["path"]: layer["kernel_size"][0] for layer in small["layers"]}
    assert min(sizes.values()) < 5 and all(sizes[name] <= WINDOWS[name] for name in sizes)
    network = PlainNetwork(sizes).eval()
    (file,) = RunDirectory("small").checkpoints[0].glob("*.safetensors")
    network.load_state_dict(safetensors.torch.load_file(file), strict=True)
    x = torch.randn(3, 1, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(nifbuild.load("small")(x), network(x), atol=1e-5, rtol=1e-5)


def test_the_result_is_a_run(small):
    run = RunDirectory("small")
    run.require_complete()
    found = evaluate_run("small").only.document()
    for name in ("top1", "num_samples"):
        assert found[name] == small["after"][name] == run.result()[name]
    assert small["after"]["loss"] == run.result()["loss"]
    # With several threads, convolutions round otherwise from one process's use to another's.
    assert found["loss"] == pytest.approx(small["after"]["loss"], rel=1e-7)
    assert found["split"] == small["split"] == "test" and found["num_samples"] == 50
    assert small["before"]["top1"] == evaluate_run("run").only.top1
    text = run.spec.read_text()
    assert "implicit_frequency" not in text and "free_frequency" not in text
    assert json.loads((run.path / "shrink.json").read_text()) == small
    assert RunDirectory("run").data() == run.data()


def test_what_is_reported_of_each_layer(small):
    for layer in small["layers"]:
        assert layer["kept_mass"] >= 0.4 and layer["least_kept_mass"] <= layer["kept_mass"]
        assert layer["rms_change"] > 0 and layer["change"] <= layer["bound"] + 1e-5
    assert max(layer["change"] for layer in small["layers"]) > 0.01
    assert small["speed"]["batch"] == 32
    assert small["speed"]["ratio"]["median"] > 0


def test_another_boundary(call):
    found = document(call("run", "--kernel-size", 3, "--boundary", "zeros", "--json", "-q"))
    Path("run_shrunk").rename("zeros")  # beside the run, and called after it
    convs = [m for m in nifbuild.load("zeros").modules() if type(m) is nn.Conv2d]
    assert {conv.padding_mode for conv in convs} == {"zeros"}
    assert all(0.01 < layer["change"] <= layer["bound"] for layer in found["layers"])


def test_another_size(call):
    done = call("run", "--size", "12", "--mass", 1, "--out", "larger", "--json", "-q")
    assert [layer["grid"] for layer in document(done)["layers"]] == [[12, 12], [12, 12], [6, 6]]
    x = torch.randn(2, 1, 12, 12)
    with torch.no_grad():
        expected, found = nifbuild.load("run")(x), nifbuild.load("larger")(x)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert nifbuild.load("larger").resolved.spec.input.size == (12, 12)


def test_max_drop_keeps_accuracy_on_validation(call):
    arguments = ("--max-drop", "5pp", "--out", "searched", "--json", "-q")
    done = call("run", *arguments)
    found = document(done)
    before = evaluate_run("run", split="validation").only.top1
    after = evaluate_run("searched", split="validation").only.top1
    assert before - after <= 0.05 + 1e-9
    kept = [trial for trial in found["search"] if trial["kept"]]
    lost = [trial for trial in found["search"] if not trial["kept"]]
    assert min(t["mass"] for t in kept) > max((t["mass"] for t in lost), default=0)
    assert after == min(kept, key=lambda trial: trial["mass"])["top1"]
    assert found["validation_top1"] == [before, after]
    assert "top-1 on validation" not in call("run", "--mass", "0.9", "--out", "given", "-q").stdout


def test_what_was_there_stays_and_is_told(call):
    Path("mine").mkdir()
    Path("mine/notes.txt").touch()
    done = call("run", "--max-drop", "5pp", "--out", "mine", "-q")
    assert "warning: mine holds what was there before, too: notes.txt" in done.stderr
    assert "top-1 on validation" in done.stdout and Path("mine/notes.txt").exists()


def test_a_loss_that_so_few_images_cannot_show_is_said(call):
    done = call("run", "--max-drop", "0.01pp", "--out", "fine", "-q")
    assert done.exit_code == 0, done.output
    assert re.search(r"one of the \d+ validation images is .*, more than --max-drop", done.stderr)


def test_training_on(call):
    done = call("run", "--mass", 0.4, "--out", "tuned", "--finetune-epochs", 1, "-q",
                "--set", "train.optimizer.lr=0.005")  # fmt: skip
    assert done.exit_code == 0, done.output
    for word in ("trained on", "top-1", "kept mass", "conv_2", "8x8", "parameters", "speed"):
        assert word in done.stdout
    found = evaluate_run("tuned/finetuned").only.document()
    tuned = json.loads(Path("tuned/shrink.json").read_text())["finetuned"]
    assert found["top1"] == tuned["top1"] and found["loss"] == tuned["loss"]
    assert found["loss"] != evaluate_run("tuned").only.loss
    spec = nifbuild.load("tuned/finetuned").resolved.spec
    assert spec.train.epochs == 1 and spec.train.optimizer.lr == 0.005
    # It starts from the weights that were cut.
    start = json.loads(Path("tuned/finetuned/init.json").read_text())
    assert start["fresh"] == [] and start["unused"] == []
    cards = [Path("tuned", folder, "README.md").read_text() for folder in (".", "finetuned")]
    assert "(cut from run)" in cards[0] and 'nifbuild.load(".")' in cards[1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nowhere",), "nowhere does not exist"),
        (("run", "--mass", 0.9, "--kernel-size", 3), "--mass and --kernel-size exclude each other"),
        (("run", "--mass", 1.5), "--mass 1.5: '1.5' is no share of a filter\n  give a share"),
        (("run", "--mass", "95%"), "--mass 95%: '95%' is no share of a filter\n  write 0.95\n"),
        (("run", "--mass", "most"), "give a share above 0 and at most 1, such as --mass 0.95"),
        (("run", "--kernel-size", 4), "a window of 4 has no centre"),
        (("run", "--kernel-size", 11), "a window of 11 is larger than the grid of every layer"),
        (("run", "--max-drop", "0.5"), "such as --max-drop 0.5pp"),
        (("run", "--max-drop", "-1pp"), "'-1pp' is no loss of accuracy"),
        (("run", "--size", "8y"), "'8y' is no size"),
        (("run", "--set", "train.epochs=1"), "there is none"),
        (("run", "--finetune-epochs", 1, "--set", "train.optimizer.lrr=1"), "unknown field 'lrr'"),
        (("run", "--out", "run"), "run is the run that is cut"),
        (("run", "--out", "taken"), "taken already holds a run"),
        (("run", "--data", "novalidation.yaml", "--max-drop", "1pp"), "no validation images"),
        (("unfinished",), "the training of unfinished is not complete"),
        (("version2",), "version"),
        (("ordinary",), "no filters as large as the image"),
    ],
)
def test_bad_input_is_one_message(call, whole, arguments, words):
    prepare(arguments[0])
    if "taken" in arguments:
        shutil.copytree("whole", "taken", dirs_exist_ok=True)
    Path("novalidation.yaml").write_text("data: {source: digits, validation: 0}")
    out = () if "--out" in arguments else ("--out", "never")
    done = call(*arguments, *out, "-q")
    assert done.exit_code == 2
    assert words in done.stderr and done.stderr.count("error:") == 1
    assert "Traceback" not in done.output and not Path("never").exists()


def prepare(name):
    """A run that is not complete, of another language version, or without filters to cut."""
    if name not in ("unfinished", "version2", "ordinary"):
        return
    shutil.copytree("whole" if name == "ordinary" else "run", name)
    run = RunDirectory(name)
    if name == "unfinished":
        (run.path / "metrics.json").unlink()
    if name == "version2":
        run.spec.write_text(run.spec.read_text().replace("version: 1", "version: 2"))


def test_a_directory_that_cannot_be_written(call):
    Path("file").touch()
    done = call("run", "--out", "file/inside")
    assert done.exit_code == 2 and "file is a file" in done.stderr
    done = call("run", "--out", "/proc/shrunk", "-q")
    assert done.exit_code == 1 and "cannot write to /proc/shrunk" in done.stderr


def test_the_search_finds_the_smallest_share():
    masses = [i / 100 for i in range(1, 101)]
    for needed in (0.01, 0.37, 1.0):
        tried = []

        def accuracy(mass, needed=needed, tried=tried):
            tried.append(mass)
            return 0.9 if mass >= needed else 0.9 - 2 * (needed - mass) - 0.01

        found, trials = smallest_mass(masses, accuracy, 0.9, 0.0)
        assert found == needed and len(tried) <= 2 + math.log2(100)
        assert [trial.mass for trial in trials] == tried
        # A drop of 0.05 allows for 0.02 less of the filters.
        found, _ = smallest_mass(masses, accuracy, 0.9, 0.0501)
        assert found == pytest.approx(max(0.01, needed - 0.02))
    with pytest.raises(RunError, match=r"loses 10.00% on validation, more than 5.00%"):
        smallest_mass(masses, lambda mass: 0.8, 0.9, 0.05)


class Sleeping(nn.Module):
    def __init__(self, seconds):
        super().__init__()
        self.seconds = seconds

    def forward(self, x):
        time.sleep(self.seconds)
        return x


def test_speed_is_before_over_after():
    speed = compare_speed(Sleeping(0.03), Sleeping(0.01), torch.zeros(5, 1))
    assert speed.ratio.median == pytest.approx(3, rel=0.5)
    assert speed.batch == 5 and speed.before_ms.median > speed.after_ms.median > 9


def test_the_new_run_knows_the_data_that_its_figures_are_of(call, tmp_path):
    for label in range(10):
        (tmp_path / "images" / str(label)).mkdir(parents=True)
        for i in range(6):
            Image.new("L", (8, 8), 20 * label + i).save(tmp_path / f"images/{label}/{i}.png")
    data = f"data: {{source: imagefolder, path: {tmp_path}/images, validation: 0, test: 0.5}}\n"
    (tmp_path / "other.yaml").write_text(data)
    arguments = ("run", "--kernel-size", 5, "--data", tmp_path / "other.yaml", "--json", "-q")
    document(call(*arguments, "--out", tmp_path / "cut"))
    run = RunDirectory(tmp_path / "cut")
    heard = Warnings()
    again = evaluate_run(run.path, report=heard).only.document()
    assert heard.texts == []
    assert again["num_samples"] == run.result()["num_samples"] == 30
    assert again["confusion_matrix"] == run.result()["confusion_matrix"]
    assert again["fingerprint"] == run.data()["fingerprint"]
