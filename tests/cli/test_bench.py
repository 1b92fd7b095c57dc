import functools
import json

import pytest
import torch
import typer
from typer.testing import CliRunner

import nifbuild
from nifbuild.cli.bench import bench
from nifbuild.cli.output import guard

TINY = ("--shape", "2x4x6x5", "--contender", "depthwise-3", "--repeats", 2, "--threads", 1)


@pytest.fixture
def call(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    app = typer.Typer()
    app.command()(guard(bench, lambda: False))
    yield lambda *arguments: CliRunner().invoke(app, [str(a) for a in arguments])
    torch.set_num_threads(threads)


def document(done, said=""):
    assert done.exit_code == 0, done.output
    assert done.stderr == said
    return json.loads(done.stdout)


def test_table(call):
    done = call(*TINY)
    assert done.exit_code == 0, done.output
    assert done.stderr == ""
    for word in ("2x4x6x5", "floor", "this layer", "depthwise 3x3", "fwd+bwd", "crossover"):
        assert word in done.stdout


def test_json_is_one_document_and_nothing_else(call):
    found = document(call(*TINY, "--json"))
    (shape,) = found["shapes"]
    assert [c["name"] for c in shape["contenders"]] == ["implicit_frequency", "depthwise-3"]
    assert shape["contenders"][0]["forward_ms"]["count"] == 2
    environment = found["environment"]
    assert (environment["device"], environment["threads"]) == ("cpu", 1)
    assert (environment["max_repeats"], environment["max_seconds"]) == (2, 5)
    assert environment["precision"] == "float32"


def test_options_have_their_effects(call):
    options = ("--shape", "1x2x3x4", "--contender", "published", "--batch-size", 3)
    options += ("--mixing", "separable", "--dtype", "bfloat16", "--autocast", "--seconds", 0)
    found = document(call(*TINY, *options, "--device", "cpu", "--json"))
    assert found["mixing"] == "separable"
    assert [shape["shape"]["batch"] for shape in found["shapes"]] == [3, 3]
    assert found["environment"]["precision"] == "autocast to bfloat16"
    assert found["environment"]["max_seconds"] == 0
    names = {c["name"]: c for c in found["shapes"][0]["contenders"]}
    assert list(names) == ["implicit_frequency", "depthwise-3", "published"]
    assert names["depthwise-3"]["num_parameters"] == 4 * 9 + 4 * 4
    assert names["depthwise-3"]["forward_ms"]["count"] == 1


def test_defaults(monkeypatch):
    from nifbuild.report.bench.layers import CIFAR_STAGES, IMAGENET_STAGES, LayersRequest

    monkeypatch.setattr(LayersRequest, "measure", lambda request, report: request)
    request = nifbuild.bench()
    assert tuple(request.shapes) == IMAGENET_STAGES + CIFAR_STAGES
    names = [contender.name for contender in request.contenders]
    ordinary = ["depthwise-3", "depthwise-7", "depthwise-31", "depthwise-image", "full-3"]
    assert names == ["published", *ordinary]
    assert request.setting.threads == torch.get_num_threads()
    request = nifbuild.bench(batch_size=2)
    assert {shape.batch for shape in request.shapes} == {2}


def test_growth(call, monkeypatch):
    from nifbuild.report.bench import growth

    small = functools.partial(growth.GrowthRequest, sizes=(4, 8))
    monkeypatch.setattr(growth, "GrowthRequest", small)
    found = document(call("--growth", "--batch-size", 1, "--repeats", 1, "--json"))
    assert [size["size"] for size in found["sizes"]] == [4, 8]
    assert found["sizes"][0]["shape"]["batch"] == 1


def test_step(call, tmp_path):
    spec = tmp_path / "spec.yaml"
    spec.write_text(
        "version: 1\ninput: {channels: 1, size: [8, 8]}\n"
        "model: [global_avg_pool, flatten, {op: linear, out_features: 3}]\n"
    )
    options = ("--step", spec, "--against", spec, "--size", "6x4", "--batch-size", 2)
    found = document(call(*options, "--repeats", 1, "--json"))
    assert [figures["input_shape"] for figures in found["specs"]] == [[1, 6, 4]] * 2
    assert found["batch_size"] == 2
    assert found["environment"]["max_seconds"] == 60
    done = call("--step", spec, "--repeats", 1)
    assert "training step of 32 images of 1x8x8" in done.stdout


def test_data(call, tmp_path):
    spec = tmp_path / "spec.yaml"
    spec.write_text(
        "version: 1\ninput: {channels: 1, size: [8, 8]}\ndata: {source: digits}\n"
        "model: [global_avg_pool, flatten, {op: linear, out_features: 10}]\n"
    )
    options = ("--data", spec, "--size", "6x4", "--batch-size", 2, "--repeats", 1)
    found = document(call(*options, "--model-speed", 1000, "--json"))
    assert (found["batch"], found["images"], found["input_shape"]) == (2, 20, [1, 6, 4])
    assert found["model_images_per_second"] == 1000
    assert found["environment"]["max_seconds"] == 60
    assert "images of spec, 2 at once, at 1x6x4" in call(*options).stdout


def test_plot(call, tmp_path):
    done = call(*TINY, "--plot", "plot.png", "--json")
    document(done, "wrote plot.png\n")
    assert (tmp_path / "plot.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize(
    ("options", "what", "fix"),
    [
        (("--shape", "3x"), "--shape 3x: '3x' is no shape", "32x64x56x56"),
        (("--shape", "3x4x0x5"), "'3x4x0x5' is no shape", "32x64x56x56"),
        (
            ("--contender", "depthwise-8"),
            "unknown contender 'depthwise-8'",
            "K is odd: 'depthwise-7' or 'depthwise-9'",
        ),
        (("--contender", "fused"), "--contender fused: needs a CUDA device", "leave it out"),
        (("--contender", "depthwise-7-chanels-last"), "unknown contender", "depthwise-7-channels"),
        (("--contender", "publishd"), "unknown contender", "did you mean 'published'"),
        (("--device", "gpu"), "unknown device 'gpu'", "auto, cpu, cuda"),
        (("--device", "cuda:99"), "'cuda:99' is not available", "--device cpu"),
        (("--autocast",), "autocast to float32 changes nothing", "--dtype bfloat16"),
        (("--plot", "nowhere/plot.png"), "cannot write to nowhere/plot.png", "a directory"),
        (("--plot", "plot.jpg"), "'plot.jpg' names no known format", ".png, .pdf, .svg"),
        (("--size", "8"), "has no effect without --step", "add --step SPEC"),
        (("--against", "spec.yaml"), "has no effect without --step", "add --step SPEC"),
        (("--growth", "--shape", "1x1x4x4"), "has no effect with --growth", "leave out --shape"),
        (("--growth", "--mixing", "separable"), "has no effect with --growth", "leave out"),
        (("--overhead", "s.yaml", "--plot", "x.png"), "has no effect with --overhead", "leave out"),
        (("--overhead", "s.yaml", "--dtype", "bfloat16"), "keeps weights in float32", "--autocast"),
        (("--step", "s.yaml", "--overhead", "s.yaml"), "has no effect with --step", "leave out"),
        (("--step", "s.yaml", "--growth"), "has no effect with --step", "leave out --growth"),
        (("--step", "s.yaml", "--contender", "full-3"), "has no effect with --step", "leave out"),
        (("--step", "s.yaml", "--size", "8x"), "'8x' is no size", "224x192"),
        (("--step", "nowhere.yaml"), "nowhere.yaml: no such file", ""),
        (("--data", "nowhere.yaml"), "nowhere.yaml: no such file", ""),
        (("--data", "s.yaml", "--dtype", "float16"), "--dtype: has no effect with --data", "leave"),
        (("--data", "s.yaml", "--autocast"), "--autocast: has no effect with --data", "leave out"),
        (("--data", "s.yaml", "--plot", "x.png"), "has no effect with --data", "leave out"),
        (("--model-speed", "3"), "--model-speed: has no effect without --data", "add --data SPEC"),
        (("--step", "s.yaml", "--data", "s.yaml"), "has no effect with --step", "leave out --data"),
    ],
)
def test_wrong_options_are_one_clear_error(call, options, what, fix):
    done = call(*options)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert done.stderr.count("error:") == 1
    assert "Traceback" not in done.stderr
    head, _, rest = done.stderr.partition("\n")
    assert what in head
    assert fix in rest


@pytest.mark.parametrize(
    "options",
    [("--dtype", "float8"), ("--mixing", "full"), ("--repeats", 0), ("--threads", 0)],
)
def test_values_out_of_range(call, options):
    done = call(*options)
    assert done.exit_code == 2
    assert options[0] in done.stderr


def test_what_does_not_fit_is_one_clear_error(call):
    done = call("--shape", "100000x1000x1000x1000")
    assert done.exit_code == 1
    (head,) = done.stderr.splitlines()
    assert head.startswith("error: 100000x1000x1000x1000 cannot be measured: ")


def test_all_that_is_wrong_is_said_at_once(call):
    done = call("--shape", "3x", "--shape", "4x", "--device", "gpu", "--json")
    assert done.exit_code == 2
    problems = json.loads(done.stdout)["problems"]
    assert [p["file"] for p in problems] == ["--device gpu", "--shape 3x", "--shape 4x"]
    assert {p["code"] for p in problems} == {"option"}


def test_a_refused_plot_leaves_no_file_and_an_old_one_as_it_was(call, tmp_path):
    (tmp_path / "old.png").write_bytes(b"old")
    assert call("--plot", "new.png", "--shape", "3x").exit_code == 2
    assert call("--plot", "old.png", "--shape", "3x").exit_code == 2
    assert not (tmp_path / "new.png").exists()
    assert (tmp_path / "old.png").read_bytes() == b"old"
