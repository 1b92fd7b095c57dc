import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from nifbuild.errors import RunError
from nifbuild.train import evaluate_run, train_run
from nifbuild.train.memory import num_parameters

# Two convolutions, two normalisations and a linear layer; see conftest.
WIDE = "model.3.kind=standard"


def problem_of(call):
    with pytest.raises(RunError) as caught:
        call()
    (problem,) = caught.value.problems
    assert problem.code == "memory"
    return problem


def test_parameters_are_counted_without_memory(resolve):
    resolved = resolve(WIDE, "model.0.out_channels=1000000")
    convolutions = (9 * 10**6 + 10**6) + (8 * 9 * 10**6 + 8)
    normalisations = 2 * 10**6 + 2 * 8
    assert num_parameters(resolved) == convolutions + normalisations + (8 * 10 + 10)


def test_scales_and_dropped_bodies_are_counted_for_what_they_keep(resolve):
    body = "{op: conv, out_channels: 6, bias: false}, {id: scale, op: layer_scale}"
    residual = f"{{id: r, op: residual, body: [{body}], stochastic_depth: {{rate: 0.5}}}}"
    before = num_parameters(resolve(WIDE))
    after = num_parameters(resolve(WIDE, f"model.2={residual}"))
    assert after - before == 9 * 6 * 6 + 6  # a 3x3 convolution, and a factor for each channel


def test_counting_does_not_load_torchs_compiler():
    """Which takes over a second, at the start of each run."""
    code = """
        import sys
        from nifbuild import load_spec
        from nifbuild.compile import build_skeleton
        for spec in ("resnet18_nif", "everywhere/convnext_tiny"):
            parameters = list(build_skeleton(load_spec(f"specs/{spec}.yaml")).parameters())
            assert parameters and all(p.is_meta for p in parameters)
        assert "torch._dynamo" not in sys.modules
    """
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], cwd=root, check=True, timeout=120)


@pytest.mark.parametrize(
    ("optimizer", "copies"),
    [("{name: adamw}", 4), ("{name: sgd}", 3), ("{name: sgd, momentum: 0}", 2)],
)
@pytest.mark.parametrize("ema", ["null", "0.9"])
def test_a_model_too_large_is_told_before_it_is_built(
    resolve, tmp_path, monkeypatch, optimizer, copies, ema
):
    settings = (WIDE, "model.0.out_channels=1000000", f"train.optimizer={optimizer}")
    resolved = resolve(*settings, f"train.ema={ema}")
    needed = 4 * num_parameters(resolved) * (copies + (ema != "null"))
    monkeypatch.setattr("nifbuild.train.memory._memory_bytes", lambda device: needed - 1)
    problem = problem_of(lambda: train_run(resolved, tmp_path / "run"))
    assert f"the model has {num_parameters(resolved):,} parameters" in problem.what
    assert problem.path == "model" and "fewer channels" in problem.fix
    assert not (tmp_path / "run").exists()
    monkeypatch.setattr("nifbuild.train.memory._memory_bytes", lambda device: needed)
    monkeypatch.setattr("nifbuild.train.run.load_images", lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):  # so far it came
        train_run(resolved, tmp_path / "run")


def test_a_model_beyond_counting(resolve, tmp_path):
    settings = ("model.0.out_channels=100000000000", "model.3.out_channels=100000000000")
    resolved = resolve(WIDE, *settings)
    problem = problem_of(lambda: train_run(resolved, tmp_path / "run"))
    assert problem.what == "the model has more parameters than torch can count"


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"
        ),
    ],
)
def test_an_allocation_that_fails_names_what_to_change(resolve, tmp_path, monkeypatch, error):
    def fail(*arguments):
        raise error

    train_run(resolve("train.epochs=1"), tmp_path / "done")
    monkeypatch.setattr("nifbuild.train.loop.Trainer.train_step", fail)
    problem = problem_of(lambda: train_run(resolve(), tmp_path / "run"))
    assert problem.what.startswith("out of memory with 8 images at once; the model has ")
    assert "--set train.accumulate" in problem.fix
    monkeypatch.setattr("nifbuild.train.trained.evaluate", fail)
    problem = problem_of(lambda: evaluate_run(tmp_path / "done", batch_size=3))
    assert "with 3 images" in problem.what and "--batch-size" in problem.fix


def test_an_allocation_that_really_fails(resolve, tmp_path, monkeypatch):
    def fail(*arguments):
        return torch.empty(2**58)

    monkeypatch.setattr("nifbuild.train.loop.Trainer.train_step", fail)
    assert "out of memory" in problem_of(lambda: train_run(resolve(), tmp_path / "run")).what


def test_other_runtime_errors_are_left_alone(resolve, tmp_path, monkeypatch):
    def fail(*arguments):
        raise RuntimeError("a defect")

    monkeypatch.setattr("nifbuild.train.loop.Trainer.train_step", fail)
    with pytest.raises(RuntimeError, match="a defect"):
        train_run(resolve(), tmp_path / "run")
