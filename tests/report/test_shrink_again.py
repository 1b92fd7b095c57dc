"""Shrinking into a directory that others write to, and going on with the training after it."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch

from nifbuild import shrink
from nifbuild.errors import InterruptedRun, RunError, SpecError
from nifbuild.machine.progress import Reporter
from nifbuild.runs.directory import RunDirectory
from nifbuild.runs.lock import is_locked


class Calls(Reporter):
    """Calls a function at an event, with what the event tells."""

    def __init__(self, **functions: Callable[..., None]) -> None:
        self.functions = functions

    def evaluating(self, split: str, num_batches: int) -> None:
        self.functions.get("evaluating", lambda: None)()

    def begin(self, epochs: int, steps_per_epoch: int, step: int) -> None:
        self.functions.get("begin", lambda step: None)(step)

    def step(self, step: int, *rest: object) -> None:
        self.functions.get("step", lambda step: None)(step)


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def shrink_to(trained_run, tmp_path):
    # Few seconds each: one layer's window for all, two short epochs.
    def call(name, **options):
        wanted = {"kernel_size": 3, "finetune_epochs": 2, "out": tmp_path / name} | options
        return shrink(trained_run, **wanted)

    return call


def test_a_run_that_appears_meanwhile_is_kept(shrink_to, trained_run, tmp_path):
    out = tmp_path / "new"

    def appear() -> None:
        if not (out / "spec.yaml").exists():
            shutil.copytree(trained_run, out, dirs_exist_ok=True)

    with pytest.raises(SpecError, match="already holds a run"):
        shrink_to("new", finetune_epochs=0, report=Calls(evaluating=appear))
    assert files(out) == files(trained_run)


def test_a_disk_that_is_full_leaves_nothing_half_written(shrink_to, tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))  # the weights take more
    try:
        with pytest.raises(RunError, match="make room"):
            shrink_to("new", finetune_epochs=0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not (tmp_path / "new").exists()
    shrink_to("new", finetune_epochs=0)


def is_locked_for_others(directory: Path) -> bool:
    child = os.fork()  # a process has its own locks for free
    if not child:
        os._exit(is_locked(directory))
    return bool(os.waitpid(child, 0)[1])


def test_training_that_was_interrupted_goes_on(shrink_to, tmp_path):
    seen = []

    def interrupt(step: int) -> None:
        seen.append(is_locked_for_others(tmp_path / "parts"))
        if step == 3:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(InterruptedRun) as caught:
        shrink_to("parts", report=Calls(step=interrupt))
    assert caught.value.exit_code == 130
    assert "the same command again goes on exactly there" in str(caught.value)
    assert seen == [True] * 3  # nobody else may write there until the end
    cut = files(tmp_path / "parts" / "checkpoints")

    for other in ({"kernel_size": 5}, {"checkpoint": "last", "size": (12, 12)}):
        with pytest.raises(SpecError, match=r"already holds a run\n  --out DIR .*\n  --overwrite"):
            shrink_to("parts", **other)
    begun = []
    done = shrink_to("parts", report=Calls(begin=begun.append))
    assert begun == [3]
    assert files(tmp_path / "parts" / "checkpoints") == cut

    whole = shrink_to("whole")
    assert done.finetuned == replace(whole.finetuned, directory=done.finetuned.directory)
    ends = [RunDirectory(r.finetuned.directory).checkpoints[-1] for r in (done, whole)]
    weights = [safetensors.torch.load_file(end / "model.safetensors") for end in ends]
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-4, atol=1e-6)
    recorded = json.loads((tmp_path / "parts" / "shrink.json").read_text())
    assert recorded["finetuned"]["top1"] == whole.finetuned.top1
    # Once more: all is done.
    assert shrink_to("parts").finetuned == done.finetuned


@pytest.mark.parametrize("name", ["it's #1", '[blue]"b": {x}'])
def test_a_directory_of_any_name(shrink_to, name, tmp_path):
    done = shrink_to(name, finetune_epochs=1)
    assert done.finetuned.directory == tmp_path / name / "finetuned"
    started = json.loads((tmp_path / name / "finetuned" / "init.json").read_text())
    assert started["file"].startswith(str(tmp_path / name))


def test_a_name_that_no_spec_can_hold_is_refused_before_the_work(shrink_to, tmp_path):
    with pytest.raises(SpecError, match=r"in a spec, \$ begins the name of a variable"):
        shrink_to("a$b", finetune_epochs=1)
    assert not (tmp_path / "a$b").exists()


KILLED = """
    import os, signal, sys
    from nifbuild import shrink
    from nifbuild.machine.progress import Reporter

    class Kills(Reporter):
        def step(self, step, *rest):
            if step == 8:
                os.kill(os.getpid(), signal.SIGKILL)

    shrink(sys.argv[1], kernel_size=3, finetune_epochs=2, out=sys.argv[2], report=Kills())
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_training_that_was_killed_goes_on(shrink_to, trained_run, tmp_path):
    words = [sys.executable, "-c", textwrap.dedent(KILLED), trained_run, tmp_path / "parts"]
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}
    assert subprocess.run(words, timeout=500, env=alone).returncode == -signal.SIGKILL
    begun = []
    done = shrink_to("parts", report=Calls(begin=begun.append))
    assert begun == [6]  # one epoch is 120 images in batches of 20
    whole = shrink_to("whole")
    assert done.finetuned.top1 == whole.finetuned.top1
