"""What the command line asks to be inspected, checked."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from nifbuild.errors import Mark, Problem, SpecError
from nifbuild.report.inspect.targets import Device, Target
from nifbuild.spec.budget import BudgetSpec, parse_bytes, parse_count
from nifbuild.spec.resolve import Resolved, load_spec
from nifbuild.spec.training import MAX_BATCH, AdamW, Precision, Sgd


@dataclass(frozen=True, slots=True)
class Request:
    """What to inspect.

    Attributes:
        resolved: The spec.
        against: Another one to set beside it.
        target: The device and precision to predict memory for.
        optimizer: None: the spec's.
        batch_sizes: Images at once; empty: as the spec trains.
        device_memory: Bytes that the largest batch is to be found for.
        limits: The budget that was given with the command.
        verify: Whether to run a real step.
    """

    resolved: Resolved
    against: Resolved | None
    target: Target
    optimizer: Sgd | AdamW | None
    batch_sizes: tuple[int, ...]
    device_memory: int | None
    limits: BudgetSpec
    verify: bool


def read_request(
    spec: Path,
    *,
    data: Path | None = None,
    overrides: Sequence[str] = (),
    batch_sizes: str | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    precision: Precision | None = None,
    optimizer: Literal["sgd", "adamw"] | None = None,
    device_memory: str | None = None,
    limits: Mapping[str, str | None] | None = None,
    against: Path | None = None,
    verify: bool = False,
) -> Request:
    """Reads specs and options.

    Raises:
        SpecError: A spec or an option is wrong, or what is to be measured is not on this machine.
    """
    resolved = load_spec(spec, data=data, overrides=overrides)
    target = Target(_device(device, resolved, verify), precision or resolved.spec.train.precision)
    if target.device == "cpu" and target.precision == "fp16":
        raise SpecError(
            Problem("fp16 needs a GPU", path="train.precision", fix="on a CPU use bf16 or fp32")
        )
    return Request(
        resolved=resolved,
        against=None if against is None else load_spec(against, data=data),
        target=target,
        optimizer=_optimizer(optimizer, resolved),
        batch_sizes=() if batch_sizes is None else _sizes(batch_sizes),
        device_memory=_amount("--device-memory", device_memory, parse_bytes),
        limits=_limits(limits or {}),
        verify=verify,
    )


def _device(name: Literal["auto", "cpu", "cuda"], resolved: Resolved, verify: bool) -> Device:
    has_gpu = torch.cuda.is_available()
    if name == "auto":
        if verify and not has_gpu:
            return "cpu"
        return Target.of(resolved).device
    if name == "cuda" and verify and not has_gpu:
        what = "there is no CUDA device on this machine to verify a prediction with"
        raise SpecError(Problem(what, Mark("--verify"), fix="use --device cpu, or no --verify"))
    return name


def _optimizer(name: Literal["sgd", "adamw"] | None, resolved: Resolved) -> Sgd | AdamW | None:
    if name is None or name == resolved.spec.train.optimizer.name:
        return None
    return Sgd(name="sgd") if name == "sgd" else AdamW()


def _sizes(text: str) -> tuple[int, ...]:
    words = [word.strip() for word in text.split(",")]
    most = len(str(MAX_BATCH))
    if not all(w.isdecimal() and len(w) <= most and 0 < int(w) <= MAX_BATCH for w in words):
        what = f"expected whole numbers from 1 to {MAX_BATCH:,}, got '{text}'"
        raise SpecError(Problem(what, Mark("--batch-size"), fix="as in --batch-size 1,32,256"))
    return tuple(dict.fromkeys(int(word) for word in words))


def _limits(texts: Mapping[str, str | None]) -> BudgetSpec:
    parsers = {"max_train_memory": parse_bytes}
    return BudgetSpec(
        **{
            name: _amount(f"--{name.replace('_', '-')}", text, parsers.get(name, parse_count))
            for name, text in texts.items()
        }
    )


def _amount(option: str, text: str | None, parse: Callable[[str], int]) -> int | None:
    if text is None:
        return None
    try:
        return parse(text)
    except ValueError as error:
        raise SpecError(Problem(str(error), Mark(option))) from None
