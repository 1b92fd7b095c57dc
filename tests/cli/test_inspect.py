import json
import time
from typing import get_args

import pytest
import torch
from rich.cells import cell_len

from nifbuild.report.inspect import OptimizerOption
from nifbuild.report.inspect.targets import BOUND
from nifbuild.spec.optimizers import OPTIMIZERS
from tests.cli.in_process import ROOT, nifbuild

NIF = "specs/resnet18_nif.yaml"


SMALL = """
version: 1
name: small
input: {channels: 3, size: [16, 16]}
model:
  - {id: conv1, op: conv, out_channels: 16}
  - {id: conv2, op: conv, out_channels: 32, kind: KIND}
  - relu
  - global_avg_pool
  - flatten
  - {op: linear, out_features: 10}
"""


@pytest.fixture
def small(tmp_path):
    """A few layers, one of them implicit: the shipped networks take a second each."""
    for name in ("standard", "implicit_frequency"):
        (tmp_path / f"{name}.yaml").write_text(SMALL.replace("KIND", name))
    return str(tmp_path / "implicit_frequency.yaml"), str(tmp_path / "standard.yaml")


def document(*arguments: str, code: int = 0):
    done = nifbuild("inspect", *arguments, "--json")
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


def test_each_optimizer_may_be_named():
    choice = get_args(OptimizerOption)[0]
    assert get_args(get_args(choice)[0]) == tuple(OPTIMIZERS)


def test_json():
    found = document(NIF, "--batch-size", "4,8", "--precision", "bf16", "--optimizer", "sgd")
    assert (found["params"], found["trainable_params"]) == (2_843_962, 2_843_962)
    assert found["equivalent_dense_params"] > found["params"]
    assert found["macs"] == sum(layer["macs"] for layer in found["layers"])
    assert sum(found["macs_by_part"].values()) == found["macs"]
    assert (found["batch_size"], found["precision"], found["optimizer"]) == (4, "bf16", "sgd")
    assert [batch["batch_size"] for batch in found["batches"]] == [4, 8]
    assert found["memory"] == found["batches"][0]["memory"]
    memory = found["memory"]
    assert memory["gradients_bytes"] == memory["optimizer_bytes"] == memory["weights_bytes"]
    assert memory["train_peak_bytes"] > memory["inference_peak_bytes"] > memory["weights_bytes"]
    conv = next(layer for layer in found["layers"] if layer["path"] == "layer1.0.conv2")
    assert (conv["op"], conv["kind"]) == ("conv", "implicit_frequency")
    assert conv["output_shape"] == [64, 16, 16] and conv["saved_fixed_bytes"] > 0
    assert conv["file"].endswith("specs/architectures/resnet18.yaml")
    text = (ROOT / conv["file"]).read_text().splitlines()[conv["line"] - 1]
    assert "id: conv2" in text
    assert found["uncounted"] == [] and "batch_norm" in found["counted_as_zero"]
    assert found["budget"] == {}


def test_the_spec_says_batch_size_precision_and_device(small):
    settings = ["train.batch_size=12", "train.accumulate=2", "train.precision=bf16"]
    flags = [word for s in [*settings, "train.device=cpu"] for word in ("--set", s)]
    found = document(small[0], *flags)
    assert (found["batch_size"], found["precision"], found["device"]) == (6, "bf16", "cpu")
    assert document(small[0], "--batch-size", "2")["device"] == "cuda"


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("spec", ["resnet18_nif", "architectures/convnext_tiny"])
def test_tables_fit_the_terminal(spec, width):
    done = nifbuild("inspect", f"specs/{spec}.yaml", "--batch-size", "4", width=width)
    assert done.returncode == 0 and done.stderr == ""
    lines = done.stdout.splitlines()
    assert max(cell_len(line) for line in lines) <= width
    assert "training peak" in done.stdout and "Multiply-adds: counted as 0" in done.stdout
    assert ("fixed" in done.stdout) == (width == 120)
    # Of two files of one name, which of them has these lines is said.
    home = "architectures/resnet18.yaml" if spec == "resnet18_nif" else "convnext_tiny.yaml"
    assert (f"; line in {home}" in done.stdout) == (width == 120)


def test_repeated_blocks_are_one():
    done = nifbuild("inspect", "specs/architectures/resnet101.yaml", "--batch-size", "4")
    rows = [line.split() for line in done.stdout.splitlines() if line.startswith("layer3")]
    conv = [row for row in rows if row[0].endswith("conv2")]
    assert [row[0] for row in conv] == ["layer3.0.conv2", "layer3.1-22.conv2"]
    assert conv[1][1:4] == ["22", "conv", "256x14x14"]


def test_flags_set_budgets():
    flags = ["--max-params", "1M", "--max-macs", "1G", "--max-train-memory", "1MiB"]
    done = nifbuild("inspect", NIF, "--batch-size", "4", *flags)
    assert done.returncode == 3
    assert "2.84 M parameters exceed the budget of 1 M" in done.stderr
    assert "2,843,962 > 1,000,000" in done.stderr and "training memory" in done.stderr
    both = nifbuild("inspect", NIF, "specs/resnet18.yaml", "--max-params", "5M")
    assert both.returncode == 3 and "specs/resnet18.yaml: 11.2 M parameters exceed" in both.stderr
    assert "multiply-adds" not in done.stderr and "training peak" in done.stdout
    budget = document(NIF, "--batch-size", "4", *flags, code=3)["budget"]
    assert budget["max_params"] == {"limit": 10**6, "value": 2_843_962, "ok": False}
    assert budget["max_macs"]["ok"] and not budget["max_train_memory"]["ok"]


def test_the_spec_sets_budgets(tmp_path):
    path = tmp_path / "tight.yaml"
    path.write_text(f"extends: {ROOT / NIF}\nbudget:\n  max_params: 2M\n  max_train_memory: 8GiB\n")
    done = nifbuild("inspect", str(path), "--batch-size", "4")
    assert done.returncode == 3
    assert f"{path}:3:15: budget.max_params: 2.84 M parameters exceed" in done.stderr
    assert "max_train_memory" not in done.stderr
    assert nifbuild("inspect", str(path), "--batch-size", "4", "--max-params", "3M").returncode == 0
    assert "max_params: 2000000" in nifbuild("resolve", str(path)).stdout
    path.write_text(f"extends: {ROOT / NIF}\nbudget: {{max_params: 2X}}\n")
    done = nifbuild("validate", str(path))
    assert done.returncode == 2 and "expected a number such as 12M or 1.5G" in done.stderr


def test_against():
    arguments = ["specs/resnet18.yaml", "--against", NIF, "--batch-size", "4"]
    found = document(*arguments)["against"]
    assert found["name"] == "resnet18_nif" and found["params"] == 2_843_962
    assert found["difference"]["params"] == 2_843_962 - 11_173_962
    assert found["difference"]["memory"]["weights_bytes"] == 4 * found["difference"]["params"]
    assert len(found["layers"]) == 13
    assert {layer["other"]["kind"] for layer in found["layers"]} == {"implicit_frequency"}
    done = nifbuild("inspect", *arguments, width=80)
    assert "modules that differ" in done.stdout and "-74.5%" in done.stdout
    same = nifbuild("inspect", NIF, "--against", NIF, "--batch-size", "4")
    assert "modules that differ" not in same.stdout and "same" in same.stdout
    assert "alone" not in same.stdout
    narrow = nifbuild("inspect", *arguments, "--set", "vars.width=8", width=80)
    assert "--set vars.width=8: for the first, resnet18, alone." in narrow.stdout


def test_the_largest_batch(tmp_path):
    path = tmp_path / "small.yaml"
    body = "[{op: conv, out_channels: 8, kind: implicit_frequency}, relu, global_avg_pool, flatten]"
    path.write_text(f"version: 1\ninput: {{size: [32, 32]}}\nmodel: {body}\n")
    found = document(str(path), "--device-memory", "16MiB")["largest_batch"]
    assert found["device_memory_bytes"] == 2**24 >= found["train_peak_bytes"] > 0.98 * 2**24
    done = nifbuild("inspect", str(path), "--device-memory", "16MiB")
    assert f"Largest batch in 16 MiB: {found['batch_size']} images" in done.stdout
    done = nifbuild("inspect", str(path), "--device-memory", "10KiB")
    assert done.returncode == 2 and "the device has 10 KiB" in done.stderr


def test_markdown(small):
    done = nifbuild("inspect", small[0], "--batch-size", "4", "--markdown")
    lines = done.stdout.splitlines()
    assert lines[2].startswith("| module | n | op | output | params |")
    assert lines[3].startswith("| :-- | :-- | :-- | :-- | --: |")
    assert all(line.count("|") == lines[2].count("|") for line in lines[3:8])


def test_verify(small):
    found = document(small[0], "--batch-size", "4,16", "--verify", "--device", "cpu")["verified"]
    assert [entry["batch_size"] for entry in found] == [4, 16]
    for entry in found:
        measured, predicted = entry["measured_peak_bytes"], entry["predicted_peak_bytes"]
        assert entry["error"] == pytest.approx(predicted / measured - 1)
        assert abs(entry["error"]) < BOUND and abs(entry["inference_error"]) < BOUND
    done = nifbuild("inspect", small[0], "--batch-size", "4", "--verify", "--device", "cpu")
    assert "predicted peaks on cpu" in done.stdout


def test_a_prediction_for_a_cpu_says_for_which(small, monkeypatch):
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "SSE41")
    arguments = [small[0], "--batch-size", "4", "--device"]
    machine = document(*arguments, "cpu")["machine"]
    assert machine["instruction_set"] == torch.backends.cpu.get_cpu_capability()
    assert (machine["onednn_limit"], machine["threads"]) == ("SSE41", torch.get_num_threads())
    assert f"{machine['instruction_set']}, oneDNN with SSE41 at most" in nifbuild(
        "inspect", *arguments, "cpu"
    ).stdout.replace("\n", " ")
    assert document(*arguments, "cuda")["machine"] is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batch-size", "4,x"], "--batch-size: expected whole numbers from 1 to 10,000,000, got"),
        (["--batch-size", "0"], "expected whole numbers from 1 to"),
        (["--max-params", "12Q"], "--max-params: expected a number such as 12M or 1.5G"),
        (["--device-memory", "24G"], "--device-memory: expected a size such as 8GiB or 500MB"),
        (["--precision", "fp16", "--device", "cpu"], "fp16 needs a GPU"),
    ],
)
def test_wrong_options(arguments, message):
    done = nifbuild("inspect", NIF, *arguments)
    assert done.returncode == 2 and message in done.stderr and done.stdout == ""


def test_a_hundred_billion_parameters(tmp_path):
    path = tmp_path / "huge.yaml"
    path.write_text(
        "version: 1\ninput: {size: [64, 64]}\nmodel:\n"
        "  - {op: conv, out_channels: 8192, kernel_size: 3, stride: 4}\n"
        "  - {id: block, op: residual, repeat: 166, body: [{op: conv}, {op: batch_norm}, relu]}\n"
        "  - global_avg_pool\n  - flatten\n  - {op: linear, out_features: 1000}\n"
    )
    start = time.monotonic()
    found = document(str(path), "--batch-size", "8")
    assert found["params"] > 10**11 and found["memory"]["train_peak_bytes"] > 16 * 10**11
    assert time.monotonic() - start < 60  # seconds on a machine that does nothing else


def test_several_specs(small):
    options = ["--batch-size", "2,4", "--device", "cpu"]
    found = document(*small, *options)["specs"]
    assert [entry["file"] for entry in found] == list(small)
    assert found[0] == {"file": small[0], **document(small[0], *options)}
    done = nifbuild("inspect", *small, *options, "--max-params", "4k", "--verify", "--markdown")
    assert done.returncode == 3 and "5.42 k parameters exceed" in done.stderr
    rows = [line.split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")]
    peaks = ["predicted peak", "measured", "error", "inference peak", "measured", "error |"]
    assert rows[0][3:] == ["batch", *peaks]
    assert rows[2][:2] == [f"| {small[0]}", "2.04 k"] and rows[2][3] == "2"
    assert [row[3] for row in rows[2:]] == ["2", "4", "2", "4"]
    done = nifbuild("inspect", *small, "--against", small[0])
    assert done.returncode == 2 and "--against is for one spec" in done.stderr
