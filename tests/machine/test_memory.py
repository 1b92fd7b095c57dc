import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner

from nifbuild import evaluate_run
from nifbuild.cli.output import guard
from nifbuild.cli.train import train
from nifbuild.errors import Problem, RunError, SpecError
from nifbuild.machine.memory import (
    OutOfMemory,
    free_memory,
    num_parameters,
    require_memory,
    total_memory,
)
from nifbuild.report.inspect.prediction import predict
from nifbuild.report.inspect.shortage import explain_shortage
from nifbuild.report.inspect.targets import Target
from nifbuild.report.show.units import bytes_text
from nifbuild.spec.resolve import load_spec
from nifbuild.train.run import train_run

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
    [
        ("{name: adamw}", 4),
        ("{name: rmsprop}", 4),
        ("{name: sgd}", 3),
        ("{name: sgd, momentum: 0}", 2),
    ],
)
@pytest.mark.parametrize("ema", ["null", "0.9"])
def test_a_model_too_large_is_told_before_it_is_built(
    resolve, tmp_path, monkeypatch, optimizer, copies, ema
):
    settings = (WIDE, "model.0.out_channels=1000000", f"train.optimizer={optimizer}")
    resolved = resolve(*settings, f"train.ema={ema}")
    needed = 4 * num_parameters(resolved) * (copies + (ema != "null"))
    monkeypatch.setattr("nifbuild.machine.memory.total_memory", lambda device: needed - 1)
    problem = problem_of(lambda: train_run(resolved, tmp_path / "run"))
    assert f"the model has {num_parameters(resolved):,} parameters" in problem.what
    assert problem.path == "model" and "fewer channels" in problem.fix
    assert not (tmp_path / "run").exists()
    monkeypatch.setattr("nifbuild.machine.memory.total_memory", lambda device: needed)
    monkeypatch.setattr("nifbuild.train.run.load_images", lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):  # so far it came
        train_run(resolved, tmp_path / "run")


@pytest.mark.parametrize(
    ("fsdp", "local", "share"),
    [
        (False, 2, 2),  # each of two processes keeps all of it
        (True, 2, 1),
        (False, 1, 1),  # each on a machine of its own
        (True, 1, 1 / 2),
    ],
)
def test_what_processes_keep_together(resolve, monkeypatch, fsdp, local, share):
    environment = {"WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": local, "ACCELERATE_USE_FSDP": fsdp}
    for name, value in environment.items():
        monkeypatch.setenv(name, str(value).lower())
    resolved = resolve(WIDE)
    needed = round(4 * num_parameters(resolved) * 4 * share)
    cpu = torch.device("cpu")
    monkeypatch.setattr("nifbuild.machine.memory.total_memory", lambda device: needed)
    require_memory(resolved, cpu)
    monkeypatch.setattr("nifbuild.machine.memory.total_memory", lambda device: needed - 1)
    problem = problem_of(lambda: require_memory(resolved, cpu))
    assert ("in 2 processes" in problem.what) == (local == 2)
    assert ("shared out over 2" in problem.what) == fsdp
    # GPUs have memory of their own: their number on a machine makes no difference.
    gpu = torch.device("cuda")
    needed = round(4 * num_parameters(resolved) * 4 / (2 if fsdp else 1))
    monkeypatch.setattr("nifbuild.machine.memory.total_memory", lambda device: needed)
    require_memory(resolved, gpu)
    monkeypatch.setattr("nifbuild.machine.memory.total_memory", lambda device: needed - 1)
    problem_of(lambda: require_memory(resolved, gpu))


def test_a_model_beyond_counting(resolve, tmp_path):
    resolved = resolve(WIDE, "model.3.kernel_size=100000000001")
    with pytest.raises(SpecError) as caught:
        train_run(resolved, tmp_path / "run")
    assert "conv has more weights than torch can count" in str(caught.value)
    assert not (tmp_path / "run").exists()


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
    monkeypatch.setattr("nifbuild.train.step.TrainingStep.__call__", fail)
    problem = problem_of(lambda: train_run(resolve(), tmp_path / "run"))
    assert problem.what.startswith("out of memory with 8 images at once; the model has ")
    assert "--set train.accumulate" in problem.fix
    monkeypatch.setattr("nifbuild.evaluate.evaluator.evaluate", fail)
    problem = problem_of(lambda: evaluate_run(tmp_path / "done", batch_size=3))
    assert "with 3 images" in problem.what and "--batch-size" in problem.fix


def test_an_allocation_that_really_fails(resolve, tmp_path, monkeypatch):
    def fail(*arguments):
        return torch.empty(2**58)

    monkeypatch.setattr("nifbuild.train.step.TrainingStep.__call__", fail)
    assert "out of memory" in problem_of(lambda: train_run(resolve(), tmp_path / "run")).what


@pytest.fixture
def call(tmp_path, monkeypatch):
    """The command, in this process."""
    monkeypatch.chdir(tmp_path)
    app = typer.Typer()
    app.command("train")(guard(train, lambda: False))
    return lambda *arguments: CliRunner().invoke(app, [str(a) for a in arguments])


def predicted(resolved, batch_size):
    return predict(resolved, batch_size, Target("cpu", "fp32")).memory.train_peak_bytes


def test_the_command_says_what_was_predicted_and_what_would_fit(
    call, resolve, spec_file, monkeypatch
):
    def fail(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr("nifbuild.train.step.TrainingStep.__call__", fail)
    room = predicted(resolve(), 5)
    monkeypatch.setattr("nifbuild.report.inspect.shortage.free_memory", lambda device: room)
    done = call(spec_file())
    assert (done.exit_code, done.stdout) == (1, "")
    peak, free = bytes_text(predicted(resolve(), 8)), bytes_text(room)
    assert "out of memory with 8 images at once" in done.stderr
    assert f"predicts a peak of {peak} for a training step, and {free} are free" in done.stderr
    assert "at most 5 images fit at once: --set train.accumulate=2 has 4 pass" in done.stderr

    room = predicted(resolve(), 9)
    done = call(spec_file(), "--overwrite")
    assert "that should have fitted, but for what other things take: --set train.accumulate=2" in (
        done.stderr
    )
    monkeypatch.setattr("nifbuild.report.inspect.shortage.free_memory", lambda device: 1000)
    done = call(spec_file(), "--overwrite")
    assert "a training step of 2 images takes" in done.stderr
    monkeypatch.setattr("nifbuild.report.inspect.shortage.free_memory", lambda device: None)
    done = call(spec_file(), "--overwrite")
    assert "predicts" not in done.stderr and "out of memory with 8 images" in done.stderr


def test_what_processes_share_is_told_for_each(resolve, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    resolved = resolve("train.batch_size=16")
    room = predicted(resolved, 3)
    monkeypatch.setattr("nifbuild.report.inspect.shortage.free_memory", lambda device: room)
    problem = Problem("out of memory", fix="more", code="memory")
    error = explain_shortage(OutOfMemory(problem, resolved, 16, torch.device("cpu")))
    (found,) = error.problems
    assert bytes_text(predicted(resolved, 8)) in found.what
    fix = "at most 3 images fit at once on each device: --set train.accumulate=4 has 2 pass at once"
    assert found.fix == f"{fix} on each device\nmore"


def test_free_memory_heeds_the_limits_of_a_container(tmp_path, monkeypatch):
    (tmp_path / "max").write_text("5000\n")
    (tmp_path / "current").write_text("2000\n")
    names = (str(tmp_path / "max"), str(tmp_path / "current"))
    cpu = torch.device("cpu")
    monkeypatch.setattr(
        "nifbuild.machine.memory.CONTAINER_FILES", (("/nowhere", "/nowhere"), names)
    )
    assert (total_memory(cpu), free_memory(cpu)) == (5000, 3000)
    (tmp_path / "max").write_text("max\n")
    assert total_memory(cpu) == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 10**6 < free_memory(cpu) <= total_memory(cpu)


LARGE = """
version: 1
name: large
input: {channels: 1, size: [128, 128]}
model:
  - {op: conv, out_channels: 64, kernel_size: 3}
  - {op: global_avg_pool}
  - {op: flatten}
  - {op: linear, out_features: 10}
data: {source: digits, size: [128, 128], limit: {train: 128, validation: 10, test: 10}}
train: {epochs: 1, batch_size: 128, trackers: [], device: cpu}
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit of the address space")
def test_memory_that_really_ends_and_the_advice_that_helps(tmp_path, child_environment):
    (tmp_path / "large.yaml").write_text(LARGE)
    script = """
        import re, resource, sys
        from pathlib import Path
        from typer.testing import CliRunner
        import sklearn.datasets, datasets, torch, torch._dynamo
        import nifbuild.report.inspect.shortage, nifbuild.train.run
        from nifbuild.cli.app import app
        torch.set_num_threads(1)
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + 400 * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        def train(*words):
            done = CliRunner().invoke(app, ["train", "large.yaml", "--overwrite", *words])
            sys.stdout.write(f"{done.exit_code} {done.stderr}")
            return done.stderr
        said = train()
        while advice := re.search("--set train.accumulate=[0-9]+", said):
            said = train(*advice[0].split())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=tmp_path,
        env=child_environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    first, _, second = done.stdout.partition("\n0 ")
    assert "\nerror: out of memory with 128 images at once; " in first, done.stdout
    peak = predicted(load_spec(tmp_path / "large.yaml"), 128)
    assert f"predicts a peak of {bytes_text(peak)}" in first
    assert "\nepoch 1/1" in second, done.stdout
    assert first.count("error: ") <= 3  # on a CPU, libraries take memory beside torch's allocator


def test_other_runtime_errors_are_left_alone(resolve, tmp_path, monkeypatch):
    def fail(*arguments):
        raise RuntimeError("a defect")

    monkeypatch.setattr("nifbuild.train.step.TrainingStep.__call__", fail)
    with pytest.raises(RuntimeError, match="a defect"):
        train_run(resolve(), tmp_path / "run")
