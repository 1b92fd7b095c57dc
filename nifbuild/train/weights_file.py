"""Weights from the files that people have: safetensors, torch's own, and runs of nifbuild."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from nifbuild.errors import Problem, RunError, SpecError, did_you_mean
from nifbuild.spec.resolve import load_spec
from nifbuild.train.directory import RunDirectory
from nifbuild.train.intact import evaluated_weights, require_trained

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
        require_trained(load_spec(run.spec), run.spec, checkpoint)
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
