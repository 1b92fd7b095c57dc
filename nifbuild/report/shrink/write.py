"""The shrunk model as a run directory, which other commands take as any run."""

from torch import nn

from nifbuild.data import ImageData
from nifbuild.report.shrink.result import ShrinkResult
from nifbuild.spec.resolve import Resolved
from nifbuild.train.checkpoint import weights_bytes
from nifbuild.train.data import describe_data
from nifbuild.train.directory import RunDirectory
from nifbuild.train.environment import describe_environment
from nifbuild.train.intact import WEIGHTS, evidence, fingerprints
from nifbuild.train.trained import TrainedModel


def write_run(
    target: RunDirectory,
    source: RunDirectory,
    trained: TrainedModel,
    resolved: Resolved,
    model: nn.Module,
    result: ShrinkResult,
    images: ImageData,
) -> None:
    """Writes spec, weights, what is known of the data, and figures.

    Args:
        target: Where to, locked; what is there is deleted.
        source: The run that was cut.
        trained: Its model.
        resolved: The new spec.
        model: The new model.
        result: What the cut changed.
        images: The data that its figures are of.

    Raises:
        RunError: The directory cannot be written.
    """
    progress = source.progress(trained.checkpoint)
    own = {"spec": resolved.text, "init": None, "data": images.fingerprint}
    progress["identity"] = {**progress["identity"], **own}
    device = next(model.parameters()).device
    target.create(overwrite=True)
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
        "train_images_per_second": None,
        "images_per_second": round(1e3 * result.speed.batch / result.speed.after_ms.median),
        "seconds": 0.0,
    }
    target.finish({**figures, **evidence(figures, checkpoint)})
