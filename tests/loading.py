"""What comes out of a loader, and what a run makes of it, with workers: for `tests.children`."""

import contextlib
import hashlib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from nifbuild.data.batches import epoch_batches, training_batches, training_images
from nifbuild.errors import InterruptedRun
from nifbuild.machine import processes
from nifbuild.machine.device import accelerator_on
from nifbuild.machine.progress import Reporter
from nifbuild.runs.opened_data import load_images, open_for
from nifbuild.spec.resolve import load_spec
from nifbuild.train.run import train_run
from tests.tiny_runs import Stop

CORES = 6
"""As if there were so many processors, so that two processes may have three workers each."""


def _many_cores() -> None:
    processes.available_cores = lambda: CORES
    # PyTorch counts for itself, and finds more workers than processors here.
    warnings.filterwarnings("ignore", message="This DataLoader will create")


def seen(
    path: Path, workers: int, done: int, overrides: Sequence[str] = ()
) -> list[tuple[int, int, int, str]]:
    """The training images of two epochs, in order: (epoch, place, class, hash of its pixels).

    The first batches of the first epoch are left out, as by a run that goes on from there.
    """
    _many_cores()
    resolved = load_spec(path, overrides=[f"data.workers={workers}", *overrides])
    found = []
    with accelerator_on(torch.device("cpu"), precision="fp32") as accelerator:
        catalog, resolved = open_for(resolved)
        data = load_images(catalog, resolved, accelerator, Reporter())
        images = training_images(data, resolved)
        assert data.workers_for(images) == workers
        batches = training_batches(images, resolved.spec.train, workers, accelerator)
        for epoch in (3, 4):
            skipped = done if epoch == 3 else 0
            for batch in epoch_batches(batches, epoch, skipped, accelerator):
                rows = zip(batch["index"], batch["labels"], batch["images"], strict=True)
                for place, label, image in rows:
                    text = hashlib.sha256(image.numpy().tobytes()).hexdigest()
                    found.append((epoch, int(place), int(label), text))
    return found


def train(path: Path, out: Path, workers: int, stop: int | None) -> dict[str, Any]:
    """Trains; with `stop`, ends after so many steps and goes on from there."""
    _many_cores()
    # Not Adam, in whose steps the noise of adding up in another order grows.
    settings = [f"data.workers={workers}", "train.optimizer={name: sgd, lr: 0.1}"]
    resolved = load_spec(path, overrides=settings)
    if stop is not None:
        with contextlib.suppress(InterruptedRun):
            train_run(resolved, out, report=Stop(at_step=stop))
    return train_run(resolved, out, resume=stop is not None).document()
