"""Weights from files into models: safetensors, torch's own, and runs of nifbuild.

Whether they fit is found out before anything is allocated.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from nifbuild.compile import build_skeleton
from nifbuild.errors import Problem, RunError, SpecError, did_you_mean
from nifbuild.runs.directory import RunDirectory
from nifbuild.runs.documents import DataDescription
from nifbuild.runs.intact import evaluated_weights, reading, require_trained
from nifbuild.spec.resolve import Resolved, load_spec

_LISTED = 4


@dataclass(frozen=True)
class Labels:
    """What a model's inputs and outputs mean.

    Attributes:
        class_names: In the order of the outputs; empty where the model has never seen data.
        mean: Subtracted from each channel of an image whose white is 1, shape [channels].
        std: Divides it then, shape [channels].
    """

    class_names: tuple[str, ...]
    mean: Tensor
    std: Tensor


def labels_of(described: DataDescription, resolved: Resolved) -> Labels:
    """What a file says of the data that a model has learned, once it is known to fit the model.

    Raises:
        ValueError: It does not; names the key.
    """
    channels, outputs = resolved.spec.input.channels, resolved.graph.output_shape.channels
    for key, values in (("mean", described.mean), ("std", described.std)):
        if len(values) != channels:
            raise ValueError(f"its `{key}` is not for {channels} channel{'s' * (channels > 1)}")
    names = tuple(described.class_names)
    if len(names) not in (0, outputs):
        what = f"its `class_names` are {len(names)}, and the model has {outputs} outputs"
        raise ValueError(what)
    labels = Labels(names, torch.tensor(described.mean), torch.tensor(described.std))
    for key, tensor in (("mean", labels.mean), ("std", labels.std)):
        if not tensor.isfinite().all() or (key == "std" and not (tensor > 0).all()):
            raise ValueError(f"its `{key}` is out of the range of 32-bit numbers")
    return labels


def read_safetensors(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """The texts in the header of a safetensors file, and its tensors."""
    with safetensors.safe_open(path, framework="pt") as file:
        texts: dict[str, str] = file.metadata() or {}
        return texts, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def require_fit(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Raises ValueError with what of a file does not fit a model.

    Args:
        found: The tensors of the file.
        wanted: Those of the model, with or without values.
    """
    problems = [f"it has no {name}" for name in wanted if name not in found]
    problems += [f"the model has no {name}" for name in found if name not in wanted]
    for name, tensor in found.items():
        if name in wanted and (unlike := odd(tensor) or _unlike(tensor, wanted[name])):
            problems.append(f"{name} {unlike}")
    if problems:
        more = len(problems) - _LISTED
        shown = [*problems[:_LISTED], *([f"and {more} more"] if more > 0 else [])]
        raise ValueError(f"it does not fit the spec: {'; '.join(shown)}")


def _unlike(found: Tensor, wanted: Tensor) -> str:
    if found.shape != wanted.shape:
        return f"is {shape_text(found)} in the file and {shape_text(wanted)} in the model"
    return other_type(found, wanted)


def odd(tensor: Tensor) -> str:
    """Why a tensor cannot be taken for plain values; empty where it can."""
    if tensor.is_meta:
        return "has no values (it was saved from the meta device)"
    if tensor.is_nested:
        return "is a nested tensor"
    if tensor.layout != torch.strided:
        return f"is a sparse tensor ({_name(tensor.layout)})"
    if tensor.is_quantized:
        return f"is quantised ({_name(tensor.dtype)})"
    if type(tensor) not in (Tensor, nn.Parameter):
        return f"is a {type(tensor).__name__}, and no plain tensor"
    return ""


def other_type(found: Tensor, wanted: Tensor) -> str:
    """How a plain tensor's numbers are of another kind than a model's; empty where they are not.

    Any floating-point type is converted. So are whole numbers that are written as such, as scripts
    do that convert all there is; the other way round, or an imaginary part, something is lost.
    """
    if found.is_complex() or found.dtype == torch.bool:
        fits = found.dtype == wanted.dtype
    elif found.is_floating_point():
        whole = wanted.dtype != torch.bool and bool((found == found.round()).all())
        fits = wanted.is_floating_point() or whole
    else:
        fits = not wanted.is_floating_point() and wanted.dtype != torch.bool
    if fits:
        return ""
    return f"is {_name(found.dtype)} in the file and {_name(wanted.dtype)} in the model"


def non_finite(tensors: Iterable[tuple[str, Tensor]]) -> tuple[str, str] | None:
    """The name of the first tensor that is not finite everywhere, and its first such value."""
    for name, tensor in tensors:
        if tensor.is_floating_point() and not (finite := tensor.detach().isfinite()).all():
            return name, str(tensor.detach()[~finite][0].item())
    return None


def shape_text(tensor: Tensor) -> str:
    """`64x3x7x7`."""
    return "x".join(map(str, tensor.shape)) or "a number"


def _name(what: object) -> str:
    return str(what).removeprefix("torch.")


def model_with(resolved: Resolved, weights: Mapping[str, Tensor]) -> nn.Module:
    """The model of a spec with the weights of a file, in eval mode, on the CPU.

    A spec can ask for more than any machine has, and a file of it be small: nothing is allocated
    before it is known to have all weights in their shapes.

    Raises:
        ValueError: They do not fit.
    """
    model = build_skeleton(resolved)
    require_fit(weights, model.state_dict())
    model.to_empty(device="cpu")
    model.load_state_dict(weights)
    return model.eval()


def load_model(resolved: Resolved, path: Path) -> nn.Module:
    """The model of a spec with the weights of a safetensors file, as `model_with`.

    Raises:
        RunError: The file is missing, damaged, or of another architecture.
    """
    with reading(path):
        return model_with(resolved, read_safetensors(path)[1])


_WRAPPERS = ("state_dict", "model")
"""Keys under which training scripts, torchvision's among them, keep the weights."""


def read_weights(path: Path) -> tuple[Path, dict[str, Tensor]]:
    """The tensors of a checkpoint, by name, on the CPU.

    Args:
        path: A safetensors file, a file of `torch.save` that holds a state_dict (as it is, or under
            `state_dict` or `model`), a run directory (the checkpoint that its figures are of), or
            one of a run's checkpoints. Of a run, the weights that its evaluation uses.

    Returns:
        The file that was read, and its tensors.

    Raises:
        SpecError: If there is no such file, or it holds no state_dict.
        RunError: If it is damaged.
    """
    try:
        file = _file_of(path)
        content = _load(file)
    except OSError as error:
        raise _damaged(path, error.strerror or str(error)) from error
    wrapped = [content.get(key) for key in _WRAPPERS] if isinstance(content, Mapping) else []
    for candidate in (content, *wrapped):
        if isinstance(candidate, Mapping) and _is_state_dict(candidate):
            return file, dict(candidate)
    shown = ", ".join(map(str, content)) if isinstance(content, Mapping) else ""
    held = f"the keys {shown[:200]}" if shown else f"a {type(content).__name__}"
    raise _unsuitable(f"{file} holds no state_dict", f"it holds {held}\n{_SAVE_IT}")


_SAVE_IT = "save the weights alone: torch.save(model.state_dict(), FILE)"


def _is_state_dict(content: Mapping[Any, Any]) -> bool:
    pairs = content.items()
    return bool(content) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in pairs)


def _unsuitable(what: str, fix: str) -> SpecError:
    return SpecError(Problem(what, path="train.init", fix=fix, code="init-file"))


def _file_of(path: Path) -> Path:
    if path.is_file():
        return path
    if not path.exists():
        folder = path.parent
        names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
        fix = did_you_mean(path.name, names) or "paths are relative to the working directory"
        raise _unsuitable(f"there is no {path}", fix)
    if (path / "model.safetensors").is_file():
        return evaluated_weights(path)
    run = RunDirectory(path)
    if run.spec.is_file():
        checkpoint = run.find_checkpoint()
        require_trained(load_spec(run.spec).text, run.spec, checkpoint)
        return evaluated_weights(checkpoint)
    what = f"{path} is neither a run directory nor one of a run's checkpoints"
    raise _unsuitable(what, "name one that `nifbuild train` has written, or a file")


def _load(file: Path) -> Any:
    with file.open("rb") as opened:
        start = opened.read(9)
    if not start:
        raise _damaged(file, "it is empty")
    # A safetensors file starts with the length of its JSON header, in 8 bytes, and the header.
    if file.suffix == ".safetensors" or start[8:] == b"{":
        try:
            return safetensors.torch.load_file(file)
        except Exception as error:  # safetensors raises types of its own
            raise _damaged(file, str(error)) from error
    if not start.startswith((b"PK", b"\x80")):  # a zip archive, or a pickle of old
        what = f"{file} is not a checkpoint"
        raise _unsuitable(what, "use a safetensors file, one of torch.save, or a run directory")
    try:
        # Nothing but tensors and plain containers is unpickled.
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever the unpickling runs into
        if "GLOBAL" in str(error) or "TorchScript" in str(error):
            # torch's own words advise to load the file without safety
            what = f"{file} holds Python objects, and only tensors are loaded"
            raise _unsuitable(what, _SAVE_IT) from error
        raise _damaged(file, type(error).__name__) from error


def _damaged(file: Path, reason: str) -> RunError:
    what = f"{file} cannot be read: {reason}"
    fix = "the file is damaged or was not copied completely: fetch it again"
    return RunError(Problem(what, path="train.init", fix=fix, code="load"))
