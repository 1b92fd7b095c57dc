"""FSDP2 through `accelerate launch` with its own configuration, on two processes."""

import json
import shutil
import subprocess
import sys
import textwrap

import pytest

from nifbuild import build_model, evaluate_run
from nifbuild.errors import SpecError
from nifbuild.runs.directory import RunDirectory
from nifbuild.runs.weights import read_weights
from nifbuild.spec.resolve import load_spec
from nifbuild.train.run import train_run
from tests.train.test_gradient_checkpointing import SPEC

CONFIGURATION = """
compute_environment: LOCAL_MACHINE
distributed_type: FSDP
num_machines: 1
num_processes: 2
mixed_precision: 'no'
rdzv_backend: static
main_process_port: 0
fsdp_config:
  fsdp_version: 2
  fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP
  fsdp_transformer_layer_cls_to_wrap: StepGraph
  fsdp_reshard_after_forward: true
"""

SETTINGS = (
    "vars.left_out=0",
    "vars.dropped=0",
    "train.gradient_checkpointing=[stage2]",
    "train.optimizer={name: sgd, lr: 0.1, filters: {lr_factor: 0.5}}",
    "train.accumulate=2",
    "train.clip_norm=1",
    "train.checkpoint_every=0.4",
    "train.keep=10",
)

# The command, and a look at whether the weights are shared out.
SCRIPT = """
    from nifbuild.__main__ import main
    from nifbuild.train.loop import Trainer
    from torch.distributed.tensor import DTensor

    train_epoch = Trainer.train_epoch

    def watched(trainer):
        speed = train_epoch(trainer)
        for name, parameter in trainer.module.named_parameters():
            assert isinstance(parameter, DTensor), name
            assert parameter.to_local().numel() < parameter.numel() or len(parameter) == 1, name
        return speed

    Trainer.train_epoch = watched
    main()
"""


@pytest.fixture
def resolved(tmp_path):
    (tmp_path / "blocks.yaml").write_text(SPEC)
    return load_spec(tmp_path / "blocks.yaml", overrides=SETTINGS)


@pytest.mark.slow
def test_runs_equal_those_of_one_process_also_resumed(resolved, tmp_path, child_environment):
    (tmp_path / "fsdp.yaml").write_text(CONFIGURATION)
    (tmp_path / "script.py").write_text(textwrap.dedent(SCRIPT))
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", "fsdp.yaml"]
    command = ["train", "blocks.yaml", *(w for s in SETTINGS for w in ("--set", s)), "--out"]

    def launch(*words):
        done = subprocess.run(
            [*launcher, *words],
            cwd=tmp_path,
            env=child_environment,
            capture_output=True,
            text=True,
            timeout=140,
        )
        assert done.returncode == 0, done.stderr

    launch("script.py", *command, "whole")
    whole = RunDirectory(tmp_path / "whole")
    (start,) = json.loads((whole.path / "environment.json").read_text())["starts"]
    assert start["processes"] == 2

    expected = train_run(resolved, tmp_path / "one").document()
    for mine, theirs in zip(whole.metrics(), RunDirectory(tmp_path / "one").metrics(), strict=True):
        assert mine["train_loss"] == pytest.approx(theirs["train_loss"], rel=1e-5)
        assert mine["loss"] == pytest.approx(theirs["loss"], rel=1e-5)
    assert whole.result()["loss"] == pytest.approx(expected["loss"], rel=1e-5)

    last = whole.checkpoint_path(10)
    shapes = {n: t.shape for n, t in build_model(resolved).state_dict().items()}
    assert {n: t.shape for n, t in read_weights(last)[1].items()} == shapes
    again = evaluate_run(whole.path).only.document()  # in one process
    assert again["loss"] == pytest.approx(whole.result()["loss"], rel=1e-6)

    # As a run that was killed in its second epoch.
    parts = RunDirectory(shutil.copytree(whole.path, tmp_path / "parts"))
    (parts.path / "metrics.json").unlink()
    shutil.rmtree(parts.checkpoint_path(8))
    shutil.rmtree(parts.checkpoint_path(10))
    launch("-m", "nifbuild", *command, "parts", "--resume")
    for name in ("model.safetensors", "optimizer.pt"):
        resumed = parts.checkpoint_path(10) / name
        assert resumed.read_bytes() == (last / name).read_bytes()


@pytest.mark.parametrize(
    ("setting", "fix"),
    [
        ("train.ema=0.9", "--set train.ema=null"),
        ("train.kernel_spread=0.1", "--set train.kernel_spread=0"),
        ("train.channels_last=true", "--set train.channels_last=false"),
        ("train.precision=fp16", "--set train.precision=bf16"),
        ({"FSDP_VERSION": "1"}, "`fsdp_version: 2`"),
        ({"FSDP_AUTO_WRAP_POLICY": "SIZE_BASED_WRAP"}, "TRANSFORMER_BASED_WRAP"),
        ({"FSDP_OFFLOAD_PARAMS": "true"}, "`fsdp_offload_params: false`"),
        ({"FSDP_ACTIVATION_CHECKPOINTING": "true"}, "`fsdp_activation_checkpointing: false`"),
        (
            {
                "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
                "FSDP_TRANSFORMER_CLS_TO_WRAP": "Conv2d",
            },
            "`fsdp_transformer_layer_cls_to_wrap: StepGraph`",
        ),
    ],
    ids=str,
)
def test_what_does_not_work_is_told_before_training(resolved, tmp_path, monkeypatch, setting, fix):
    environment = {"ACCELERATE_USE_FSDP": "true", "WORLD_SIZE": "2", "FSDP_VERSION": "2"}
    settings = SETTINGS
    if isinstance(setting, str):
        settings = (*SETTINGS, setting)
    else:
        environment |= setting
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    resolved = load_spec(tmp_path / "blocks.yaml", overrides=settings)
    with pytest.raises(SpecError) as caught:
        train_run(resolved, tmp_path / "run")
    (problem,) = caught.value.problems
    assert problem.code == "fsdp"
    assert fix in f"{problem.what} {problem.fix}"
    assert not (tmp_path / "run").exists()
