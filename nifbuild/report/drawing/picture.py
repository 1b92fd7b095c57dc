"""A laid-out model as shapes."""

from dataclasses import dataclass, field, replace

from nifbuild.report.drawing.boxes import Block, box_family, shape_label
from nifbuild.report.drawing.layout import (
    COUNT_WIDTH,
    LINE_HEIGHT,
    NAME_SIZE,
    SIDE,
    STACK,
    Box,
    Edge,
    Frame,
    Item,
    font,
    text_width,
)
from nifbuild.report.show.plots import GREY, INK
from nifbuild.spec.graph import Graph
from nifbuild.spec.ops.base import OTHERS, Family

LINE = "#57606a"
"""Of edges and borders."""

_PAPER = ("#ffffff", "#f6f8fa")
"""Fills of frames within frames, in turn."""
FRAME_LINE = "#8c959f"
"""Of frames around parts."""
_TITLE_SIZE = 15.0
_PILL_HEIGHT = 20.0


@dataclass(frozen=True)
class Rect:
    """A rectangle with round corners."""

    x: float
    y: float
    width: float
    height: float
    fill: str
    stroke: str = LINE
    stroke_width: float = 1.0


@dataclass(frozen=True)
class Polyline:
    """A line from point to point."""

    points: tuple[tuple[float, float], ...]
    arrow: bool


@dataclass(frozen=True)
class Text:
    """One line of text; `y` is its baseline, `anchor` where `x` is: `start`, `middle` or `end`."""

    x: float
    y: float
    text: str
    size: float = 11.0
    anchor: str = "middle"
    bold: bool = False
    colour: str = INK


@dataclass
class Picture:
    """Shapes in the order in which they are drawn, and the size of them all."""

    width: float
    height: float
    rects: list[Rect] = field(default_factory=list)
    paths: list[Polyline] = field(default_factory=list)
    texts: list[Text] = field(default_factory=list)


def picture(model: Block, graph: Graph, name: str) -> Picture:
    """Draws a model.

    Args:
        model: What `blocks` gives.
        graph: The nodes.
        name: The title.
    """
    if not model.parts:
        model = replace(model, parts=(model,))
    frame = Frame(model, graph)
    families = dict.fromkeys(node.op.family for node in graph.nodes if node.op.family != OTHERS)
    legend = sorted(families, key=lambda family: not family.stands_out)
    top = 62.0 + 17.0 * len(legend)
    width = max(frame.width, text_width(name, _TITLE_SIZE, True) + 2 * SIDE) + 2 * SIDE
    drawn = Picture(width, top + frame.height + 2 * _PILL_HEIGHT)
    drawn.texts.append(Text(SIDE, 24, name, _TITLE_SIZE, "start", True))
    for index, family in enumerate(legend):
        y = 36 + 17.0 * index
        drawn.rects.append(Rect(SIDE, y, 22, 12, family.color, *_border(family)))
        drawn.texts.append(Text(SIDE + 29, y + 10, family.name, NAME_SIZE, "start"))
    left = (width - frame.width) / 2
    pen = _Pen(graph, drawn)
    for value, x in frame.entry_xs.items():
        pen.pill(left + x, top - _PILL_HEIGHT, f"input {pen.shape(value)}")
    pen.item(frame, left, top, 0)
    for value, x in frame.exit_xs.items():
        pen.pill(left + x, top + frame.height, f"output {pen.shape(value)}")
    return drawn


def _border(family: Family | None) -> tuple[str, float]:
    return (INK, 1.8) if family is not None and family.stands_out else (LINE, 1.0)


class _Pen:
    """Adds items to a picture; `x` and `y` are where their left upper corner is."""

    def __init__(self, graph: Graph, drawn: Picture) -> None:
        self.graph = graph
        self.drawn = drawn

    def shape(self, value: int) -> str:
        shape = self.graph.nodes[value].output_shape if value >= 0 else self.graph.input_shape
        return shape_label(shape)

    def item(self, item: Item, x: float, y: float, depth: int) -> None:
        if isinstance(item, Frame):
            self.frame(item, x, y, depth)
        elif isinstance(item, Box):
            self.box(item, x, y)

    def frame(self, frame: Frame, x: float, y: float, depth: int) -> None:
        if frame.block.name:  # the model as a whole has no frame
            self.stack(frame, x, y, _PAPER[depth % 2], (FRAME_LINE, 1.0))
            name = Text(x + frame.name_x, y + 15, frame.block.name, NAME_SIZE, "start", True, GREY)
            self.drawn.texts.append(name)
        for part, (left, top) in zip(frame.parts, frame.places, strict=True):
            self.item(part, x + left, y + top, depth + 1)
        for edge in frame.edges:
            points = tuple((x + right, y + down) for right, down in frame.route(edge))
            self.drawn.paths.append(Polyline(points, self.ends(frame, edge)))
        for edge in {edge.value: edge for edge in frame.edges}.values():
            if edge.source >= 0 and not frame.is_exit(edge):  # others stand around the frame
                top = frame.places[edge.source][1] + frame.parts[edge.source].height
                at = (x + frame.leaving_x(edge) - 5, y + top + 13)
                self.drawn.texts.append(Text(*at, self.shape(edge.value), 9.5, "end", colour=GREY))

    def ends(self, frame: Frame, edge: Edge) -> bool:
        """Whether an edge has its arrow there: into and out of frames it runs on."""
        if frame.is_exit(edge):
            return not frame.block.name
        return isinstance(frame.parts[edge.target], Box)

    def box(self, box: Box, x: float, y: float) -> None:
        family = box_family(box.block, self.graph)
        fill = "#ffffff" if box.block.is_level or family is None else family.color
        self.stack(box, x, y, fill, _border(family))
        middle = x + (box.width - box.extra) / 2
        for index, line in enumerate(box.lines):
            baseline, (size, bold) = y + 15 + LINE_HEIGHT * index, font(line)
            if line.swatch:
                self.drawn.rects.append(Rect(x + 12, baseline - 8, 9, 9, line.swatch, LINE, 0.7))
                self.drawn.texts.append(Text(x + 27, baseline, line.text, size, "start"))
            else:
                self.drawn.texts.append(Text(middle, baseline, line.text, size, bold=bold))

    def stack(self, item: Item, x: float, y: float, fill: str, border: tuple[str, float]) -> None:
        """The rectangle of an item; of a fold, two more behind it, and its number."""
        width, height = item.width - item.extra, item.height - item.extra
        count = item.block.count
        for shift in (2 * STACK, STACK, 0.0) if count > 1 else (0.0,):
            self.drawn.rects.append(Rect(x + shift, y + shift, width, height, fill, *border))
        if count > 1:
            left = x + width - COUNT_WIDTH
            self.drawn.rects.append(Rect(left, y + 4, COUNT_WIDTH - 4, 15, INK, INK))
            text = f"\u00d7{count}"
            at = (left + COUNT_WIDTH / 2 - 2, y + 15)
            self.drawn.texts.append(Text(*at, text, NAME_SIZE, bold=True, colour="#ffffff"))

    def pill(self, x: float, y: float, text: str) -> None:
        width = text_width(text, NAME_SIZE) + 20
        self.drawn.rects.append(Rect(x - width / 2, y, width, _PILL_HEIGHT, INK, INK))
        self.drawn.texts.append(Text(x, y + 14, text, NAME_SIZE, colour="#ffffff"))
