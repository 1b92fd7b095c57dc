import re
import struct
from dataclasses import replace
from itertools import pairwise

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from nifbuild.errors import RunError
from nifbuild.report.bench.report_plots import plot_growth, plot_layers, plot_report, plot_step
from nifbuild.report.measure import Quartiles


def png_size(path):
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", data[16:24])


@pytest.mark.parametrize("name", ["layers_report", "growth_report", "step_report"])
def test_png(name, request, tmp_path):
    path = tmp_path / "plot.png"
    plot_report(request.getfixturevalue(name), path)
    width, height = png_size(path)
    assert width >= 800 and height >= 300


def test_other_formats(growth_report, tmp_path):
    plot_report(growth_report, tmp_path / "plot.svg")
    assert "<svg" in (tmp_path / "plot.svg").read_text()
    plot_report(growth_report, tmp_path / "plot.pdf")
    assert (tmp_path / "plot.pdf").read_bytes().startswith(b"%PDF")


def test_layers_labels_and_places(layers_report):
    figure = plot_layers(layers_report)
    time, memory = figure.axes
    assert time.get_xscale() == "log"
    assert "time / time of this layer" in time.get_xlabel()
    assert "bytes / bytes of this layer" in memory.get_xlabel()
    assert time.get_ylabel() == "batch x channels x\nheight x width"
    assert [label.get_text() for label in time.get_yticklabels()] == ["2x4x8x8", "32x64x56x56"]
    (legend,) = figure.legends
    names = {text.get_text() for text in legend.get_texts()}
    assert names == {"this layer", "published", "depthwise-31"}
    # Each contender's point lies at its ratio, in its shape's row.
    points = [container.lines[0].get_xydata()[0] for container in time.containers]
    assert {x: round(y) for x, y in points} == {2: 0, 8: 1, 12345.6: 1}


def test_a_legend_of_long_names_lies_inside(layers_report):
    """As of a GPU, where there are both layouts of each depthwise convolution."""
    renamed = {"published": "depthwise-3-channels-last", "depthwise-31": "another" * 12}
    shapes = []
    for shape in layers_report.shapes:
        contenders = [replace(c, name=renamed.get(c.name, c.name)) for c in shape.contenders]
        shapes.append(replace(shape, contenders=tuple(contenders)))
    figure = plot_layers(replace(layers_report, shapes=tuple(shapes)))
    FigureCanvasAgg(figure).draw()
    (legend,) = figure.legends
    box = legend.get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.width


def test_growth_labels(growth_report):
    (axes,) = plot_growth(growth_report).axes
    assert "pixels" in axes.get_xlabel()
    assert axes.get_ylabel() == "time / time at 32 pixels"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["32", "64"]
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert any("N log N" in text for text in legend)


def test_step_labels(step_report):
    time, memory = plot_step(step_report).axes
    assert time.get_xlabel().startswith("ms")
    assert memory.get_xlabel() == "MiB"
    assert [label.get_text() for label in time.get_yticklabels()] == [
        "specs/light.yaml",
        "specs/heavy.yaml",
    ]
    assert [text.get_text() for text in time.texts] == ["1.00x", "1.60x"]


def test_a_file_that_cannot_be_written(growth_report, tmp_path):
    with pytest.raises(RunError, match="cannot write to"):
        plot_report(growth_report, tmp_path / "nowhere" / "plot.png")


@pytest.mark.parametrize(
    "factors", [(0.5,), (0.9,), (0.28, 0.6), (0.3, 1.5), (0.5, 3), (0.5, 40), (0.5, 20_000)]
)
def test_one_shape_is_legible(layers_report, factors):
    (shape, *_) = layers_report.shapes
    layer, other = shape.contenders
    others = [
        replace(other, name=f"{f}x", forward_backward_ratio=Quartiles(f, f, f, 1)) for f in factors
    ]
    shape = replace(shape, contenders=(layer, *others))
    figure = plot_layers(replace(layers_report, shapes=(shape,)))
    FigureCanvasAgg(figure).draw()
    time, _ = figure.axes
    low, high = time.get_xlim()
    ticks = [t for t in time.get_xticklabels(which="both") if low <= t.get_position()[0] <= high]
    shown = [label for label in ticks if label.get_text()]
    assert len(shown) >= 3 and all(re.fullmatch(r"[0-9.e+]+", t.get_text()) for t in shown)
    boxes = sorted((label.get_window_extent() for label in shown), key=lambda box: box.x0)
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))
    label = time.yaxis.label.get_window_extent()
    assert label.y0 >= 0 and label.y1 <= figure.bbox.height and label.x0 >= 0
