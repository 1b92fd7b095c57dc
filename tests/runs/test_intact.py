"""What is read from a run is what was written there, and its figures are of what they say."""

import json
import re
import shutil
import signal

import pytest
import safetensors.torch
import torch
from PIL import Image
from typer.testing import CliRunner

import nifbuild
from nifbuild import evaluate_run
from nifbuild.cli.app import app
from nifbuild.errors import InterruptedRun, NifbuildError, RunError
from nifbuild.evaluate.predict import predict_images
from nifbuild.machine.progress import Reporter
from nifbuild.runs.directory import RunDirectory
from nifbuild.runs.intact import evaluated_weights
from nifbuild.runs.loaded import load_run
from nifbuild.spec.resolve import load_spec
from nifbuild.train.initial_weights import fresh_model
from nifbuild.train.run import train_run
from tests.tiny_runs import SPEC


class Stop(Reporter):
    def step(self, step, loss, images_per_second, memory):
        if step == 7:
            signal.raise_signal(signal.SIGTERM)


def trained(folder, *overrides, report=None):
    (folder / "tiny.yaml").write_text(SPEC.replace("DROPOUT", "{op: identity}"))
    settings = ("train.epochs=2", "train.ema=0.5", "train.select=last", *overrides)
    train_run(load_spec(folder / "tiny.yaml", overrides=settings), folder / "run", report=report)


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    """Its figures are those of the last checkpoint, and an earlier one was better on validation."""
    folder = tmp_path_factory.mktemp("complete")
    trained(folder)
    run = RunDirectory(folder / "run")
    first, last = run.checkpoints
    best = {"checkpoint": first.name, "step": 5, "epoch": 1, "figure": 1.0}
    run.point_to_best(best)
    assert run.result()["checkpoint"] == last.name
    return run.path


@pytest.fixture
def run(complete, tmp_path):
    """A copy to change."""
    shutil.copytree(complete, tmp_path / "run")
    return RunDirectory(tmp_path / "run")


def call(*arguments):
    return CliRunner().invoke(app, [str(each) for each in arguments])


def read_json(path):
    return json.loads(path.read_text())


def change(path, **values):
    path.write_text(json.dumps({**read_json(path), **values}))


def average(checkpoint):
    return safetensors.torch.load_file(checkpoint / "ema.safetensors")


def is_same(weights, others):
    return all(torch.equal(weights[name], others[name]) for name in weights)


def test_every_command_uses_the_checkpoint_of_the_figures(run, tmp_path):
    first, last = run.checkpoints
    done = json.loads(call("evaluate", run.path, "--json", "--quiet").stdout)
    figures = ("checkpoint", "top1", "confusion_matrix")
    assert {name: done[name] for name in figures} == {name: run.result()[name] for name in figures}
    done = call("analyze", run.path, "--images", 0, "--out", tmp_path / "analysis", "--json")
    assert json.loads(done.stdout)["checkpoint"] == last.name
    assert is_same(average(last), nifbuild.load(run.path).model.state_dict())
    file = tmp_path / "a.safetensors"
    call("export", run.path, "--format", "safetensors", "-o", file, "--quiet")
    assert is_same(average(last), nifbuild.load(file).model.state_dict())
    call("shrink", run.path, "--kernel-size", 1, "--out", tmp_path / "small", "--quiet")
    assert RunDirectory(tmp_path / "small").result()["checkpoint"] == last.name
    resolved = load_spec(run.spec, overrides=[f"train.init={run.path}"])
    assert is_same(average(last), fresh_model(resolved).state_dict())
    assert load_run(run.path, checkpoint="best").checkpoint == first


def test_until_there_are_figures_the_spec_selects(run):
    (run.path / "metrics.json").unlink()
    assert load_run(run.path).checkpoint == run.checkpoints[-1]


def test_a_copy_without_the_checkpoint_of_the_figures_is_told(run):
    shutil.rmtree(run.checkpoints[-1])
    with pytest.raises(RunError, match=r"is missing, although metrics\.json names it"):
        load_run(run.path)


def saved(path):
    return lambda run: run.checkpoints[-1] / path


def without_fingerprints(run):
    """As a version left it that saved none."""
    for checkpoint in run.checkpoints:
        document = read_json(checkpoint / "progress.json")
        del document["fingerprints"]
        (checkpoint / "progress.json").write_text(json.dumps(document))
    figures = read_json(run.path / "metrics.json")
    del figures["evidence"]
    (run.path / "metrics.json").write_text(json.dumps(figures))


@pytest.mark.parametrize("older", [False, True], ids=["", "older"])
def test_a_missing_average_is_named_wherever_it_is_read(run, older):
    if older:
        without_fingerprints(run)
        assert load_run(run.path).checkpoint == run.checkpoints[-1]
    average = run.checkpoints[-1] / "ema.safetensors"
    average.unlink()
    resolved = load_spec(run.spec)
    for read in (
        lambda: evaluate_run(run.path),
        lambda: nifbuild.load(run.path),
        lambda: fresh_model(load_spec(run.spec, overrides=[f"train.init={run.path}"])),
        lambda: fresh_model(load_spec(run.spec, overrides=[f"train.init={average.parent}"])),
        lambda: train_run(resolved, run.path, resume=True),
    ):
        with pytest.raises(RunError, match=re.escape(f"{average}: the file is missing")):
            read()


def test_an_average_that_the_run_never_kept_is_not_read(run, tmp_path):
    call("shrink", run.path, "--kernel-size", 1, "--out", tmp_path / "small", "--quiet")
    (checkpoint,) = RunDirectory(tmp_path / "small").checkpoints
    shutil.copy(checkpoint / "model.safetensors", checkpoint / "ema.safetensors")
    assert evaluated_weights(checkpoint) == checkpoint / "model.safetensors"


def test_filters_cut_from_an_average_have_none_of_their_own(run, tmp_path):
    call("shrink", run.path, "--kernel-size", 1, "--out", tmp_path / "small", "--quiet")
    small = RunDirectory(tmp_path / "small")
    expected = pytest.approx(small.result()["loss"], rel=1e-5)
    assert evaluate_run(small.path).only.loss == expected
    without_fingerprints(small)
    assert evaluate_run(small.path).only.loss == expected


@pytest.mark.parametrize("name", ["model.safetensors", "ema.safetensors", "optimizer.pt"])
def test_resume_takes_no_file_that_is_not_what_was_saved(tmp_path, name):
    with pytest.raises(InterruptedRun):
        trained(tmp_path, report=Stop())
    (checkpoint,) = (tmp_path / "run" / "checkpoints").glob("*7")
    content = bytearray((checkpoint / name).read_bytes())
    content[len(content) * 3 // 4] ^= 1  # within a number
    (checkpoint / name).write_bytes(content)
    resolved = load_spec(tmp_path / "run" / "spec.yaml")
    with pytest.raises(RunError, match=rf"{name}: it is damaged, or not what was saved"):
        train_run(resolved, tmp_path / "run", resume=True)


@pytest.mark.parametrize(
    ("was", "becomes"),
    [("silu", "sine"), ("lr: 0.01", "lr: 0.1"), ("validation: 21", "validation: 20")],
)
@pytest.mark.parametrize("older", [False, True], ids=["", "older"])
def test_an_edited_spec_is_not_what_was_trained(run, was, becomes, older):
    if older:
        without_fingerprints(run)
    text = run.spec.read_text()
    assert was in text
    run.spec.write_text(text.replace(was, becomes))
    for read in (
        lambda: evaluate_run(run.path),
        lambda: fresh_model(load_spec(run.spec, overrides=[f"train.init={run.path}"])),
    ):
        with pytest.raises(RunError, match=r"spec\.yaml is not what was trained") as caught:
            read()
        removed, added = re.findall(r"(?m)^  ([-+](?![-+]{2}).*)$", str(caught.value))
        assert was in removed and becomes in added


def test_what_does_not_change_what_was_trained_may_differ(run):
    text = run.spec.read_text()
    assert "workers: 0" in text or "workers" in text
    run.spec.write_text(f"# a note\n{text.replace('keep: 2', 'keep: 3')}")
    assert load_run(run.path).step == 10


@pytest.mark.parametrize(
    ("values", "finding"),
    [
        ({"top1": 0.999}, "`top1` is not what follows from `confusion_matrix`"),
        ({"top1": 9.0}, "9.0 is no share of images"),
        ({"loss": 0.001}, "they have been changed since"),
        ({"split": "validation"}, "they have been changed since"),
        ({"checkpoint": "step_00000005"}, "`step` is not that of"),
        ({"checkpoint": "step_00000005", "step": 5}, "from other weights than the checkpoint's"),
    ],
)
def test_figures_that_were_not_computed_from_the_run_are_not_believed(run, values, finding):
    change(run.path / "metrics.json", **values)
    resolved = load_spec(run.spec)
    for read in (
        lambda: load_run(run.path),
        lambda: train_run(resolved, run.path, resume=True),
    ):
        with pytest.raises(RunError, match=r"metrics\.json does not hold the figures") as caught:
            read()
        assert finding in str(caught.value)


NAMES = [f"class {i}" for i in range(10)]


@pytest.mark.parametrize(
    ("values", "finding"),
    [
        ({"std": [0.0]}, "std.0: Input should be greater than 0"),
        ({"std": [float("nan")]}, "it holds NaN"),
        ({"mean": [float("-inf")]}, "it holds -Infinity"),
        ({"mean": ["0.5"]}, "mean.0: Input should be a valid number"),
        ({"std": [1e-60]}, "its `std` is out of the range"),
        ({"std": [0.3, 0.3]}, "its `std` is not for 1 channel"),
        ({"class_names": NAMES[:9]}, "its `class_names` are 9, and the model has 10 outputs"),
        ({"class_names": NAMES}, "not what was saved with"),
        ({"mean": [0.4]}, "not what was saved with"),
    ],
)
def test_a_changed_description_of_the_data_is_refused(run, values, finding):
    change(run.path / "data.json", **values)
    with pytest.raises(RunError) as caught:
        load_run(run.path)
    assert "data.json" in str(caught.value) and finding in str(caught.value)


@pytest.mark.parametrize(
    ("values", "finding"),
    [
        ({"class_names": NAMES}, r"`per_class` are not those of data\.json"),
        ({"fingerprint": "0"}, r"data\.json does not fit the run: its `fingerprint`"),
    ],
)
def test_a_changed_description_in_an_older_run(run, values, finding):
    without_fingerprints(run)
    change(run.path / "data.json", **values)
    with pytest.raises(RunError, match=finding):
        load_run(run.path)


def test_outputs_that_are_not_finite_are_no_figures(run, tmp_path):
    without_fingerprints(run)
    for checkpoint in run.checkpoints:
        weights = average(checkpoint)
        weights["fc.bias"][0] = float("inf")
        safetensors.torch.save_file(weights, checkpoint / "ema.safetensors")
    with pytest.raises(RunError, match="outputs on test are not finite: the loss is nan"):
        evaluate_run(run.path)
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    (found,) = predict_images(run.path, [tmp_path / "a.png"])
    assert (found.classes, found.error) == ((), "the model's outputs are not finite")


def exported(run, tmp_path):
    file = tmp_path / "a.safetensors"
    call("export", run.path, "--format", "safetensors", "-o", file, "--quiet")
    with safetensors.safe_open(file, framework="pt") as opened:
        return opened.metadata(), safetensors.torch.load_file(file)


@pytest.mark.parametrize(
    ("values", "finding"),
    [
        ({"std": [0.0]}, "nifbuild.data: std.0: Input should be greater than 0"),
        ({"std": [float("nan")]}, "nifbuild.data: std.0: Input should be a"),
        ({"class_names": NAMES[:9]}, "its `class_names` are 9, and the model has 10 outputs"),
        ({"class_names": NAMES}, "its header has been changed"),
        ({"mean": [0.4]}, "its header has been changed"),
        ({"mean": [0.4, 0.4]}, "its `mean` is not for 1 channel"),
    ],
)
def test_a_changed_header_is_refused(run, tmp_path, values, finding):
    texts, weights = exported(run, tmp_path)
    texts["nifbuild.data"] = json.dumps({**json.loads(texts["nifbuild.data"]), **values})
    safetensors.torch.save_file(weights, tmp_path / "b.safetensors", texts)
    with pytest.raises(RunError) as caught:
        nifbuild.load(tmp_path / "b.safetensors")
    assert "b.safetensors" in str(caught.value) and finding in str(caught.value)


@pytest.mark.parametrize("dtype", [torch.complex64, torch.int64, torch.bool])
def test_weights_of_another_kind_are_refused(run, tmp_path, dtype):
    without_fingerprints(run)
    texts, weights = exported(run, tmp_path)
    weights["fc.weight"] = (weights["fc.weight"] * 100).to(dtype)
    places = {
        tmp_path / "b.safetensors": lambda: nifbuild.load(tmp_path / "b.safetensors"),
        run.checkpoints[-1] / "ema.safetensors": lambda: load_run(run.path),
    }
    for path, read in places.items():
        safetensors.torch.save_file(weights, path, texts)
        with pytest.raises(RunError, match=re.escape(str(path))) as caught:
            read()
        assert f"fc.weight is {str(dtype)[6:]} in the file and float32" in str(caught.value)


@pytest.mark.parametrize("channels", [10**12, 10**25])
def test_a_small_file_that_asks_for_a_huge_network_is_refused(run, tmp_path, channels):
    texts, weights = exported(run, tmp_path)
    del texts["nifbuild.seal"]
    spec = texts["nifbuild.spec"]
    texts["nifbuild.spec"] = spec.replace("out_channels: 8", f"out_channels: {channels}")
    assert texts["nifbuild.spec"] != spec
    safetensors.torch.save_file(weights, tmp_path / "b.safetensors", texts)
    with pytest.raises(NifbuildError, match=f"b\\.safetensors.*{channels}"):
        nifbuild.load(tmp_path / "b.safetensors")


@pytest.mark.parametrize("length", [0, 2**62, 2**63 + 1, 300])
def test_a_header_of_an_absurd_size(tmp_path, length):
    (tmp_path / "b.safetensors").write_bytes(length.to_bytes(8, "little") + b'{"a": 1}')
    with pytest.raises(RunError, match=r"b\.safetensors cannot be read"):
        nifbuild.load(tmp_path / "b.safetensors")


@pytest.mark.parametrize("name", ["data.json", "metrics.json", "spec.yaml"])
@pytest.mark.parametrize("content", [None, b"\xff\xfe{}", b"[" * 100_000])
def test_files_of_a_run_in_no_form_to_be_read(run, name, content):
    path = run.path / name
    path.unlink()
    path.mkdir() if content is None else path.write_bytes(content)
    done = call("evaluate", run.path, "--checkpoint", "best", "--quiet", "--json")
    assert done.exit_code in (1, 2) and done.exception.__class__ is SystemExit
    (problem,) = json.loads(done.stdout)["problems"]
    assert name in f"{problem['file']} {problem['what']}" or name == "spec.yaml"
