"""Data loaders, prepared so that a batch holds the same images on any number of processes."""

import signal
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from accelerate import Accelerator
from torch.utils.data import DataLoader

from nifbuild.data import ImageData, ImageSet
from nifbuild.data.balanced import BalancedSampler
from nifbuild.data.crops import RandomCrops
from nifbuild.errors import Problem, SpecError
from nifbuild.spec.images_at_once import too_few_images
from nifbuild.spec.training import TrainSpec

if TYPE_CHECKING:
    from nifbuild.spec.resolve import Resolved

T = TypeVar("T")

_FORKS = sys.platform == "linux"
"""Whether a worker may begin as a copy of this process. Elsewhere, and by default in a process that
was itself not forked from the one that has started it, it would load torch anew, for seconds."""


def training_images(data: ImageData, resolved: "Resolved") -> ImageSet:
    """The training images, cut at random where the spec says so: fixed by the run's seed."""
    images = data.splits["train"]
    assert resolved.spec.data is not None
    if resolved.spec.train.sampling == "balanced":
        images = images.repeated()
    crop = resolved.spec.data.augment.resized_crop
    if crop is None:
        return images
    return images.cropped(RandomCrops(crop.scale, crop.ratio, resolved.spec.train.seed))


def training_batches(
    images: ImageSet, spec: TrainSpec, workers: int, accelerator: Accelerator
) -> Any:
    """Batches of `batch_size` images over all processes, in an order fixed by seed and epoch.

    Raises:
        SpecError: If the batch size does not suit the number of images or of processes.
    """
    check_batch_size(spec, len(images), accelerator.num_processes)
    sampler = None
    if spec.sampling == "balanced":
        sampler = BalancedSampler(images.labels.numpy(), spec.seed)
    return _prepared(images, spec.batch_size, workers, accelerator, training=True, sampler=sampler)


def evaluation_batches(
    images: ImageSet, batch_size: int, workers: int, accelerator: Accelerator
) -> Any:
    """All images in order, in batches of `batch_size` over all processes.

    With several processes the last batch is filled up with repeated images, which
    `gather_for_metrics` leaves out.

    Raises:
        SpecError: If the processes cannot share a batch.
    """
    if batch_size % accelerator.num_processes:
        raise SpecError(
            Problem(
                f"{accelerator.num_processes} processes cannot share a batch of {batch_size}",
                fix=f"use a batch size that is a multiple of {accelerator.num_processes}",
                code="batch-size",
            )
        )
    return _prepared(images, batch_size, workers, accelerator, training=False)


def epoch_batches(batches: Any, epoch: int, done: int, accelerator: Accelerator) -> Any:
    """The training batches of an epoch, in its order, but for the first ones.

    Args:
        batches: What `training_batches` gave.
        epoch: Counted from 0.
        done: So many batches are left out.
        accelerator: That of `batches`.
    """
    batches.dataset.set_epoch(epoch)
    batches.set_epoch(epoch)  # before skipping: the copy that skips keeps the epoch it finds
    return accelerator.skip_first_batches(batches, done) if done else batches


def micro_batch_size(spec: TrainSpec) -> int:
    """Images that pass through the model at once, over all processes; evaluation uses it too."""
    return spec.images_at_once


def check_batch_size(spec: TrainSpec, images: int, processes: int) -> None:
    """Raises SpecError, with a size that does, where `train.batch_size` does not suit."""
    unit = spec.accumulate * processes
    shares = f"{processes} processes" + (
        f" with {spec.accumulate} micro-batches each" if spec.accumulate > 1 else ""
    )
    if spec.batch_size > images:
        largest = images // unit * unit
        fix = (
            f"use at most --set train.batch_size={largest}"
            if largest
            else f"use more images: {shares} need {unit}"
        )
        raise SpecError(
            Problem(
                f"a batch of {spec.batch_size} is more than the {images} training images",
                path="train.batch_size",
                fix=fix,
                code="batch-size",
            )
        )
    if spec.batch_size % unit:
        below = max(1, spec.batch_size // unit) * unit
        raise SpecError(
            Problem(
                f"{shares} cannot share a batch of {spec.batch_size}",
                path="train.batch_size",
                fix=f"use a multiple of {unit}, such as --set train.batch_size={below}",
                code="batch-size",
            )
        )


def check_statistics(resolved: "Resolved", processes: int) -> None:
    """Raises SpecError where each process has too few images for batch normalisation by itself.

    For all of them together the spec has been checked.
    """
    spec = resolved.spec.train
    images = spec.images_at_once if spec.sync_batch_norm else spec.images_at_once // processes
    problem = too_few_images(resolved.graph, images, resolved.tree)
    if problem is not None:
        fix = f"{problem.fix}\nor set train.sync_batch_norm: {processes} processes share a batch"
        raise SpecError(replace(problem, fix=fix))


def _prepared(
    images: ImageSet,
    batch_size: int,
    workers: int,
    accelerator: Accelerator,
    training: bool,
    sampler: BalancedSampler | None = None,
) -> Any:
    loader: DataLoader[Any] = DataLoader(
        images,
        batch_size=batch_size,
        shuffle=training and sampler is None,
        sampler=sampler,
        drop_last=training,
        num_workers=workers,
        collate_fn=_as_it_is,
        pin_memory=accelerator.device.type == "cuda",
        persistent_workers=workers > 0,
        multiprocessing_context="fork" if workers and _FORKS else None,
        worker_init_fn=_ignore_signals if workers else None,
    )
    return accelerator.prepare_data_loader(loader)


def _as_it_is(batch: T) -> T:
    """The set gives whole batches already."""
    return batch


def _ignore_signals(worker: int) -> None:
    """A worker ends with its process, not with the Ctrl-C that its terminal sends to all."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
