"""From blocks to a picture: sizes from the inside out, then places from the outside in."""

from dataclasses import dataclass, field

from nifbuild.report.drawing.blocks import Block
from nifbuild.report.drawing.grid import Edge, Grid, grid
from nifbuild.report.drawing.labels import (
    COLOURS,
    IMAGE_SIZED,
    PLAIN,
    Line,
    colour_of,
    group_of,
    level_lines,
    op_lines,
    shape_label,
)
from nifbuild.report.drawing.shapes import GREY, INK, LINE, Path, Picture, Rect, Text, text_width
from nifbuild.spec.graph import Graph

_GAP = 30.0  # between rows: room for the shape beside an edge
_LEAVE = 17.0  # below a row, where edges turn to their lanes: under the shapes
_MEET = 9.0  # above a box, where edges turn to it
_COLUMN_GAP = 26.0
_LANE = 16.0
_SIDE = 16.0
_TOP = 34.0  # in a frame, above its first row: the name
_BOTTOM = 16.0
_MIN_WIDTH = 150.0
_STACK = 4.0  # how far a fold's boxes stand behind each other
_FRAMES = ("#ffffff", "#f6f8fa", "#ffffff", "#f6f8fa")


@dataclass
class _Item:
    """A block with its size; places are relative to it."""

    block: Block
    width: float = 0.0
    height: float = 0.0
    grid: Grid | None = None
    parts: list["_Item"] = field(default_factory=list)
    places: list[tuple[float, float]] = field(default_factory=list)
    row_tops: list[float] = field(default_factory=list)
    column_xs: list[float] = field(default_factory=list)
    lanes_from: float = 0.0
    entry_xs: dict[int, float] = field(default_factory=dict)
    exit_xs: dict[int, float] = field(default_factory=dict)

    @property
    def is_open(self) -> bool:
        return bool(self.parts)


def picture(model: Block, graph: Graph, name: str) -> Picture:
    """Draws a model.

    Args:
        model: What `blocks` gives.
        graph: The nodes.
        name: The title.
    """
    return _Layout(graph).picture(model, name)


class _Layout:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.drawn = Picture(0, 0)

    def picture(self, model: Block, name: str) -> Picture:
        groups = list(dict.fromkeys(group_of(n) for n in self.graph.nodes))
        legend = [g for g in COLOURS if g in groups and COLOURS[g] != PLAIN]
        if not model.parts:
            model = Block("", model.nodes, model.inputs, model.outputs, True, (model,))
        item = self.sized(model)
        head = 34.0 + 17.0 * len(legend) + 22.0
        widths = [item.width, text_width(name, 15, True) + 2 * _SIDE]
        self.drawn.width, self.drawn.height = max(widths) + 2 * _SIDE, item.height + head + 40
        self.text(_SIDE, 24, name, 15, "start", True)
        for index, group in enumerate(legend):
            y = 36 + 17.0 * index
            self.drawn.rects.append(Rect(_SIDE, y, 22, 12, COLOURS[group], *_border(group)))
            self.text(_SIDE + 29, y + 10, group, 10.5, "start")
        left = (self.drawn.width - item.width) / 2
        top = head + 6
        for value, x in item.entry_xs.items():
            self.pill(left + x, top - 20, f"input {self.shape(value)}")
        self.place(item, left, top, 0)
        for value, x in item.exit_xs.items():
            self.pill(left + x, top + item.height, f"output {self.shape(value)}")
        return self.drawn

    def shape(self, value: int) -> str:
        shape = self.graph.nodes[value].output_shape if value >= 0 else self.graph.input_shape
        return shape_label(shape)

    # Sizes

    def sized(self, block: Block) -> _Item:
        item = _Item(block)
        if block.parts:
            item.parts = [self.sized(part) for part in block.parts]
            self.arrange(item)
            return item
        lines = self.lines(block)
        item.width = max(_MIN_WIDTH, *(text_width(line.text, *_font(line)) + 20 for line in lines))
        item.width += _extra(block) + (34 if block.count > 1 else 0)
        item.height = 8 + 14.0 * len(lines) + _extra(block)
        item.entry_xs = dict.fromkeys(block.inputs, (item.width - _extra(block)) / 2)
        item.exit_xs = dict.fromkeys(block.outputs, (item.width - _extra(block)) / 2)
        return item

    def lines(self, block: Block) -> list[Line]:
        nodes = [self.graph.nodes[i] for i in block.nodes]
        return (level_lines if block.is_level else op_lines)(nodes, block.name)

    def arrange(self, item: _Item) -> None:
        """The size of an opened block, and the places of its parts."""
        block, at = item.block, grid(item.block)
        item.grid = at
        rows = range(1, at.num_rows + 1)
        in_row = {row: [i for i in range(len(item.parts)) if at.rows[i] == row] for row in rows}
        framed = bool(block.name)
        y = _TOP if framed else _GAP
        item.row_tops = [0.0]
        for row in rows:
            item.row_tops.append(y)
            y += max(item.parts[i].height for i in in_row[row]) + _GAP
        item.height = y - _GAP + (_BOTTOM if framed else _GAP)
        item.row_tops.append(item.height)
        x = _SIDE
        for column in range(at.num_columns):
            members = [i for i in range(len(item.parts)) if at.columns[i] == column]
            axis = max((self.axis(item.parts[i]) for i in members), default=0)
            right = max(
                (p.width - self.axis(p) for p in (item.parts[i] for i in members)), default=0
            )
            item.column_xs.append(x + axis)
            x += axis + right + _COLUMN_GAP
        item.lanes_from = x - _COLUMN_GAP + _LANE
        for index, part in enumerate(item.parts):
            left = item.column_xs[at.columns[index]] - self.axis(part)
            item.places.append((left, item.row_tops[at.rows[index]]))
        lanes = [number for kind, number in at.ways.values() if kind == "l"]
        width = item.lanes_from + _LANE * max(lanes) if lanes else x - _COLUMN_GAP
        self.ports(item)
        title = item.column_xs[0] + 10 + text_width(block.name, 10.5, True) + 36 * (block.count > 1)
        item.width = max(width + _SIDE, title + _SIDE * framed) + _extra(block)
        item.height += _extra(block)

    def axis(self, item: _Item) -> float:
        """Where a part's main line runs, from its left."""
        return next(iter(item.entry_xs.values()), item.width / 2)

    def ports(self, item: _Item) -> None:
        assert item.grid is not None
        for edge in item.grid.edges:
            if edge.source < 0:
                item.entry_xs.setdefault(edge.value, self.way_x(item, edge) or item.column_xs[0])
            if edge.target >= len(item.parts):
                item.exit_xs[edge.value] = self.way_x(item, edge) or self.leaving_x(item, edge)

    def way_x(self, item: _Item, edge: Edge) -> float | None:
        """Where an edge that passes rows runs."""
        assert item.grid is not None
        if edge not in item.grid.ways:
            return None
        kind, number = item.grid.ways[edge]
        return item.column_xs[number] if kind == "c" else item.lanes_from + _LANE * number

    def leaving_x(self, item: _Item, edge: Edge) -> float:
        if edge.source < 0:
            return item.entry_xs[edge.value]
        part = item.parts[edge.source]
        inner = dict(zip(part.block.last_outputs, part.block.outputs, strict=True))
        return item.places[edge.source][0] + part.exit_xs[inner[edge.value]]

    # Places

    def place(self, item: _Item, x: float, y: float, depth: int) -> None:
        if not item.is_open:
            self.box(item, x, y)
            return
        if item.block.name:
            self.frame(item, x, y, depth)
        for part, (left, top) in zip(item.parts, item.places, strict=True):
            self.place(part, x + left, y + top, depth + 1)
        assert item.grid is not None
        for edge in item.grid.edges:
            self.edge(item, edge, x, y)
        for edge in {e.value: e for e in item.grid.edges}.values():
            self.edge_label(item, edge, x, y)

    def box(self, item: _Item, x: float, y: float) -> None:
        block, node = item.block, self.graph.nodes[item.block.nodes[0]]
        width, height = item.width - _extra(block), item.height - _extra(block)
        fill, border = colour_of(node), _border(group_of(node))
        if block.is_level:
            groups = {group_of(self.graph.nodes[i]) for i in block.nodes}
            fill, border = "#ffffff", _border(next((g for g in IMAGE_SIZED if g in groups), ""))
        self.stack(block, x, y, width, height, fill, border)
        for index, line in enumerate(self.lines(block)):
            baseline, (size, bold) = y + 15 + 14.0 * index, _font(line)
            if line.swatch:
                self.drawn.rects.append(Rect(x + 12, baseline - 8, 9, 9, line.swatch, LINE, 0.7))
                self.text(x + 27, baseline, line.text, size, "start")
            else:
                self.text(x + width / 2, baseline, line.text, size, "middle", bold)

    def frame(self, item: _Item, x: float, y: float, depth: int) -> None:
        block, fill = item.block, _FRAMES[depth % len(_FRAMES)]
        width, height = item.width - _extra(block), item.height - _extra(block)
        self.stack(block, x, y, width, height, fill, ("#8c959f", 1.0))
        self.text(x + item.column_xs[0] + 10, y + 15, block.name, 10.5, "start", True, GREY)

    def stack(
        self,
        block: Block,
        x: float,
        y: float,
        width: float,
        height: float,
        fill: str,
        border: tuple[str, float],
    ) -> None:
        """A box; of a fold, two more behind it, and their number."""
        for behind in (2, 1, 0) if block.count > 1 else (0,):
            shift = _STACK * behind
            self.drawn.rects.append(Rect(x + shift, y + shift, width, height, fill, *border))
        if block.count > 1:
            self.drawn.rects.append(Rect(x + width - 34, y + 4, 30, 15, INK, INK))
            self.text(
                x + width - 19, y + 15, f"\u00d7{block.count}", 10.5, bold=True, colour="#ffffff"
            )

    def edge(self, item: _Item, edge: Edge, x: float, y: float) -> None:
        assert item.grid is not None
        at = item.grid
        start_x = x + self.leaving_x(item, edge)
        start_y = y + (self.bottom(item, edge.source) if edge.source >= 0 else 0)
        is_exit = edge.target >= len(item.parts)
        target_y = y + (
            item.height - _extra(item.block) if is_exit else item.places[edge.target][1]
        )
        way = self.way_x(item, edge)
        points = [(start_x, start_y)]
        if way is not None and abs(x + way - start_x) > 0.01:
            leave = y + self.row_bottom(item, at.rows[edge.source]) + _LEAVE
            points += [(start_x, leave), (x + way, leave)]
        if way is not None and not is_exit and self.enters_from_side(item, edge):
            part, (left, top) = item.parts[edge.target], item.places[edge.target]
            middle = y + top + (part.height - _extra(part.block)) / 2
            points += [(points[-1][0], middle), (x + left + part.width, middle)]
        else:
            end_x = x + (item.exit_xs[edge.value] if is_exit else self.entering_x(item, edge))
            if abs(end_x - points[-1][0]) > 0.01:
                points += [(points[-1][0], target_y - _MEET), (end_x, target_y - _MEET)]
            points.append((end_x, target_y))
        ends = not is_exit and not item.parts[edge.target].is_open
        self.drawn.paths.append(
            Path(tuple(points), arrow=ends or (is_exit and not item.block.name))
        )

    def edge_label(self, item: _Item, edge: Edge, x: float, y: float) -> None:
        if edge.source < 0 or edge.target >= len(item.parts):
            return  # the block around says it
        left = x + self.leaving_x(item, edge) - 5
        below = y + item.places[edge.source][1] + item.parts[edge.source].height + 13
        self.text(left, below, self.shape(edge.value), 9.5, "end", colour=GREY)

    def bottom(self, item: _Item, part: int) -> float:
        inner = item.parts[part]
        return item.places[part][1] + inner.height - _extra(inner.block)

    def row_bottom(self, item: _Item, row: int) -> float:
        if row == 0:
            return _TOP - 11 - _LEAVE if item.block.name else 0.0
        return item.row_tops[row] + max(
            part.height
            for index, part in enumerate(item.parts)
            if item.grid is not None and item.grid.rows[index] == row
        )

    def enters_from_side(self, item: _Item, edge: Edge) -> bool:
        """Whether an edge can reach its target from the right: nothing stands between."""
        at = item.grid
        assert at is not None
        kind, number = at.ways[edge]
        column, row = at.columns[edge.target], at.rows[edge.target]
        if item.parts[edge.target].is_open or (kind == "c" and number <= column):
            return False
        return not any(at.rows[i] == row and at.columns[i] > column for i in range(len(item.parts)))

    def entering_x(self, item: _Item, edge: Edge) -> float:
        """Where an edge meets the top of its target: side by side with others."""
        part, left = item.parts[edge.target], item.places[edge.target][0]
        if part.is_open:
            return left + part.entry_xs[edge.value]
        assert item.grid is not None
        others = [
            e
            for e in item.grid.edges
            if e.target == edge.target
            and not (e in item.grid.ways and self.enters_from_side(item, e))
        ]
        others.sort(key=lambda e: self.way_x(item, e) or self.leaving_x(item, e))
        shift = others.index(edge) - (len(others) - 1) / 2
        return left + part.entry_xs[edge.value] + 18 * shift

    def pill(self, x: float, y: float, text: str) -> None:
        width = text_width(text, 10.5) + 20
        self.drawn.rects.append(Rect(x - width / 2, y, width, 20, INK, INK))
        self.text(x, y + 14, text, 10.5, colour="#ffffff")

    def text(
        self,
        x: float,
        y: float,
        text: str,
        size: float,
        anchor: str = "middle",
        bold: bool = False,
        colour: str = INK,
    ) -> None:
        self.drawn.texts.append(Text(x, y, text, size, anchor, bold, colour))


def _font(line: Line) -> tuple[float, bool]:
    return (11.0, True) if line.is_title else (9.5, False)


def _extra(block: Block) -> float:
    return 2 * _STACK if block.count > 1 else 0.0


def _border(group: str) -> tuple[str, float]:
    return (INK, 1.8) if group in IMAGE_SIZED else (LINE, 1.0)
