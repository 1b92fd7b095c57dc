"""Reports as tables for people, within 80 columns."""

import statistics
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from nifbuild.machine.terminal import Console, Table
from nifbuild.report.bench.contenders import THIS_LAYER
from nifbuild.report.bench.feeding import FeedReport
from nifbuild.report.bench.growth import GrowthReport
from nifbuild.report.bench.layers import Figures, LayersReport, ShapeFigures
from nifbuild.report.bench.overhead import OverheadReport
from nifbuild.report.bench.step import StepReport
from nifbuild.report.measure import Quartiles
from nifbuild.report.show.tables import legend, open_table
from nifbuild.report.show.units import mebibytes, number_text, percent_text, ratio_text, shape_text

_MEDIAN = "median of n ± IQR/2"

Report = LayersReport | GrowthReport | StepReport | OverheadReport | FeedReport


def print_report(report: Report) -> None:
    """Prints a report on stdout."""
    Console().print(render(report))


def render(report: Report) -> RenderableType:
    """The report as tables, with what one needs to know to read them."""
    if isinstance(report, LayersReport):
        parts = _layers(report)
    elif isinstance(report, GrowthReport):
        parts = _growth(report)
    elif isinstance(report, OverheadReport):
        parts = _overhead(report)
    elif isinstance(report, FeedReport):
        parts = _feeding(report)
    else:
        parts = _step(report)
    return Group(Text(machine_text(report.environment)), Text(), *parts)


def machine_text(environment: dict[str, Any]) -> str:
    """Device, threads, version, dtype and date in one line."""
    words = [environment["device_name"]]
    if environment["device"] == "cpu":
        threads = environment["threads"]
        words.append(f"{threads} thread{'s' if threads > 1 else ''}")
    words += [f"torch {environment['packages']['torch']}", environment["precision"]]
    return ", ".join([*words, environment["started"][:10]])


def _layers(report: LayersReport) -> list[RenderableType]:
    parts = [part for shape in report.shapes for part in _shape(shape)]
    if len(report.shapes) > 1:
        parts += [_overall(report), Text()]
    lines = [
        *_names(report),
        "fwd: eval mode, no gradients; fwd+bwd: training mode, all gradients",
        f"ratio: time over this layer's in the same repeat, {_MEDIAN}",
        "floors: time over that of one read and one write of the activations",
        "peak: allocated at once in fwd+bwd, beyond input and output's gradient",
        "saved: kept by the forward for the backward, the input included",
        "crossover: the smallest depthwise kernel that is slower than this layer, fwd+bwd",
    ]
    if report.mixing == "separable":
        lines.insert(0, "all but full have a 1x1 convolution as well")
    return [*parts, legend(*lines)]


def _names(report: LayersReport) -> list[str]:
    names = " ".join({figures.name for shape in report.shapes for figures in shape.contenders})
    explained = {
        "published": "published: the paper's formula, written naively",
        "depthwise-image": "image: depthwise, with the largest odd kernel that is not larger than "
        "the image",
        "fft": "fft: this layer by a chain of transforms",
        "fused": "fused: this layer by one kernel",
        "-channels-last": "ch. last: depthwise, with channels lying together in memory",
    }
    return [text for word, text in explained.items() if word in names]


def _shape(shape: ShapeFigures) -> list[RenderableType]:
    facts = [str(shape.shape), f"floor {number_text(shape.floor_ms.median)} ms"]
    if shape.crossover is not None:
        size, limit = shape.crossover.kernel_size, shape.crossover.limit
        found = f"crossover at {size}x{size}" if size else f"no crossover up to {limit}x{limit}"
        facts.append(found)
    table = _table(
        ",  ".join(facts),
        ("", 15),
        ("fwd\nms", 6),
        ("ratio", 5),
        ("fwd+bwd\nms", 7),
        ("ratio", 10),
        ("floors", 6),
        ("peak\nMiB", 5),
        ("saved\nMiB", 5),
        ("n", 3),
    )
    for figures in shape.contenders:
        table.add_row(*_cells(figures), style="bold" if figures.name == THIS_LAYER else "")
    failures = [
        Text(f"{failure.label} cannot be run here: {failure.reason}", style="red")
        for failure in shape.failures
    ]
    return [table, *failures, Text()]


def _cells(figures: Figures) -> list[str]:
    is_reference = figures.name == THIS_LAYER
    return [
        figures.label,
        number_text(figures.forward_ms.median),
        "1" if is_reference else ratio_text(figures.forward_ratio.median),
        number_text(figures.forward_backward_ms.median),
        "1" if is_reference else with_spread(figures.forward_backward_ratio),
        number_text(figures.forward_backward_floors.median),
        _mebibytes(figures.peak_bytes),
        _mebibytes(figures.saved_bytes),
        str(figures.forward_backward_ratio.count),
    ]


def _overall(report: LayersReport) -> Table:
    table = _table(
        "over all shapes, fwd+bwd ratio",
        ("", 15),
        ("geometric mean", 0),
        ("least", 6),
        ("most", 6),
        ("shapes", 0),
    )
    for name, medians in report.overall_ratios().items():
        if name != THIS_LAYER:
            figures = (statistics.geometric_mean(medians), min(medians), max(medians))
            table.add_row(name, *map(ratio_text, figures), str(len(medians)))
    return table


def _growth(report: GrowthReport) -> list[RenderableType]:
    smallest = report.sizes[0].size
    table = _table(
        "forward + backward by size of image and filter",
        ("pixels", 0),
        ("shape", 0),
        ("ms", 6),
        (f"over {smallest}x{smallest}", 0),
        ("N log N", 0),
        ("floors", 0),
        ("n", 3),
    )
    for figures in report.sizes:
        table.add_row(
            f"{figures.size}x{figures.size}",
            str(figures.shape),
            number_text(figures.forward_backward_ms.median),
            "1" if figures.size == smallest else with_spread(figures.growth),
            ratio_text(figures.n_log_n_growth),
            number_text(figures.floors.median),
            str(figures.growth.count),
        )
    return [
        table,
        Text(),
        legend(
            "all shapes have the same number of values: what grows is the work for each",
            f"over {smallest}x{smallest}: time over that size's in the same repeat, {_MEDIAN}",
            "N log N: the same, if the time of N pixels went with N log N",
            "floors: time over that of one read and one write of the activations",
        ),
    ]


def _step(report: StepReport) -> list[RenderableType]:
    size = " and ".join(dict.fromkeys(shape_text(spec.input_shape) for spec in report.specs))
    compiled = ", compiled" if report.compiled else ""
    title = f"training step of {report.batch} images of {size}{compiled}"
    table = _table(
        title,
        ("spec", 0),
        ("ms", 6),
        ("images/s", 0),
        ("ratio", 5),
        ("peak\nMiB", 5),
        ("ratio", 5),
        ("saved\nMiB", 5),
        ("n", 3),
    )
    first = report.specs[0]
    stems = {Path(figures.spec).stem for figures in report.specs}
    for figures in report.specs:
        table.add_row(
            Path(figures.spec).stem if len(stems) == len(report.specs) else figures.spec,
            number_text(figures.step_ms.median),
            number_text(1e3 * report.batch / figures.step_ms.median),
            "1" if figures is first else with_spread(figures.ratio),
            _mebibytes(figures.peak_bytes),
            "1" if figures is first else ratio_text(figures.peak_bytes / first.peak_bytes),
            _mebibytes(figures.saved_bytes),
            str(figures.step_ms.count),
        )
    lines = [
        "step: forward, loss, backward, SGD with momentum, on noise",
        f"ratio: time over the first spec's in the same repeat, {_MEDIAN};",
        "    for the peak, bytes over the first spec's",
        "peak: allocated at once during a step, beyond weights, momentum and images",
        "saved: kept by the forward for the backward, images included",
    ]
    return [table, Text(), legend(*lines)]


def _overhead(report: OverheadReport) -> list[RenderableType]:
    size = shape_text(report.input_shape)
    name = Path(report.spec).stem
    table = _table(
        f"training {name}, {report.batch} images of {size}",
        ("", 14),
        ("images/s", 8),
        ("ratio", 10),
        ("waiting for data", 0),
        ("n", 3),
    )
    loop, bare = report.loop_images_per_second, report.bare_images_per_second
    waits = percent_text(report.data_wait_share.median, 1)
    table.add_row(
        "nifbuild train",
        number_text(loop.median),
        with_spread(report.ratio),
        waits,
        str(loop.count),
    )
    table.add_row("bare PyTorch", number_text(bare.median), "1", "", str(bare.count))
    lines = [
        f"ratio: images/s over the bare loop's in the same repeat, {_MEDIAN}",
        "both: the same model, images in memory, augmentation, optimizer and precision",
        "waiting: share of the loop's time until a batch is on the device",
        f"n: repeats, each of {report.steps} steps of both",
    ]
    return [table, Text(), legend(*lines)]


def _feeding(report: FeedReport) -> list[RenderableType]:
    size = shape_text(report.input_shape)
    name, workers = Path(report.spec).stem, report.workers
    table = _table(
        f"images of {name}, {report.batch} at once, at {size}",
        ("", 24),
        ("images/s", 8),
        ("ratio", 10),
        ("n", 3),
    )
    loader = f"loader, {workers} worker{'' if workers == 1 else 's'}"
    for what, speed, ratio in (
        ("decoded by one process", report.core_images_per_second, with_spread(report.ratio)),
        ("by a bare loop", report.bare_images_per_second, "1"),
        (loader, report.loader_images_per_second, ""),
        ("augmented on the device", report.augment_images_per_second, ""),
    ):
        table.add_row(what, number_text(speed.median), ratio, str(speed.count))
    lines = [
        f"ratio: images/s over the bare loop's in the same repeat, {_MEDIAN}",
        "bare loop: Pillow opens, cuts and scales the same images, torch stacks them",
        f"loader: the one of training, {report.images} images, until they are on the device",
        "files are in the system's cache: the speed of a disk is not measured",
    ]
    if report.waiting_share is not None:
        assert report.model_images_per_second is not None
        waits = percent_text(report.waiting_share.median, 1)
        speed_text = number_text(report.model_images_per_second)
        lines.append(f"a model of {speed_text} images/s would wait {waits} of the time")
        lines.append("    where it leaves the processors to the workers")
    return [table, Text(), legend(*lines)]


def _table(title: str, *columns: tuple[str, int]) -> Table:
    """An empty table of columns with a head and a least width, so that tables line up."""
    headings, widths = zip(*columns, strict=True)
    return open_table(title, headings, min_widths=widths)


def with_spread(ratio: Quartiles) -> str:
    """The median, and half of the range between the quartiles to the same place: `7.43 ±0.37`."""
    text = ratio_text(ratio.median)
    if ratio.count == 1:
        return text
    decimals = len(text.partition(".")[2])
    return f"{text} ±{(ratio.third - ratio.first) / 2:,.{decimals}f}"


def _mebibytes(count: int) -> str:
    return number_text(mebibytes(count))
