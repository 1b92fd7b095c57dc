"""A model from a run directory."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from nifbuild.compile import build_model
from nifbuild.errors import Problem, RunError
from nifbuild.spec.resolve import load_spec
from nifbuild.train.checkpoint import load_weights
from nifbuild.train.directory import RunDirectory

if TYPE_CHECKING:
    from nifbuild.spec.resolve import Resolved

Which = Literal["best", "last"]


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
    checkpoint: Which = "best",
    data: str | os.PathLike[str] | None = None,
) -> TrainedModel:
    """Loads a trained model; of the data, only what the run has written down is needed.

    Args:
        directory: A run directory.
        checkpoint: The best on validation, or the last; the same where there was no validation.
        data: A spec file whose `data` section takes the place of the run's.

    Raises:
        SpecError: If `directory` is not a run.
        RunError: If it has no such checkpoint, or a file is damaged.
    """
    run = RunDirectory(directory)
    run.require_run()
    path = run.find_checkpoint(checkpoint)
    described = run.data()
    own = load_spec(run.spec)
    channels = own.spec.input.channels
    if not len(described["mean"]) == len(described["std"]) == channels:
        raise RunError(
            Problem(
                f"{run.path / 'data.json'} does not fit the run: its normalisation is not for "
                f"{channels} channel{'s' if channels > 1 else ''}",
                fix="copy it back, or train again: --overwrite",
                code="load",
            )
        )
    model = build_model(own)  # whatever size other data wants: weights may be for that of the run
    load_weights(model, run.evaluated_weights(path))
    return TrainedModel(
        model=model.eval(),
        resolved=own if data is None else load_spec(run.spec, data=Path(data)),
        class_names=tuple(described["class_names"]),
        mean=torch.tensor(described["mean"]),
        std=torch.tensor(described["std"]),
        checkpoint=path,
        step=run.progress(path)["progress"]["step"],
    )
