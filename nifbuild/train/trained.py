"""A model from a run directory."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from torch import Tensor, nn

from nifbuild.errors import Problem, RunError
from nifbuild.spec.resolve import load_spec
from nifbuild.train.directory import RunDirectory
from nifbuild.train.documents import DataDescription
from nifbuild.train.intact import (
    evaluated_weights,
    require_agreement,
    require_saved,
    require_trained,
)
from nifbuild.train.restore import Labels, labels_of, load_model

if TYPE_CHECKING:
    from nifbuild.spec.resolve import Resolved

Which = Literal["selected", "best", "last"]


@dataclass(frozen=True)
class TrainedModel:
    """What a run has learned.

    Attributes:
        model: With the weights that count, in eval mode, on the CPU.
        resolved: The run's spec, with other data where that was asked for.
        class_names: In the order of the model's outputs.
        mean: Subtracted from each channel of an image whose white is 1, shape [channels].
        std: Divides it then, shape [channels].
        checkpoint: Where the weights come from.
        step: After so many optimizer steps.
    """

    model: nn.Module
    resolved: "Resolved"
    class_names: tuple[str, ...]
    mean: Tensor
    std: Tensor
    checkpoint: Path
    step: int


def load_run(
    directory: str | os.PathLike[str],
    *,
    checkpoint: Which = "selected",
    data: str | os.PathLike[str] | None = None,
) -> TrainedModel:
    """Loads a trained model; of the data, only what the run has written down is needed.

    Args:
        directory: A run directory.
        checkpoint: `selected`: the one that the run's figures are of. `best`: on validation.
            `last`. All the same where there was no validation.
        data: A spec file whose `data` section takes the place of the run's.

    Raises:
        SpecError: If `directory` is not a run.
        RunError: If it has no such checkpoint, a file is damaged, or what lies there was not
            written together.
    """
    run = RunDirectory(directory)
    run.require_run()
    path = run.find_checkpoint(checkpoint)
    own = load_spec(run.spec)
    labels = sound_labels(run, own, path)
    return TrainedModel(
        # Whatever size other data wants: weights may be for that of the run.
        model=load_model(own, evaluated_weights(path)),
        resolved=own if data is None else load_spec(run.spec, data=Path(data)),
        class_names=labels.class_names,
        mean=labels.mean,
        std=labels.std,
        checkpoint=path,
        step=run.progress(path)["progress"]["step"],
    )


def sound_labels(run: RunDirectory, own: "Resolved", checkpoint: Path) -> Labels:
    """What a run's data is like, once all that the run says is found to belong together.

    Args:
        run: The run.
        own: The spec that lies there, or that is to be that of the run.
        checkpoint: One of its checkpoints.

    Raises:
        RunError: The spec, the description of the data or the figures are not those of the
            checkpoint.
    """
    require_trained(own, run.spec, checkpoint)
    try:
        described = run.data()
        labels = labels_of(DataDescription.model_validate(described), own)
        if not labels.class_names:
            raise ValueError("it has no `class_names`")
        if described["fingerprint"] != run.progress(checkpoint)["identity"]["data"]:
            raise ValueError(f"its `fingerprint` is not of the data that {checkpoint} learned")
    except ValueError as error:
        what = f"{run.described} does not fit the run: {error}"
        fix = "copy it back, or train again: --overwrite"
        raise RunError(Problem(what, fix=fix, code="load")) from error
    require_saved(checkpoint, run.described)
    if (result := run.result()) is not None:
        require_agreement(result, run.path / "metrics.json", run.named_checkpoint(result))
    return labels
