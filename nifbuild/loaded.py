"""Models from files, ready for use: run directories, and safetensors files that hold their spec."""

import json
import os
from pathlib import Path
from typing import Literal

import safetensors
import torch
from pydantic import BaseModel, ValidationError
from torch import Tensor, nn

from nifbuild.compile import build_model
from nifbuild.errors import Problem, RunError, SpecError, did_you_mean
from nifbuild.spec.resolve import Resolved, load_text

SPEC_KEY = "nifbuild.spec"
"""Entry of a safetensors file's header with the resolved spec, as YAML."""

DATA_KEY = "nifbuild.data"
"""Entry with class names and normalisation, as JSON."""


class _Data(BaseModel):
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]


class LoadedModel(nn.Module):
    """A model with all that is needed to use it.

    Args:
        model: The module that the spec stands for.
        resolved: The spec.
        class_names: In the order of the outputs; empty where the model has never seen data.
        mean: Of each channel, where white is 1.
        std: Of each channel.

    Shapes:
        Input [batch, channels, height, width], normalised; output [batch, classes], logits.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        model: nn.Module,
        resolved: Resolved,
        class_names: tuple[str, ...],
        mean: Tensor,
        std: Tensor,
    ) -> None:
        super().__init__()
        self.model = model
        self.resolved = resolved
        self.class_names = class_names
        self.register_buffer("mean", mean.view(-1, 1, 1), persistent=False)
        self.register_buffer("std", std.view(-1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """The logits of normalised images."""
        logits: Tensor = self.model(images)
        return logits

    def normalize(self, images: Tensor) -> Tensor:
        """What `forward` takes, of images as bytes, [batch, channels, height, width]."""
        return (images.float() / 255 - self.mean) / self.std


def load(
    path: str | os.PathLike[str], *, checkpoint: Literal["best", "last"] = "best"
) -> LoadedModel:
    """A trained model, rebuilt from a file; neither its spec nor its data are needed.

    Args:
        path: A run directory, or what `nifbuild export --format safetensors` wrote.
        checkpoint: Of a run directory: the best on validation, or the last.

    Returns:
        The model in eval mode, on the CPU.

    Raises:
        SpecError: `path` is neither.
        RunError: A file is damaged.
    """
    path = Path(path)
    if path.is_dir():
        # Here, as it loads all that training needs.
        from nifbuild.train.trained import load_run

        run = load_run(path, checkpoint=checkpoint)
        return LoadedModel(run.model, run.resolved, run.class_names, run.mean, run.std).eval()
    return _load_file(path)


def _load_file(path: Path) -> LoadedModel:
    if not path.exists():
        names = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        fix = did_you_mean(path.name, names) or "paths are relative to the working directory"
        raise SpecError(Problem(f"there is no {path}", fix=fix, code="missing-file"))
    metadata, weights = _read(path)
    if SPEC_KEY not in metadata or DATA_KEY not in metadata:
        what = f"{path} holds weights and no spec, so that the model is not known"
        fix = "name a run directory, or a file of `nifbuild export --format safetensors`"
        raise SpecError(Problem(what, fix=fix, code="no-spec"))
    resolved = load_text(metadata[SPEC_KEY], f"the spec in {path}")
    model = build_model(resolved)
    try:
        data = _Data.model_validate_json(metadata[DATA_KEY])
        model.load_state_dict(weights)
    except (ValidationError, RuntimeError) as error:
        raise _damaged(path, str(error)) from error
    mean, std = torch.tensor(data.mean), torch.tensor(data.std)
    return LoadedModel(model, resolved, data.class_names, mean, std).eval()


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
            return metadata, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except Exception as error:  # safetensors raises types of its own
        raise _damaged(path, str(error)) from error


def _damaged(path: Path, reason: str) -> RunError:
    fix = "the file is damaged, or no safetensors file: export it again"
    return RunError(Problem(f"{path} cannot be read: {reason}", fix=fix, code="load"))


def header(
    resolved: Resolved, class_names: tuple[str, ...], mean: Tensor, std: Tensor
) -> dict[str, str]:
    """What the header of a file must hold for `load` to rebuild the model."""
    data = {"class_names": class_names, "mean": mean.tolist(), "std": std.tolist()}
    return {SPEC_KEY: resolved.text, DATA_KEY: json.dumps(data)}
