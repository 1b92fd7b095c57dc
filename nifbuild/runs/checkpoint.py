"""All that a run needs to go on as if it had never stopped, to and from bytes."""

import io
import pickle
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from accelerate.optimizer import AcceleratedOptimizer
from torch import nn

from nifbuild.errors import Problem, SpecError
from nifbuild.machine.sharding import load_optimizer_shares, load_shares, whole, whole_state
from nifbuild.runs.intact import AVERAGE, WEIGHTS, reading, require_saved
from nifbuild.runs.weights import read_safetensors, require_fit
from nifbuild.spec.same_training import load_stored, training_changes

_MAX_CHANGES = 12
"""Lines that are shown of how a spec has changed."""


@dataclass
class Best:
    """An evaluation that was better than those before: its place, and the monitored figure."""

    step: int
    epoch: int
    figure: float


@dataclass
class Progress:
    """How far a run is.

    Attributes:
        step: Optimizer steps done.
        epoch: Epochs done, their evaluation included. The steps of the epoch in progress follow:
            `step - epoch * steps_per_epoch`.
        loss_sum: Sum of the losses of the steps of the epoch in progress.
        top1_sum: Sum of their accuracies; None: a checkpoint within the epoch does not tell.
        best: The best evaluation, where one may be chosen.
        improved: The last one that early stopping counts as an improvement.
        seconds: Time spent so far, over all starts.
    """

    step: int = 0
    epoch: int = 0
    loss_sum: float = 0.0
    top1_sum: float | None = 0.0
    best: Best | None = None
    improved: Best | None = None
    seconds: float = 0.0

    def add_steps(self, figures: Iterable[tuple[float, float]]) -> None:
        """Adds losses and accuracies, one by one: sums must not depend on how they are grouped."""
        for loss, top1 in figures:
            self.loss_sum += loss
            if self.top1_sum is not None:
                self.top1_sum += top1

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> "Progress":
        """From the entry `progress` of a checkpoint's `progress.json`."""
        values = {f.name: document[f.name] for f in fields(cls) if f.name in document}
        for name in ("best", "improved"):
            if values.get(name) is not None:
                values[name] = Best(**values[name])
        return cls(**{"top1_sum": None, **values})


@dataclass(frozen=True)
class Identity:
    """What must be the same for a run to continue: a change of any makes it another run.

    Of the spec, what `nifbuild.spec.same_training` leaves free may change.

    Attributes:
        spec: The resolved spec, written out.
        world_size: Number of processes.
        precision: As in the spec.
        data: Fingerprint of the data.
        init: Fingerprint of the weights that training started from.
        device: Kind of device: `cpu`, `cuda` or `mps`.
    """

    spec: str
    world_size: int
    precision: str
    data: str
    init: str | None = None
    device: str | None = None

    def require_same(self, saved: dict[str, Any], run: Path | None = None) -> None:
        """Raises SpecError that shows each difference from what a checkpoint holds.

        Args:
            saved: The identity that is in it.
            run: The directory of the run, to say how it goes on as it was.
        """
        problems = self._problems_of_spec(saved["spec"], run)
        # Runs of older versions do not tell, unless their spec does.
        if saved.get("device") is None:
            saved = {**saved, "device": _kind_of_device(saved["spec"]) or self.device}
        for name, label in (
            ("world_size", "number of processes"),
            ("precision", "precision"),
            ("device", "kind of device"),
            ("data", "data's fingerprint"),
            ("init", "fingerprint of the weights to start from"),
        ):
            was, now = saved.get(name), getattr(self, name)
            if was != now:
                what = f"was {was}, now {now}"
                if name == "world_size":
                    what += f": nifbuild train ... --resume --processes {was}"
                problems.append(_refusal(f"the {label} has changed", what))
        if problems:
            raise SpecError(problems)

    def require_same_spec(self, saved: str, run: Path | None = None) -> None:
        """Raises SpecError where a stored spec trains something else."""
        if problems := self._problems_of_spec(saved, run):
            raise SpecError(problems)

    def _problems_of_spec(self, saved: str, run: Path | None) -> list[Problem]:
        changes = training_changes(saved, self.spec)
        if not changes:
            return []
        lines = changes.splitlines()
        if (more := len(lines) - _MAX_CHANGES) > 1:
            lines[_MAX_CHANGES:] = [f"... and {more} lines more"]
        if run is not None:
            words = ["nifbuild", "train", str(run / "spec.yaml"), "--out", str(run), "--resume"]
            lines.append("it goes on by all options that it was started with, or as it was by")
            lines.append(f"  {shlex.join(words)}")
        return [_refusal("the spec has changed", "\n".join(lines))]

    def is_same(self, saved: dict[str, Any]) -> bool:
        """Whether a checkpoint that holds `saved` is of a run that may continue as this one."""
        try:
            self.require_same(saved)
        except SpecError:
            return False
        return True


def _kind_of_device(spec: str) -> str | None:
    stored = load_stored(spec)
    name = "auto" if stored is None else stored.spec.train.device
    return None if name == "auto" else name.partition(":")[0]


def _refusal(what: str, difference: str) -> Problem:
    fix = f"{difference}\nundo the change, or start another run with --out DIR or --overwrite"
    return Problem(f"cannot resume: {what} since the run was started", fix=fix, code="resume")


def pack(
    module: nn.Module,
    average: nn.Module | None,
    optimizer: AcceleratedOptimizer,
    progress: Progress,
    identity: Identity,
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The files of a checkpoint, and the content of its `progress.json`.

    Where weights are shared out over processes, every process has to call it.
    """
    files = {WEIGHTS: weights_bytes(module)}
    if average is not None:
        files[AVERAGE] = weights_bytes(average)
    state = {
        "optimizer": whole_state(optimizer.state_dict()),
        "scaler": optimizer.scaler.state_dict() if optimizer.scaler is not None else None,
    }
    buffer = io.BytesIO()
    torch.save(state, buffer)
    files["optimizer.pt"] = buffer.getvalue()
    return files, {"progress": asdict(progress), "identity": asdict(identity)}


def unpack(
    checkpoint: Path,
    module: nn.Module,
    average: nn.Module | None,
    optimizer: AcceleratedOptimizer,
) -> None:
    """Loads a checkpoint's weights and optimizer state in place.

    Raises:
        RunError: If a file is missing or damaged.
    """
    load_weights(module, checkpoint, WEIGHTS)
    if average is not None:
        load_weights(average, checkpoint, AVERAGE)
    path = checkpoint / "optimizer.pt"
    require_saved(checkpoint, path)
    with reading(path):
        try:
            # Nothing but tensors and plain containers is unpickled.
            state = torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            raise ValueError("it is damaged") from error  # torch advises to load it without safety
        load_optimizer_shares(optimizer, state["optimizer"])
        if optimizer.scaler is not None:
            optimizer.scaler.load_state_dict(state["scaler"])


def forget_state(optimizer: AcceleratedOptimizer) -> None:
    """Puts an optimizer, and the scaler of its loss, to before their first step."""
    optimizer.load_state_dict({**optimizer.state_dict(), "state": {}})
    if optimizer.scaler is not None:
        optimizer.scaler.load_state_dict(type(optimizer.scaler)().state_dict())


def load_weights(module: nn.Module, checkpoint: Path, name: str) -> None:
    """Loads one of a checkpoint's files of weights.

    Raises:
        RunError: If it is missing, damaged, or for another model.
    """
    path = checkpoint / name
    require_saved(checkpoint, path)
    with reading(path):
        weights = read_safetensors(path)[1]
        require_fit(weights, module.state_dict())
        load_shares(module, weights)


def weights_bytes(module: nn.Module, metadata: Mapping[str, str] | None = None) -> bytes:
    """The weights as the content of a safetensors file, with texts in its header."""
    # Copies, as safetensors refuses tensors that share memory or are not contiguous.
    state = {
        name: whole(tensor).detach().cpu().contiguous().clone()
        for name, tensor in module.state_dict().items()
    }
    content: bytes = safetensors.torch.save(state, metadata={"format": "pt", **(metadata or {})})
    return content
