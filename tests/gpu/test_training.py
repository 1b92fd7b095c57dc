"""Training on a CUDA device: mixed precision, resumed runs, NCCL, and what comes of them."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import nifbuild
from nifbuild.errors import InterruptedRun
from nifbuild.spec.resolve import Resolved, load_spec
from nifbuild.train.run import train_run
from tests.tiny_runs import Stop, contents, losses, spec_text

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
DETERMINISTIC = "train.deterministic=true"


def tiny_file(folder: Path) -> Path:
    path = folder / "tiny.yaml"
    path.write_text(spec_text(dropout=True))
    return path


def tiny(folder: Path, *overrides: str) -> Resolved:
    return load_spec(tiny_file(folder), overrides=["train.device=cuda", *overrides])


def train_elsewhere(folder: Path, *options: str, launcher: tuple[str, ...] = ()) -> str:
    """Trains the tiny spec into `folder/run` by a process of its own; what it said on stderr."""
    train = ("-m", "nifbuild", "train", str(tiny_file(folder)), "--out", "run")
    sets = [word for option in ("train.device=cuda", *options) for word in ("--set", option)]
    done = subprocess.run(
        [sys.executable, *launcher, *train, *sets],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_learns_the_digits(precision: str, tmp_path: Path) -> None:
    """As the CPU does in float32: one test image of 359 is 0.28 points."""
    result = nifbuild.train_spec(
        "specs/resnet18_nif.yaml",
        overrides=["vars.width=32", f"train.precision={precision}"],
        device="cuda",
        out=tmp_path / "run",
    )
    assert result.top1 > 0.97
    again = nifbuild.evaluate_run(tmp_path / "run", device="cuda").only
    assert again.top1 == result.top1
    on_cpu = nifbuild.evaluate_run(tmp_path / "run", device="cpu").only
    assert abs(on_cpu.top1 - again.top1) < 0.02


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_repeated_and_resumed_bit_for_bit(precision: str, tmp_path: Path) -> None:
    resolved = tiny(tmp_path, DETERMINISTIC, f"train.precision={precision}")
    train_run(resolved, tmp_path / "whole")
    train_run(resolved, tmp_path / "again")
    assert contents(tmp_path / "again") == contents(tmp_path / "whole")
    with pytest.raises(InterruptedRun):
        train_run(resolved, tmp_path / "parts", report=Stop(at_step=7))
    train_run(resolved, tmp_path / "parts", resume=True)
    whole, parts = contents(tmp_path / "whole"), contents(tmp_path / "parts")
    assert parts[2:] == whole[2:]
    name = "step_00000015/model.safetensors"
    assert parts[0][name] == whole[0][name]


def test_channels_last(tmp_path: Path) -> None:
    train_run(tiny(tmp_path), tmp_path / "plain")
    train_run(tiny(tmp_path, "train.channels_last=true"), tmp_path / "last")
    expected, found = (torch.tensor(losses(tmp_path / name)) for name in ("plain", "last"))
    torch.testing.assert_close(found, expected, atol=0.02, rtol=0.02)


def test_compiled(tmp_path: Path) -> None:
    """In a process of its own, where the compiler's warnings are no errors."""
    assert "without it" not in train_elsewhere(tmp_path, "train.compile=true")
    train_run(tiny(tmp_path), tmp_path / "plain")
    found, expected = (torch.tensor(losses(tmp_path / name)) for name in ("run", "plain"))
    torch.testing.assert_close(found, expected, atol=0.02, rtol=0.02)


def test_a_group_of_one_by_nccl(tmp_path: Path) -> None:
    """One GPU is enough for the library, its buckets and its barriers to be at work."""
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=1")
    train_elsewhere(tmp_path, DETERMINISTIC, launcher=launcher)
    train_run(tiny(tmp_path, DETERMINISTIC), tmp_path / "alone")
    assert losses(tmp_path / "run") == losses(tmp_path / "alone")


def test_what_was_trained_here_goes_anywhere(tmp_path: Path) -> None:
    train_run(tiny(tmp_path, "train.epochs=1", "train.precision=fp16"), tmp_path / "run")
    model = nifbuild.load(tmp_path / "run").eval()
    x = torch.rand(2, 1, 8, 8)
    with torch.no_grad():
        expected = model(x)
        found = model.cuda()(x.cuda()).cpu()
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)
    run = tmp_path / "run"
    nifbuild.export(run, output=tmp_path / "model.safetensors")
    again = nifbuild.load(tmp_path / "model.safetensors").eval()
    with torch.no_grad():
        assert torch.equal(again(x), expected)
