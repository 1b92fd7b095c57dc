"""Models from run directories, and from safetensors files that hold their spec."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from nifbuild.compile import leave_out_auxiliary
from nifbuild.errors import NifbuildError, Problem, RunError, SpecError, closest_beside
from nifbuild.machine.options import Which, checked
from nifbuild.runs.directory import RunDirectory
from nifbuild.runs.documents import DataDescription
from nifbuild.runs.intact import (
    evaluated_weights,
    require_agreement,
    require_saved,
    require_trained,
)
from nifbuild.runs.weights import Labels, labels_of, load_model, model_with, read_safetensors
from nifbuild.spec.data_file import settings_as_trained
from nifbuild.spec.resolve import Resolved, load_spec, load_text

SPEC_KEY = "nifbuild.spec"
"""Entry of a safetensors file's header with the resolved spec, as YAML."""

DATA_KEY = "nifbuild.data"
"""Entry with class names and normalisation, as JSON."""


SEAL_KEY = "nifbuild.seal"
"""Entry with a hash of these two, which tells of later changes."""


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
        from nifbuild.data.augment import normalized, scaled  # here, as it loads all sources

        return normalized(scaled(images), self.mean, self.std)

    def preprocess(
        self, image: bytes | str | os.PathLike[str], size: tuple[int, int] | None = None
    ) -> Tensor:
        """What `forward` takes, of an image file: decoded, scaled, cut and normalised.

        That is what `nifbuild evaluate` does to the images of the spec.

        Args:
            image: Its path, or its content as bytes.
            size: Height and width in pixels. None: as the model was trained on.

        Returns:
            A batch of one, [1, channels, height, width], on the device of `mean`.

        Raises:
            SpecError: The model takes images of neither 1 nor 3 channels.
            ValueError: The image cannot be read; the message names it and says why.
        """
        from nifbuild.data.decode import decoder_for, quiet_pillow

        if not isinstance(image, bytes | str | os.PathLike):
            fix = "`normalize` takes images as tensors of bytes"  # type: ignore[unreachable]
            raise TypeError(f"preprocess takes a path or bytes, not {type(image).__name__}: {fix}")
        decode = decoder_for(self.resolved.spec, size)
        try:
            with quiet_pillow():
                pixels = decode(image if isinstance(image, bytes) else os.fspath(image))
        except ValueError as error:
            name = "the image" if isinstance(image, bytes) else os.fspath(image)
            raise ValueError(f"{name}: {error}") from error
        return self.normalize(torch.tensor(pixels[None], device=self.mean.device))


@checked
def load(path: str | os.PathLike[str], *, checkpoint: Which = "selected") -> LoadedModel:
    """A trained model, rebuilt from a file; neither its spec nor its data are needed.

    Args:
        path: A run directory; or what `nifbuild export --format safetensors` wrote, or a folder
            with one such file, as on the hub.
        checkpoint: Of a run directory: the one that its figures are of, the best on validation, or
            the last.

    Returns:
        The model in eval mode, on the CPU.

    Raises:
        SpecError: `path` is neither.
        RunError: A file is damaged, or its spec does not fit its weights; nothing was allocated
            for the spec then.
    """
    path = Path(path)
    try:
        if path.is_dir() and not (path / "spec.yaml").exists():
            files = list(path.glob("*.safetensors"))
            path = files[0] if len(files) == 1 else path
        if path.is_dir():
            return _load_run(path, checkpoint)
        if checkpoint != "selected" and path.is_file():
            what = f"{path} is a file with one model, and `checkpoint` (={checkpoint!r}) is of runs"
            raise SpecError(Problem(what, fix="leave it out, or name the run", code="option"))
        return _load_file(path)
    except OSError as error:
        fix = "make it readable, or name another one"
        what = f"{path} cannot be read: {error.strerror or error}"
        raise RunError(Problem(what, fix=fix, code="load")) from error


def _load_run(path: Path, checkpoint: Which) -> LoadedModel:
    # Here, as it loads all that training needs.
    run = load_run(path, checkpoint=checkpoint)
    return LoadedModel(run.model, run.resolved, run.class_names, run.mean, run.std).eval()


def _load_file(path: Path) -> LoadedModel:
    if not path.exists():
        fix = closest_beside(path) or "paths are relative to the working directory"
        raise SpecError(Problem(f"there is no {path}", fix=fix, code="missing-file"))
    if not path.is_file():
        what, fix = f"{path} is no file", "name a run directory, or a file of `nifbuild export`"
        raise SpecError(Problem(what, fix=fix, code="not-a-file"))
    try:
        texts, weights = read_safetensors(path)
        if SPEC_KEY in texts and DATA_KEY in texts:
            return _model(texts, weights, path)
    except NifbuildError:
        raise
    except Exception as error:  # safetensors raises types of its own
        what, fix = (
            f"{path} cannot be read: {_reason(error)}",
            "the file is damaged: export it again",
        )
        if path.suffix != ".safetensors":
            what = f"{path} is no file of safetensors"
            fix = "a run, or what `nifbuild export --format safetensors` writes, can be loaded"
        raise RunError(Problem(what, fix=fix, code="load")) from error
    what = f"{path} holds weights and no spec, so that the model is not known"
    fix = "name a run directory, or a file of `nifbuild export --format safetensors`"
    raise SpecError(Problem(what, fix=fix, code="no-spec"))


def _model(texts: Mapping[str, str], weights: Mapping[str, Tensor], path: Path) -> LoadedModel:
    resolved = load_text(texts[SPEC_KEY], f"the spec in {path}")
    labels = labels_of(DataDescription.model_validate_json(texts[DATA_KEY]), resolved)
    if texts.get(SEAL_KEY) not in (None, _seal(texts)):
        raise ValueError("its header has been changed since it was written")
    model = model_with(resolved, weights)
    return LoadedModel(model, resolved, labels.class_names, labels.mean, labels.std).eval()


def _seal(texts: Mapping[str, str]) -> str:
    sealed = "\0".join(texts[key] for key in (SPEC_KEY, DATA_KEY))
    return hashlib.sha256(sealed.encode()).hexdigest()


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{DATA_KEY}: {'.'.join(map(str, first['loc']))}: {first['msg']}"
    return str(error) or type(error).__name__


def header(
    resolved: Resolved, class_names: tuple[str, ...], mean: Tensor, std: Tensor
) -> dict[str, str]:
    """What the header of a file must hold for `load` to rebuild the model."""
    data = {"class_names": class_names, "mean": mean.tolist(), "std": std.tolist()}
    texts = {SPEC_KEY: resolved.text, DATA_KEY: json.dumps(data)}
    return {**texts, SEAL_KEY: _seal(texts)}


@dataclass(frozen=True)
class TrainedModel:
    """What a run has learned.

    Attributes:
        model: With the weights that count, in eval mode, on the CPU; without auxiliary heads.
        resolved: The run's spec, with other data where that was asked for; without these heads.
        class_names: In the order of the model's outputs.
        mean: Subtracted from each channel of an image whose white is 1, shape [channels].
        std: Divides it then, shape [channels].
        checkpoint: Where the weights come from.
        step: After so many optimizer steps.
    """

    model: nn.Module
    resolved: Resolved
    class_names: tuple[str, ...]
    mean: Tensor
    std: Tensor
    checkpoint: Path
    step: int

    @property
    def gives_masks(self) -> bool:
        """Whether it gives each pixel a class, rather than each image."""
        return self.resolved.graph.output_shape.is_image


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
            `last`.
        data: See `spec_of_run`.

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
    # Whatever size other data wants: weights may be for that of the run.
    model = load_model(own, evaluated_weights(path))
    leave_out_auxiliary(model)
    resolved = own if data is None else spec_of_run(run, data)
    return TrainedModel(
        model=model,
        resolved=resolved.without_auxiliary(),
        class_names=labels.class_names,
        mean=labels.mean,
        std=labels.std,
        checkpoint=path,
        step=run.progress(path)["progress"]["step"],
    )


def spec_of_run(
    run: RunDirectory, data: str | os.PathLike[str] | None, overrides: Sequence[str] = ()
) -> Resolved:
    """A run's spec, perhaps with other data.

    Args:
        run: The run.
        data: A file whose `data` section takes the place of the run's, or a folder of images, which
            are read as those of training were. None: the run's own.
        overrides: Values to set, as in `load_spec`.
    """
    own = load_spec(run.spec).spec.data if data is not None else None
    as_trained = [] if data is None or own is None else settings_as_trained(Path(data), own)
    return load_spec(run.spec, data=data, overrides=[*as_trained, *overrides])


def sound_labels(run: RunDirectory, own: Resolved, checkpoint: Path) -> Labels:
    """What a run's data is like, once all that the run says is found to belong together.

    Args:
        run: The run.
        own: The spec that lies there, or that is to be that of the run.
        checkpoint: One of its checkpoints.

    Raises:
        RunError: The spec, the description of the data or the figures are not those of the
            checkpoint.
    """
    require_trained(own.text, run.spec, checkpoint)
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
