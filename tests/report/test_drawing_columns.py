"""Tall pictures in columns: nothing is lost, no box is cut, and lines go on where they were cut."""

from collections import Counter

import pytest

from nifbuild.report.drawing.boxes import blocks
from nifbuild.report.drawing.columns import in_columns
from nifbuild.report.drawing.picture import FRAME_LINE, picture
from nifbuild.spec.resolve import load_spec, load_text


def drawn(name):
    resolved = load_spec(f"nifbuild:{name}")
    return picture(blocks(resolved.graph.evaluated, None), resolved.graph, resolved.name)


@pytest.mark.parametrize(
    "name",
    ["resnet18", "architectures/resnet50", "architectures/densenet121", "architectures/vgg16_bn"],
)
@pytest.mark.parametrize("number", [None, 2, 5])
def test_all_is_there_and_whole(name, number):
    tall = drawn(name)
    wide = in_columns(tall, number)
    assert Counter(text.text for text in wide.texts) == Counter(text.text for text in tall.texts)
    boxes = [
        Counter((r.width, r.height, r.fill) for r in p.rects if r.stroke != FRAME_LINE)
        for p in (tall, wide)
    ]
    assert boxes[0] == boxes[1]
    assert wide.height < tall.height and wide.width > tall.width
    for rect in wide.rects:
        assert rect.x >= 0 and rect.x + rect.width <= wide.width
        assert rect.y >= 0 and rect.y + rect.height <= wide.height
    for line in wide.paths:
        assert all(0 <= x <= wide.width and 0 <= y <= wide.height for x, y in line.points)
    assert sum(line.arrow for line in wide.paths) == sum(line.arrow for line in tall.paths)


@pytest.mark.parametrize("name", ["resnet18", "architectures/resnet50"])
def test_lines_go_on_in_the_next_column(name):
    wide = in_columns(drawn(name))
    # Those that lead to the next column: down, across the gutter, up, across, and down.
    bridges = [line for line in wide.paths if len(line.points) == 6 and not line.arrow]
    assert bridges
    for bridge in bridges:
        others = [line for line in wide.paths if line is not bridge]
        for x, y in (bridge.points[0], bridge.points[-1]):
            touching = [p for p in others if (x, y) in (p.points[0], p.points[-1])]
            assert len(touching) == 1, (x, y)


def test_cuts_are_between_blocks_where_those_are_about_as_long_as_a_column():
    wide = in_columns(drawn("resnet18"), 4)
    assert sum(r.stroke == FRAME_LINE for r in wide.rects) == sum(
        r.stroke == FRAME_LINE for r in drawn("resnet18").rects
    )


def test_pictures_are_about_square_by_themselves():
    for name in ("architectures/resnet50", "architectures/resnet152", "architectures/densenet201"):
        tall, wide = drawn(name), in_columns(drawn(name))
        assert tall.height > 3 * tall.width and wide.height < 1.3 * wide.width


def test_small_pictures_and_one_column_stay():
    small = load_text("version: 1\nname: small\nmodel: [{op: conv, out_channels: 4}, relu]\n", "x")
    made = picture(blocks(small.graph, None), small.graph, "small")
    assert in_columns(made) is made and in_columns(made, 1) is made
    tall = drawn("resnet18")
    assert in_columns(tall, 1) is tall


def test_on_the_command_line(cli, tmp_path):
    out = tmp_path / "model.svg"
    words = ["graph", "nifbuild:architectures/resnet50", "-o", str(out), "--overwrite"]
    heights = []
    for number in ("1", "2", "3"):
        assert cli(*words, "--columns", number).exit_code == 0
        heights.append(float(out.read_text().split('height="', 1)[1].split('"')[0]))
    assert heights[0] > heights[1] > heights[2]
    assert cli(*words, "--columns", "17").exit_code == 2  # a band that nobody could read
    mermaid = ["graph", "nifbuild:resnet18", "-o", str(tmp_path / "model.mmd"), "--columns", "2"]
    wrong = cli(*mermaid)
    assert wrong.exit_code == 2 and "--columns: Mermaid arranges boxes itself" in wrong.stderr
