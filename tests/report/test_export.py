"""Files for other programs: what they compute, and what is refused."""

import importlib.util
import json
import logging
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch
import typer
from typer.testing import CliRunner

import nifbuild
from nifbuild.cli.export import export
from nifbuild.cli.output import guard
from nifbuild.report.export import formats
from nifbuild.report.export.exported import write_source
from nifbuild.report.export.formats import Written
from nifbuild.report.export.source import Source
from nifbuild.spec.resolve import load_spec

PAPER = [
    path
    for path in sorted((Path(__file__).parents[2] / "specs/paper").glob("*.yaml"))
    if not path.stem.startswith("resnet101")  # a ResNet-50 with more blocks
]

SPEC = """
version: 1
name: fresh
input: {channels: 3, size: [6, 8]}
model:
  - {op: conv, out_channels: 4, kernel_size: 3, kind: implicit_frequency}
  - {op: global_avg_pool}
  - {op: flatten}
  - {op: linear, out_features: 5}
"""


@pytest.fixture(autouse=True)
def _no_trace_logs(monkeypatch):
    """Where any handler listens, as pytest's does, torch writes its graphs out at each step."""
    monkeypatch.setattr(logging.getLogger("torch.__trace"), "propagate", False)


@pytest.fixture(scope="module")
def call(trained_run, tmp_path_factory):
    """Runs the command in a folder of this module's own, where `run` is a trained run."""
    app = typer.Typer()
    app.command()(guard(export, lambda: False))
    folder = tmp_path_factory.mktemp("export")
    (folder / "run").symlink_to(trained_run)
    (folder / "fresh.yaml").write_text(SPEC)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield lambda *arguments: CliRunner().invoke(app, [str(a) for a in arguments])


def document(done):
    assert done.exit_code == 0, done.output
    assert done.stderr == ""
    return json.loads(done.stdout)


def onnx_session(path):
    onnxruntime = pytest.importorskip("onnxruntime")
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


@torch.no_grad()
def logits(path, images):
    return nifbuild.load(path)(images)


def test_onnx_of_a_run(call):
    session_of = onnx_session
    found = document(call("run", "--format", "onnx", "--json", "-q"))
    assert found["file"] == "tiny.onnx" and found["input_shape"] == [None, 1, 8, 8]
    assert found["max_difference"] < 1e-4 and found["checked_on"] == "8 images of test"
    session = session_of("tiny.onnx")
    for batch in (1, 5):
        images = torch.randn(batch, 1, 8, 8)
        (ours,) = session.run(["logits"], {"images": images.numpy()})
        np.testing.assert_allclose(ours, logits("run", images), atol=1e-4, rtol=0)
    told = session.get_modelmeta().custom_metadata_map
    assert told["nifbuild.spec"] == nifbuild.load("run").resolved.text
    assert json.loads(told["nifbuild.data"])["class_names"] == [str(i) for i in range(10)]
    import onnx

    opset = {entry.domain: entry.version for entry in onnx.load("tiny.onnx").opset_import}[""]
    assert found["opset"] == opset >= 18


@pytest.mark.parametrize("form", ["onnx", "torch"])
def test_from_pixels_to_probabilities(call, form):
    """What the file says of itself is all that one has to know."""
    path = {"onnx": "whole.onnx", "torch": "whole.pt2"}[form]
    found = document(call("run", "--format", form, "--end-to-end", "-o", path, "--json", "-q"))
    assert "values from 0 to 255" in found["feed"] and "10 classes" in found["feed"]
    pixels = torch.randint(0, 256, (3, 1, 8, 8)).float()
    model = nifbuild.load("run")
    with torch.no_grad():
        expected = model((pixels / 255 - model.mean) / model.std).softmax(1)
        if form == "torch":
            ours = torch.export.load(path).module()(pixels)
        else:
            session = onnx_session(path)
            (ours,) = session.run(["probabilities"], {"images": pixels.numpy()})
    torch.testing.assert_close(torch.as_tensor(ours), expected, atol=1e-5, rtol=0)


def test_the_axes_of_onnx_have_names(call):
    session = onnx_session(document(call("run", "-o", "axes.onnx", "--json", "-q"))["file"])
    assert session.get_inputs()[0].shape == ["batch", 1, 8, 8]
    assert session.get_outputs()[0].shape == ["batch", 10]


@pytest.mark.parametrize(
    ("filters", "has", "has_not"), [("dft", "MatMul", "Pad"), ("conv", "Pad", "Split")]
)
def test_how_filters_are_written(call, filters, has, has_not):
    onnx = pytest.importorskip("onnx")
    path = f"{filters}.onnx"
    arguments = ("--filters", filters, "--batch", 3, "--size", "6x8", "-o", path)
    found = document(call("run", *arguments, "--json", "-q"))
    assert found["input_shape"] == [3, 1, 6, 8] and found["filters"] == filters
    images = torch.randn(3, 1, 6, 8)
    (ours,) = onnx_session(path).run(["logits"], {"images": images.numpy()})
    np.testing.assert_allclose(ours, logits("run", images), atol=1e-4, rtol=0)
    ops = {node.op_type for node in onnx.load(path).graph.node}
    assert has in ops and has_not not in ops


def test_a_spec_with_fresh_weights(call):
    pytest.importorskip("onnxscript")
    done = call("fresh.yaml", "-o", "fresh.onnx")
    assert done.exit_code == 0, done.output
    for word in ("fresh.onnx: opset", "batch any", "images 3x6x8", "8 images of noise", "differs"):
        assert word in done.stdout
    assert done.stderr.startswith("writing fresh.onnx with weights that are not trained, which may")


def test_a_spec_that_comes_with_nifbuild(call):
    done = call("specs/resnet18_nif", "--format", "safetensors", "-o", "shipped.safetensors")
    assert done.exit_code == 2 and "did you mean nifbuild:resnet18_nif?" in done.stderr
    done = call("resnet18_nif", "--format", "safetensors", "-o", "shipped.safetensors")
    assert (
        done.exit_code == 0 and nifbuild.load("shipped.safetensors").resolved.name == "resnet18_nif"
    )


POOLS = """
version: 1
name: pools
input: {channels: 3, size: [11, 8]}
model:
  - {op: conv, out_channels: 4}
  - grn
  - {op: adaptive_max_pool, output_size: [5, 9]}
  - {op: conv, out_channels: 4}
  - {op: adaptive_avg_pool, output_size: [3, 2]}
  - flatten
  - {op: linear, out_features: 5}
"""


def test_pools_to_a_size_that_does_not_divide_the_images(call):
    pytest.importorskip("onnxscript")
    Path("pools.yaml").write_text(POOLS)
    found = document(call("pools.yaml", "--format", "onnx", "--json", "-q"))
    assert found["max_difference"] < 1e-5


def test_weights_beyond_one_file_lie_beside_it(call, monkeypatch):
    pytest.importorskip("onnxscript")
    monkeypatch.setattr(formats, "ONE_FILE_BYTES", 10)
    found = document(call("fresh.yaml", "-o", "large.onnx", "--json", "-q"))
    files = [Path("large.onnx"), Path("large.onnx.data")]
    assert found["file_bytes"] == sum(file.stat().st_size for file in files)
    onnx_session("large.onnx")


def test_torch_of_a_run(call):
    found = document(call("run", "--format", "torch", "--json", "-q"))
    assert found["max_difference"] < 1e-4
    module = torch.export.load(found["file"]).module()
    for batch in (1, 5):
        images = torch.randn(batch, 1, 8, 8)
        with torch.no_grad():
            torch.testing.assert_close(module(images), logits("run", images), atol=1e-4, rtol=0)


def test_safetensors_rebuild_the_model(call, tmp_path):
    words = ["run", "--format", "safetensors", "--json", "-q"]
    assert document(call(*words, "--out", "named.safetensors"))["file"] == "named.safetensors"
    found = document(call(*words))
    assert found["file"] == "tiny.safetensors" and found["filters"] is None
    shutil.copy("tiny.safetensors", tmp_path / "alone.safetensors")
    loaded, run = nifbuild.load(tmp_path / "alone.safetensors"), nifbuild.load("run")
    assert not any(module.training for module in loaded.modules())
    assert loaded.class_names == run.class_names == tuple(str(i) for i in range(10))
    assert loaded.resolved.text == run.resolved.text
    pixels = torch.randint(0, 256, (2, 1, 8, 8), dtype=torch.uint8)
    told = json.loads(Path("run/data.json").read_text())
    by_hand = (pixels / 255 - told["mean"][0]) / told["std"][0]
    torch.testing.assert_close(loaded.normalize(pixels), by_hand)
    with torch.no_grad():
        torch.testing.assert_close(loaded(by_hand), run(by_hand))
    assert set(loaded.model.state_dict()) == set(safetensors.torch.load_file("tiny.safetensors"))


@pytest.mark.parametrize(
    ("write", "kind", "words"),
    [
        (lambda path: None, nifbuild.errors.SpecError, "there is no"),
        (lambda path: path.write_bytes(b"no"), nifbuild.errors.RunError, "cannot be read"),
        (
            lambda path: safetensors.torch.save_file({"a": torch.zeros(1)}, path),
            nifbuild.errors.SpecError,
            "holds weights and no spec",
        ),
        (
            lambda path: safetensors.torch.save_file(
                {"a": torch.zeros(1)}, path, {"nifbuild.spec": SPEC, "nifbuild.data": "{}"}
            ),
            nifbuild.errors.RunError,
            "class_names",
        ),
    ],
)
def test_load_says_what_is_wrong(tmp_path, write, kind, words):
    write(tmp_path / "file.safetensors")
    with pytest.raises(kind, match=words):
        nifbuild.load(tmp_path / "file.safetensors")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("nowhere",), 2, "no such file or folder, and nothing of this name comes with"),
        (("runn",), 2, "did you mean 'run'?"),
        (("nifbuild:resnet18_nift",), 2, "did you mean 'resnet18_nif'?"),
        (("run", "-o", "model.foo"), 2, "the ending .foo says no format"),
        (("run", "--format", "onnx", "-o", "model.pt"), 2, "would be a file of --format onnx"),
        (("taken",), 2, "neither a run directory nor a YAML spec"),
        (("unfinished",), 2, "the training of unfinished is not complete"),
        (("run", "-o", "taken"), 2, "taken exists"),
        (("run", "-o", "."), 2, "tiny.onnx exists"),
        (("run", "-o", "no/folder.onnx"), 2, "there is no folder no"),
        (("run", "--batch", "some"), 2, "'some' is no batch"),
        (("run", "--batch", "0"), 2, "'0' is no batch"),
        (("run", "--size", "8y"), 2, "'8y' is no size"),
        (("run", "--format", "safetensors", "--batch", "2"), 2, "--batch: it has no effect"),
        (("run", "--format", "safetensors", "--filters", "dft"), 2, "--filters: it has no effect"),
        (("run", "--format", "safetensors", "--size", "9"), 2, "--size: it has no effect"),
        (("fresh.yaml", "--format", "safetensors", "-o", "/proc/a"), 2, "cannot write to /proc/a"),
    ],
)
def test_bad_input_is_one_message(call, arguments, code, words):
    for name in ("taken", "tiny.onnx"):
        Path(name).touch()
    if arguments[0] == "unfinished":
        shutil.copytree("run", "unfinished")
        Path("unfinished/metrics.json").unlink()
    done = call(*arguments, "-q")
    assert done.exit_code == code
    assert words in done.stderr and done.stderr.count("error:") == 1


@pytest.mark.parametrize("name", ["named", "named/", "named.onnx"])
def test_a_name_that_is_not_of_the_format(call, name):
    done = call("fresh.yaml", "--format", "safetensors", "-o", name, "-q")
    assert done.exit_code == 2 and not Path(name).exists()
    told = "make the folder first, or write named.safetensors"
    if name == "named.onnx":
        told = "end it in .safetensors, or give --format onnx"
    assert told in done.stderr


def test_the_name_says_the_format(call):
    done = call("fresh.yaml", "-o", "by_name.safetensors", "-q")
    assert done.exit_code == 0, done.stderr
    assert nifbuild.load("by_name.safetensors").resolved.name == "fresh"
    Path("cut.bin").write_bytes(Path("by_name.safetensors").read_bytes()[:-9])
    with pytest.raises(
        nifbuild.errors.RunError, match="export --format safetensors` writes, can be loaded"
    ):
        nifbuild.load("cut.bin")


def test_missing_packages_are_named(call, monkeypatch):
    find = importlib.util.find_spec
    hidden = ("onnxscript", "onnxruntime")
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: None if n in hidden else find(n))
    done = call("run", "--format", "onnx")
    assert done.exit_code == 2
    assert "needs onnxscript, onnxruntime" in done.stderr
    assert "pip install 'nifbuild[export]'" in done.stderr


@pytest.mark.parametrize("wrong", [0.01, float("nan")])
def test_a_file_that_computes_something_else_is_removed(call, monkeypatch, wrong):
    def write(path, source):
        path.touch()
        return Written(lambda images: source.model(images).detach() + wrong, {"checked_with": "x"})

    monkeypatch.setattr("nifbuild.report.export.exported.write_safetensors", write)
    Path("bad.safetensors").write_text("before")
    done = call("fresh.yaml", "--format", "safetensors", "-o", "bad.safetensors", "--overwrite")
    assert done.exit_code == 1 and "x differs from the model by" in done.stderr
    assert Path("bad.safetensors").read_text() == "before"  # what was there is not lost
    assert not list(Path().glob(".writing_*"))


def export_paper_model(spec, size, filters, batch, tmp_path):
    """With running statistics of a real pass, so that outputs are neither tiny nor huge."""
    pytest.importorskip("onnxscript")
    resolved = load_spec(spec, overrides=[f"input.size=[{size}, {size}]"])
    model = nifbuild.build_model(resolved)
    with torch.no_grad():
        model.train()(torch.randn(8, 3, size, size))
    source = Source(model.eval(), resolved, (), torch.zeros(3), torch.ones(3))
    path = tmp_path / f"{size}.onnx"
    written = write_source(source, "onnx", path, batch=batch, filters=filters)
    assert written.difference < 1e-4 and written.largest_output > 1e-3
    images = torch.randn(batch or 3, 3, size, size)
    (ours,) = onnx_session(path).run(None, {"images": images.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(ours, model(images), atol=1e-4, rtol=0)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("path", PAPER, ids=lambda path: path.stem)
def test_every_model_of_the_paper_at_two_sizes(path, tmp_path):
    """With two blocks in each stage where there are more: the others are like the second."""
    assert len(PAPER) == 8
    text = re.sub(r"\n +expect: \d+", "", path.read_text())
    text = text.replace("extends: ../", f"extends: {path.parents[1]}/")
    if not path.stem.startswith("mobilenet"):
        text += "vars: {depths: [2, 2, 2, 2]}\n"
    spec = tmp_path / path.name
    spec.write_text(text)
    export_paper_model(spec, 64, "auto", None, tmp_path)
    export_paper_model(spec, 96, "auto", 1, tmp_path)
