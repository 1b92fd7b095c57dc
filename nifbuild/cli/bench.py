"""`nifbuild bench`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from nifbuild.cli.loading import loading
from nifbuild.cli.options import JsonOption, OverwriteOption
from nifbuild.cli.output import print_document

StepOption = Annotated[
    Path | None,
    typer.Option(
        "--step",
        metavar="SPEC",
        show_default=False,
        help="Time training steps of this spec instead: forward, loss, backward, SGD, on noise.",
    ),
]
AgainstOption = Annotated[
    Path | None,
    typer.Option(
        "--against",
        metavar="SPEC",
        show_default=False,
        help="With --step: in turn with steps of this spec, which gives the ratio of the two.",
    ),
]
OverheadOption = Annotated[
    Path | None,
    typer.Option(
        "--overhead",
        metavar="SPEC",
        show_default=False,
        help="Train this spec on its data instead, in turn with a bare PyTorch loop.",
    ),
]


def bench(
    shapes: Annotated[
        list[str] | None,
        typer.Option(
            "--shape",
            metavar="BxCxHxW",
            help="Batch, channels, height and width of the activations. Repeatable.",
            show_default="the stages of ResNet-18 on ImageNet and CIFAR",
        ),
    ] = None,
    contenders: Annotated[
        list[str] | None,
        typer.Option(
            "--contender",
            metavar="NAME",
            help="published, depthwise-image, depthwise-K or full-K, with any odd K. Repeatable.",
            show_default="published, depthwise 3, 7, 31 and image, full-3",
        ),
    ] = None,
    mixing: Annotated[
        Literal["depthwise", "separable"] | None,
        typer.Option(
            help="Filter each channel, or mix them by a 1x1 as well.", show_default="depthwise"
        ),
    ] = None,
    growth: Annotated[
        bool,
        typer.Option("--growth", help="Time the layer from 32 to 512 pixels square instead."),
    ] = False,
    step: StepOption = None,
    against: AgainstOption = None,
    overhead: OverheadOption = None,
    size: Annotated[
        str | None,
        typer.Option(
            metavar="PIXELS",
            help="With --step or --overhead: size of the images, such as 224 or 224x192.",
            show_default="as the spec says",
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Images at once, whatever --shape says.",
            show_default="32, or that of the shapes, or with --overhead of the spec",
        ),
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Repeats of each measurement.")] = 11,
    seconds: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="A contender that has taken so long gets no more repeats.",
            show_default="5 for each shape; 10 with --growth, 60 with --step, --overhead",
        ),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Of the CPU.", show_default="as PyTorch chooses")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"],
        typer.Option(help="Of weights and inputs; with --autocast, that which it computes in."),
    ] = "float32",
    autocast: Annotated[
        bool,
        typer.Option("--autocast", help="Keep weights and inputs in float32, under autocast."),
    ] = False,
    plot: Annotated[
        Path | None, typer.Option(help="Draw the result to this .png, .pdf or .svg, too.")
    ] = None,
    overwrite: OverwriteOption = False,
    json_output: JsonOption = False,
) -> None:
    """Measure the layer on this machine against what one would use in its place.

    Times are taken in turn in one process. A ratio is that of two times of the
    same repeat, as other work on the machine slows both; its median is shown,
    with its spread. More than 1 means that the layer is faster.
    """
    with loading():
        from nifbuild.machine.terminal import StatusLine
        from nifbuild.report.bench.overhead import OverheadReport
        from nifbuild.report.bench.report_plots import plot_report
        from nifbuild.report.bench.report_tables import print_report
        from nifbuild.report.bench.request import Options, parse_request

    request = parse_request(
        Options(
            shapes=shapes or (),
            contenders=contenders or (),
            mixing=mixing,
            growth=growth,
            step=step,
            against=against,
            overhead=overhead,
            size=size,
            batch_size=batch_size,
            repeats=repeats,
            seconds=seconds,
            threads=threads,
            device=device,
            dtype=dtype,
            autocast=autocast,
            plot=plot,
            overwrite=overwrite,
        )
    )
    with StatusLine() as status:
        report = request.measure(status.show)
    try:
        if plot is not None and not isinstance(report, OverheadReport):
            plot_report(report, plot, overwrite=overwrite)
    finally:  # what was measured is told even where it cannot be drawn
        print_document(report.as_document()) if json_output else print_report(report)
