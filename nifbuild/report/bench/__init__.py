"""How fast and lean the layer is on this machine, against what one would use instead.

Reading order: `bench` (what is asked), `contenders` (what is compared), `layers` (the table over
shapes), `crossover`, `growth` (time against size), `step` (whole training steps of two specs),
`overhead` (the training loop against a bare one), `feeding` (decoding and augmenting images);
`report_tables` and `report_plots` show it.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from nifbuild.errors import Problem, SpecError, keeping, option_problem
from nifbuild.machine.loading import loading
from nifbuild.machine.options import AnyPath, OverwriteOption, checked
from nifbuild.spec.image_size import Pixels, noting_size

if TYPE_CHECKING:
    from nifbuild.report.bench.feeding import FeedReport
    from nifbuild.report.bench.growth import GrowthReport
    from nifbuild.report.bench.layers import LayersReport
    from nifbuild.report.bench.overhead import OverheadReport
    from nifbuild.report.bench.step import StepReport

    Report = LayersReport | GrowthReport | StepReport | OverheadReport | FeedReport

_BATCH = 32
_SECONDS = {"layers": 5.0, "growth": 10.0, "step": 60.0, "overhead": 60.0, "data": 60.0}
_PLOT_FORMATS = (".png", ".pdf", ".svg")

ShapesOption = Annotated[
    Sequence[str],
    typer.Option(
        "--shape",
        metavar="BxCxHxW",
        help="Batch, channels, height and width of the activations. Repeatable.",
        show_default="the stages of ResNet-18 on ImageNet and CIFAR",
    ),
]
ContendersOption = Annotated[
    Sequence[str],
    typer.Option(
        "--contender",
        metavar="NAME",
        help="published, depthwise-image, depthwise-K or full-K, with any odd K; fft, the layer's "
        "way by transforms; on a CUDA device also fused, its other way, and -channels-last behind "
        "those with a K. Repeatable.",
        show_default="published, depthwise 3, 7, 31 and image, full-3; on a CUDA device "
        "fft, fused, depthwise 3 and 7 in both layouts, depthwise 31",
    ),
]
MixingOption = Annotated[
    Literal["depthwise", "separable"] | None,
    typer.Option(
        help="Filter each channel, or mix them by a 1x1 as well.", show_default="depthwise"
    ),
]
GrowthOption = Annotated[
    bool,
    typer.Option("--growth", help="Time the layer from 32 to 512 pixels square instead."),
]
StepOption = Annotated[
    AnyPath | None,
    typer.Option(
        "--step",
        metavar="SPEC",
        show_default=False,
        help="Time training steps of this spec instead: forward, loss, backward, SGD, on noise.",
    ),
]
AgainstOption = Annotated[
    AnyPath | None,
    typer.Option(
        "--against",
        metavar="SPEC",
        show_default=False,
        help="With --step: in turn with steps of this spec, which gives the ratio of the two.",
    ),
]
CompileOption = Annotated[
    bool, typer.Option("--compile", help="With --step: models by torch.compile, as train.compile.")
]
OverheadOption = Annotated[
    AnyPath | None,
    typer.Option(
        "--overhead",
        metavar="SPEC",
        show_default=False,
        help="Train this spec on its data instead, in turn with a bare PyTorch loop.",
    ),
]
DataOption = Annotated[
    AnyPath | None,
    typer.Option(
        "--data",
        metavar="SPEC",
        show_default=False,
        help="Decode and augment the training images of this spec instead, in turn with a bare "
        "loop of Pillow and torch.",
    ),
]
ModelSpeedOption = Annotated[
    float | None,
    typer.Option(
        min=0.001,
        show_default=False,
        metavar="IMAGES/S",
        help="With --data: images per second of a model, to tell how long it would wait for them.",
    ),
]
SizeOption = Annotated[
    Pixels | None,
    typer.Option(
        metavar="PIXELS",
        help="With --step, --overhead or --data: size of the images, such as 224 or 224x192.",
        show_default="as the spec says",
    ),
]
BatchSizeOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Images at once, whatever --shape says.",
        show_default="32, or that of the shapes, or with --overhead or --data of the spec",
    ),
]
RepeatsOption = Annotated[int, typer.Option(min=1, help="Repeats of each measurement.")]
SecondsOption = Annotated[
    float | None,
    typer.Option(
        min=0,
        help="A contender that has taken so long gets no more repeats.",
        show_default="5 for each shape; 10 with --growth, 60 with --step, --overhead, --data",
    ),
]
ThreadsOption = Annotated[
    int | None, typer.Option(min=1, help="Of the CPU.", show_default="as PyTorch chooses")
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")]
DtypeOption = Annotated[
    Literal["float32", "bfloat16", "float16"],
    typer.Option(help="Of weights and inputs; with --autocast, that which it computes in."),
]
AutocastOption = Annotated[
    bool,
    typer.Option("--autocast", help="Keep weights and inputs in float32, under autocast."),
]
PlotOption = Annotated[
    AnyPath | None, typer.Option(help="Draw the result to this .png, .pdf or .svg, too.")
]


@checked
def bench(
    *,
    shapes: ShapesOption = (),
    contenders: ContendersOption = (),
    mixing: MixingOption = None,
    growth: GrowthOption = False,
    step: StepOption = None,
    against: AgainstOption = None,
    compile: CompileOption = False,
    overhead: OverheadOption = None,
    data: DataOption = None,
    model_speed: ModelSpeedOption = None,
    size: SizeOption = None,
    batch_size: BatchSizeOption = None,
    repeats: RepeatsOption = 11,
    seconds: SecondsOption = None,
    threads: ThreadsOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "float32",
    autocast: AutocastOption = False,
    plot: PlotOption = None,
    overwrite: OverwriteOption = False,
    report: Callable[[str], None] = lambda text: None,
) -> "Report":
    """Measure the layer on this machine against what one would use in its place.

    Times are taken in turn in one process. A ratio is that of two times of the
    same repeat, as other work on the machine slows both; its median is shown,
    with its spread. More than 1 means that the layer is faster.

    Returns:
        The times; `report` hears what is being measured on the way.

    Raises:
        SpecError: With all that is wrong with the options; or a spec is wrong.
        RunError: It cannot be run here, or the plot cannot be written.
    """
    with loading():
        import torch

        from nifbuild.report.bench.contenders import contenders_named
        from nifbuild.report.bench.feeding import FeedRequest
        from nifbuild.report.bench.growth import GrowthReport, GrowthRequest
        from nifbuild.report.bench.layers import (
            LayersReport,
            LayersRequest,
            default_shapes,
            shapes_of,
        )
        from nifbuild.report.bench.overhead import OverheadRequest
        from nifbuild.report.bench.report_plots import plot_report
        from nifbuild.report.bench.setting import Setting, device_named
        from nifbuild.report.bench.step import StepReport, StepRequest
        from nifbuild.report.output_file import file_problem

    mode = _mode(growth, step, overhead, data)
    given = {
        "--shape": (bool(shapes), ("layers",)),
        "--contender": (bool(contenders), ("layers",)),
        "--mixing": (mixing is not None, ("layers",)),
        "--growth": (growth, ("growth",)),
        "--overhead": (overhead is not None, ("overhead",)),
        "--data": (data is not None, ("data",)),
        "--model-speed": (model_speed is not None, ("data",)),
        "--against": (against is not None, ("step",)),
        "--compile": (compile, ("step",)),
        "--size": (size is not None, ("step", "overhead", "data")),
        "--plot": (plot is not None, ("layers", "growth", "step")),
        "--overwrite": (overwrite, ("layers", "growth", "step")),
        "--dtype": (dtype != "float32", ("layers", "growth", "step", "overhead")),
        "--autocast": (autocast, ("layers", "growth", "step", "overhead")),
    }
    problems = [*_type_problems(mode, dtype, autocast), *_without_effect(given, mode)]
    setting = Setting(
        device=device_named(device, problems),
        dtype=getattr(torch, dtype),
        autocast=autocast,
        repeats=repeats,
        seconds=_SECONDS[mode] if seconds is None else seconds,
        threads=threads or torch.get_num_threads(),
    )
    wanted_shapes = shapes_of(shapes, batch_size, problems)
    wanted_contenders = contenders_named(contenders, setting.device, problems)
    pixels = None if size is None else noting_size(size, problems)
    file = None if plot is None else Path(plot)
    if file is not None:
        found = file_problem("--plot", file, _PLOT_FORMATS, overwrite=overwrite)
        problems += [found] if found else []
    if problems:
        raise SpecError(problems)
    batch = batch_size or _BATCH
    request: StepRequest | OverheadRequest | FeedRequest | GrowthRequest | LayersRequest
    if step is not None:
        other = None if against is None else Path(against)
        request = StepRequest(setting, Path(step), other, batch, pixels, compile)
    elif overhead is not None:
        request = OverheadRequest(setting, Path(overhead), batch_size, pixels)
    elif data is not None:
        request = FeedRequest(setting, Path(data), batch_size, pixels, model_speed)
    elif growth:
        request = GrowthRequest(setting, batch)
    else:
        request = LayersRequest(
            setting,
            wanted_shapes or default_shapes(batch_size),
            wanted_contenders,
            mixing or "depthwise",
        )
    measured = request.measure(report)
    if file is not None and isinstance(measured, LayersReport | GrowthReport | StepReport):
        with keeping(measured):
            plot_report(measured, file, overwrite=overwrite)
    return measured


def _mode(
    growth: bool, step: AnyPath | None, overhead: AnyPath | None, data: AnyPath | None
) -> str:
    if step is not None:
        return "step"
    if overhead is not None:
        return "overhead"
    if data is not None:
        return "data"
    return "growth" if growth else "layers"


def _type_problems(mode: str, dtype: str, autocast: bool) -> list[Problem]:
    if mode == "overhead" and dtype != "float32" and not autocast:
        return [option_problem("--dtype", "training keeps weights in float32", "add --autocast")]
    if autocast and dtype == "float32" and mode != "data":
        fix = "add --dtype bfloat16 or --dtype float16"
        return [option_problem("--autocast", "autocast to float32 changes nothing", fix)]
    return []


def _without_effect(given: Mapping[str, tuple[bool, Sequence[str]]], mode: str) -> list[Problem]:
    """Each option must have an effect on what is measured."""
    problems = []
    for flag, (is_given, homes) in given.items():
        if is_given and mode not in homes:
            what, fix = f"has no effect with --{mode}", f"leave out {flag}, or --{mode}"
            if mode == "layers":
                home = f"--{homes[0]}"
                what, fix = f"has no effect without {home}", f"add {home} SPEC"
            problems.append(option_problem(flag, what, fix))
    return problems
