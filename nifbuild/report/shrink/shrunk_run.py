"""The shrunk model as a run directory, which other commands take as any run."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from torch import Tensor, nn

from nifbuild.data import ImageData
from nifbuild.machine.progress import Reporter
from nifbuild.report.shrink.result import ShrinkResult
from nifbuild.runs.checkpoint import load_weights, weights_bytes
from nifbuild.runs.directory import RunDirectory
from nifbuild.runs.environment import describe_environment
from nifbuild.runs.intact import WEIGHTS, evidence, fingerprints
from nifbuild.runs.loaded import TrainedModel
from nifbuild.runs.opened_data import describe_data
from nifbuild.spec.resolve import Resolved

_ROUNDING = 1e-5
"""Of weights that are computed again, over the largest of a tensor."""


def holds_cut(target: RunDirectory) -> bool:
    """Whether a directory holds a whole run that was cut, which training may go on from."""
    parts = (target.spec, target.path / "shrink.json")
    return all(part.is_file() for part in parts) and target.result() is not None


def is_cut(target: RunDirectory, resolved: Resolved, model: nn.Module) -> bool:
    """Whether the run in a directory is the one that would be written.

    Raises:
        RunError: Its files are damaged.
    """
    if target.spec.read_text(encoding="utf-8") != resolved.text:
        return False
    there = copy.deepcopy(model)
    load_weights(there, target.find_checkpoint("last"), WEIGHTS)
    pairs = zip(there.state_dict().values(), model.state_dict().values(), strict=True)
    return all(_is_same(one, other) for one, other in pairs)


def _is_same(one: Tensor, other: Tensor) -> bool:
    largest = max((one.abs().max().item(), other.abs().max().item())) if one.numel() else 0
    return torch.allclose(one, other, rtol=0, atol=_ROUNDING * largest)


def write_run(
    target: RunDirectory,
    source: RunDirectory,
    trained: TrainedModel,
    resolved: Resolved,
    model: nn.Module,
    result: ShrinkResult,
    images: ImageData,
    *,
    overwrite: bool,
    report: Reporter,
) -> None:
    """Writes spec, weights, what is known of the data, and figures; or nothing.

    Args:
        target: Where to, locked.
        source: The run that was cut.
        trained: Its model.
        resolved: The new spec.
        model: The new model.
        result: What the cut changed.
        images: The data that its figures are of.
        overwrite: Delete the run that is there.
        report: Hears of what was there and stays.

    Raises:
        SpecError: A run is there that is not to be deleted.
        RunError: The directory cannot be written.
    """
    progress = source.progress(trained.checkpoint)
    own = {"spec": resolved.text, "init": None, "data": images.fingerprint}
    progress["identity"] = {**progress["identity"], **own}
    device = next(model.parameters()).device
    if kept := target.create(overwrite=overwrite):
        report.warning(kept)
    with _whole_or_nothing(target.path):
        target.add_start(describe_environment(device, 1, resolved.spec.train.precision))
        target.describe(resolved.text, describe_data(images), None)
        target.record_shrinking(result.document())
        weights = {WEIGHTS: weights_bytes(model)}
        progress |= fingerprints(weights, target.described)
        checkpoint = target.save_checkpoint(trained.step, weights, progress)
        figures = {
            "name": resolved.name,
            "split": result.split,
            **result.after.figures.as_document(trained.class_names),
            "checkpoint": checkpoint.name,
            "selected": f"cut from {source.path}",
            "step": trained.step,
            "epoch": progress["progress"]["epoch"],
            "train_loss": None,
            "params": result.after.params,
            "train_images_per_second": None,
            "images_per_second": round(1e3 * result.speed.batch / result.speed.after_ms.median),
            "seconds": 0.0,
        }
        target.finish({**figures, **evidence(figures, checkpoint)})


@contextmanager
def _whole_or_nothing(directory: Path) -> Iterator[None]:
    """Removes what was written to a new run's directory where something is raised."""
    folders = ("checkpoints",)  # made with the directory
    before = {path for path in directory.rglob("*") if path.name not in folders}
    try:
        yield
    except BaseException:
        written = set(directory.rglob("*")) - before
        for path in sorted(written, reverse=True):  # what lies within a folder before the folder
            with suppress(OSError):
                path.rmdir() if path.is_dir() else path.unlink()
        raise
