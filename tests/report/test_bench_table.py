import io
from dataclasses import replace

import pytest
from rich.console import Console

from nifbuild.machine.terminal import StatusLine
from nifbuild.report.bench.report_tables import render, with_spread
from nifbuild.report.measure import Quartiles
from nifbuild.report.show.units import mebibytes, number_text, ratio_text


def shown(report, width=80):
    console = Console(width=width, highlight=False, file=io.StringIO())
    console.print(render(report))
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0072, "0.007"),
        (0.647, "0.647"),
        (0.9996, "1.00"),
        (1.514, "1.51"),
        (9.996, "10.0"),
        (57.44, "57.4"),
        (99.97, "100"),
        (31748.7, "31,749"),
    ],
)
def test_numbers(value, text):
    assert number_text(value) == text


def test_ratios_and_bytes():
    assert ratio_text(0.0612) == "0.06"
    assert ratio_text(41.03) == "41.0"
    assert with_spread(Quartiles(7.428, 7.2, 7.9, 9)) == "7.43 ±0.35"
    assert with_spread(Quartiles(41.2, 40, 44, 9)) == "41.2 ±2.0"
    assert with_spread(Quartiles(326.9, 326.9, 326.9, 1)) == "327"
    assert mebibytes(3 * 2**19) == 1.5


@pytest.mark.parametrize("name", ["layers_report", "growth_report", "step_report"])
@pytest.mark.parametrize("width", [80, 120])
def test_all_fits_the_terminal(name, width, request):
    text = shown(request.getfixturevalue(name), width)
    assert max(map(len, text.splitlines())) <= width
    assert "Some CPU, 2 threads, torch 2.13.0, float32, 2026-11-24" in text
    assert "…" not in text


def test_layers(layers_report):
    lines = shown(layers_report).splitlines()
    assert lines[2].rstrip() == "2x4x8x8,  floor 0.012 ms,  no crossover up to 7x7"
    rows = [line.split() for line in lines]
    assert ["this", "layer", "2.00", "1", "6.00", "1", "60.0", "3.00", "1.00", "5"] in rows
    published = ["published", "4.00", "3.00", "12.0", "2.00", "±0.20", "120", "6.00", "1.00", "5"]
    assert published in rows
    assert ["published", "4.00", "2.00", "8.00", "2"] in rows  # over all shapes
    text = "\n".join(lines)
    assert "depthwise 31x31 cannot be run here: out of memory" in text
    assert "crossover at 5x5" in text
    assert "1x1 convolution" not in text


def test_growth(growth_report):
    text = shown(growth_report)
    assert "over 32x32" in text
    assert ["64x64", "32x2x64x64", "125", "1.25", "±0.12", "1.35", "30.0", "5"] in [
        line.split() for line in text.splitlines()
    ]


def test_step(step_report):
    text = shown(step_report)
    assert "training step of 16 images of 3x32x32" in text
    first, second = step_report.specs
    other = replace(step_report, specs=(first, replace(second, input_shape=(1, 8, 9))))
    assert "training step of 16 images of 3x32x32 and 1x8x9" in shown(other)
    row = ["heavy", "320", "50.0", "1.60", "±0.16", "6.40", "1.60", "1.00", "5"]
    assert row in [line.split() for line in text.splitlines()]


def test_status_line_is_for_terminals(monkeypatch, capsys):
    with StatusLine() as status:
        status.show("repeat 1 of 2")
    assert capsys.readouterr().err == ""
    status._console = Console(file=io.StringIO(), force_terminal=True, width=20)
    with status:
        status.show("something far too long for one line")
    written = status._console.file.getvalue()
    assert "something far too" in written
    assert "\n" not in written
    assert written.endswith("\r\x1b[2K")
