"""What the command line asks for, checked before anything is timed."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar

import torch

from nifbuild.errors import Mark, Problem, SpecError, suggestion
from nifbuild.report.bench.contenders import (
    DEFAULT_CONTENDERS,
    Contender,
    InputShape,
    Mixing,
    parse_contender,
)
from nifbuild.report.bench.growth import GrowthRequest
from nifbuild.report.bench.layers import CIFAR_STAGES, IMAGENET_STAGES, LayersRequest
from nifbuild.report.bench.overhead import OverheadRequest
from nifbuild.report.bench.setting import Setting
from nifbuild.report.bench.step import StepRequest
from nifbuild.report.output_file import file_problem
from nifbuild.spec.image_size import parse_size

Request = LayersRequest | GrowthRequest | StepRequest | OverheadRequest
DtypeName = Literal["float32", "bfloat16", "float16"]

T = TypeVar("T")

_DEFAULT_BATCH = 32
_DEFAULT_SECONDS = {"layers": 5.0, "growth": 10.0, "step": 60.0, "overhead": 60.0}
_PLOT_FORMATS = (".png", ".pdf", ".svg")


@dataclass(frozen=True, slots=True)
class Options:
    """The command line as typed; None and empty where an option was not given.

    See `nifbuild.cli.bench` for what each one means.
    """

    shapes: Sequence[str] = ()
    contenders: Sequence[str] = ()
    mixing: Mixing | None = None
    growth: bool = False
    step: Path | None = None
    overhead: Path | None = None
    against: Path | None = None
    size: str | None = None
    batch_size: int | None = None
    repeats: int = 11
    seconds: float | None = None
    threads: int | None = None
    device: str = "auto"
    dtype: DtypeName = "float32"
    autocast: bool = False
    plot: Path | None = None
    overwrite: bool = False


def parse_request(options: Options) -> Request:
    """The measurement that the options ask for.

    Raises:
        SpecError: With all that is wrong with them.
    """
    problems: list[Problem] = []
    mode = _mode(options)
    _check_mode(options, mode, problems)
    setting = Setting(
        device=_device(options.device, problems),
        dtype=getattr(torch, options.dtype),
        autocast=options.autocast,
        repeats=options.repeats,
        seconds=_DEFAULT_SECONDS[mode] if options.seconds is None else options.seconds,
        threads=options.threads or torch.get_num_threads(),
    )
    if options.autocast and options.dtype == "float32":
        fix = "add --dtype bfloat16 or --dtype float16"
        problems.append(_problem("--autocast", "autocast to float32 changes nothing", fix))
    shapes = [_shape(text, options.batch_size, problems) for text in options.shapes]
    contenders = [_contender(name, problems) for name in options.contenders]
    size = None if options.size is None else _size(options.size, problems)
    if options.plot is not None:
        found = file_problem("--plot", options.plot, _PLOT_FORMATS, overwrite=options.overwrite)
        problems += [found] if found else []
    if problems:
        raise SpecError(problems)
    batch = options.batch_size or _DEFAULT_BATCH
    if options.step is not None:
        return StepRequest(setting, options.step, options.against, batch, size)
    if options.overhead is not None:
        return OverheadRequest(setting, options.overhead, options.batch_size, size)
    if options.growth:
        return GrowthRequest(setting, batch)
    return LayersRequest(
        setting,
        _distinct(shapes) or _default_shapes(options.batch_size),
        _distinct(contenders) or DEFAULT_CONTENDERS,
        options.mixing or "depthwise",
    )


def _problem(flag: str, what: str, fix: str) -> Problem:
    return Problem(what, where=Mark(flag), fix=fix, code="option")


def _mode(options: Options) -> str:
    if options.step is not None:
        return "step"
    if options.overhead is not None:
        return "overhead"
    return "growth" if options.growth else "layers"


def _check_mode(options: Options, mode: str, problems: list[Problem]) -> None:
    """Each option must have an effect on what is measured."""
    given = {
        "--shape": (bool(options.shapes), ("layers",)),
        "--contender": (bool(options.contenders), ("layers",)),
        "--mixing": (options.mixing is not None, ("layers",)),
        "--growth": (options.growth, ("growth",)),
        "--overhead": (options.overhead is not None, ("overhead",)),
        "--against": (options.against is not None, ("step",)),
        "--size": (options.size is not None, ("step", "overhead")),
        "--plot": (options.plot is not None, ("layers", "growth", "step")),
        "--overwrite": (options.overwrite, ("layers", "growth", "step")),
    }
    if mode == "overhead" and options.dtype != "float32" and not options.autocast:
        what, fix = "training keeps weights in float32", "add --autocast"
        problems.append(_problem("--dtype", what, fix))
    for flag, (is_given, homes) in given.items():
        if is_given and mode not in homes:
            what, fix = f"has no effect with --{mode}", f"leave out {flag}, or --{mode}"
            if mode == "layers":
                what, fix = "has no effect without --step", "add --step SPEC"
            problems.append(_problem(flag, what, fix))


def _device(name: str, problems: list[Problem]) -> torch.device:
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda" if gpus else "cpu")
    match = re.fullmatch(r"cpu|cuda(?::(\d+))?", name)
    if match is None:
        fix = suggestion(name, ["auto", "cpu", "cuda"], "devices: auto, cpu, cuda, cuda:1 ...")
        problems.append(_problem(f"--device {name}", f"unknown device '{name}'", fix))
    elif name != "cpu" and int(match[1] or 0) >= gpus:
        what = f"'{name}' is not available: there {'is 1 GPU' if gpus == 1 else f'are {gpus} GPUs'}"
        problems.append(_problem(f"--device {name}", what, "use --device auto or --device cpu"))
    else:
        return torch.device(name)
    return torch.device("cpu")


def _shape(text: str, batch_size: int | None, problems: list[Problem]) -> InputShape | None:
    if re.fullmatch(r"[1-9]\d*(x[1-9]\d*){3}", text) is None:
        fix = "batch x channels x height x width, such as 32x64x56x56"
        problems.append(_problem(f"--shape {text}", f"'{text}' is no shape", fix))
        return None
    batch, channels, height, width = map(int, text.split("x"))
    return InputShape(batch_size or batch, channels, height, width)


def _default_shapes(batch_size: int | None) -> list[InputShape]:
    shapes = [*IMAGENET_STAGES, *CIFAR_STAGES]
    return [replace(shape, batch=batch_size or shape.batch) for shape in shapes]


def _contender(name: str, problems: list[Problem]) -> Contender | None:
    contender = parse_contender(name)
    if contender is None:
        listed = "contenders: published, depthwise-image, and depthwise-K or full-K with an odd K"
        names = [contender.name for contender in DEFAULT_CONTENDERS]
        fix = suggestion(name, names, listed)
        problems.append(_problem(f"--contender {name}", f"unknown contender '{name}'", fix))
    return contender


def _size(text: str, problems: list[Problem]) -> tuple[int, int] | None:
    try:
        return parse_size(text)
    except ValueError as error:
        fix = "pixels, such as 224, or height x width, such as 224x192"
        problems.append(_problem(f"--size {text}", str(error), fix))
        return None


def _distinct(values: Sequence[T | None]) -> list[T]:
    return list(dict.fromkeys(value for value in values if value is not None))
