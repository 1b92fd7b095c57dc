"""Weights from files into models: whether they fit is found out before anything is allocated."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors
import torch
from torch import Tensor, nn

from nifbuild.compile import build_skeleton
from nifbuild.spec.resolve import Resolved
from nifbuild.train.documents import DataDescription
from nifbuild.train.intact import reading

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
