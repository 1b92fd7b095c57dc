"""Where the parts of a block stand, how large they are, and which way each edge takes.

First in rows and columns. Rows are the longest way from the block's input. A part stands in the
column of what it takes first, or in the next free one to the right. An edge that passes rows goes
down a column that is free there, or a lane to the right of all columns: shorter edges in the inner
lanes. Then in pixels, from the inside out.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from nifbuild.report.drawing.boxes import Block, Line, box_lines
from nifbuild.spec.graph import Graph

SIDE = 16.0  # beside the parts of a frame
STACK = 4.0  # how far the boxes of a fold stand behind each other
LINE_HEIGHT = 14.0
COUNT_WIDTH = 34.0  # of a fold's number
NAME_SIZE = 10.5
_GAP = 30.0  # between rows: room for the shape beside an edge
_LEAVE = 17.0  # below a row, where edges turn to their lanes: under the shapes
_MEET = 9.0  # above a box, where edges turn to it
_ABREAST = 18.0  # between edges that meet one box
_COLUMN_GAP = 26.0
_LANE = 16.0
_TOP = 34.0  # in a frame, above its first row: the name
_BOTTOM = 16.0
_MIN_WIDTH = 150.0


@dataclass(frozen=True)
class Edge:
    """A value on its way.

    Attributes:
        value: The node that makes it.
        source: The part that gives it; -1, -2, ... for the block's first, second, ... input.
        target: The part that takes it; for the block's outputs, the number of parts and on.
    """

    value: int
    source: int
    target: int


class _Grid:
    """Rows and columns of the parts of an opened block.

    Attributes:
        edges: All edges.
        rows: The row of each part, of each input (row 0) and of each output (the last one), by
            their numbers as in `Edge`.
        columns: The column of each part, and of the first input.
        ways: For an edge that passes rows: its column, or its lane, counted from 0 by the letter
            before.
    """

    def __init__(self, block: Block) -> None:
        self.edges = tuple(_edges(block))
        number = len(block.parts)
        self.rows = {-1 - i: 0 for i in range(len(block.inputs))}
        for index in range(number):
            sources = [self.rows[e.source] for e in self.edges if e.target == index]
            self.rows[index] = 1 + max(sources, default=0)
        self.num_rows = max(self.rows.values())
        self.rows |= {number + i: self.num_rows + 1 for i in range(len(block.outputs))}
        self._taken: set[tuple[int, str, int]] = set()
        self.columns = {-1: 0}
        for index in range(number):
            self.columns[index] = self._free_column(index)
        self.num_columns = max(self.columns.values()) + 1
        self.ways: dict[Edge, tuple[str, int]] = {}
        for edge in sorted(self.edges, key=lambda e: self.rows[e.target] - self.rows[e.source]):
            self._find_way(edge)

    def _free_column(self, index: int) -> int:
        sources = [e.source for e in self.edges if e.target == index]
        column = min((self.columns[s] for s in sources if s in self.columns), default=0)
        while (self.rows[index], "c", column) in self._taken:
            column += 1
        self._taken.add((self.rows[index], "c", column))
        return column

    def _find_way(self, edge: Edge) -> None:
        # A second input has no column: its lane leads up to the block's border.
        has_column = edge.source in self.columns
        passed = range(self.rows[edge.source] + has_column, self.rows[edge.target])
        if not passed:
            return
        ends = (self.columns.get(edge.source), self.columns.get(edge.target)) if has_column else ()
        options = [("c", column) for column in ends if column is not None]
        options += [("l", lane) for lane in range(len(self.edges))]
        way = next(w for w in options if not any((row, *w) in self._taken for row in passed))
        self._taken |= {(row, *way) for row in passed}
        self.ways[edge] = way


def _edges(block: Block) -> Iterable[Edge]:
    makers = {value: -1 - i for i, value in enumerate(block.inputs)}
    for index, part in enumerate(block.parts):
        yield from (Edge(value, makers[value], index) for value in part.inputs)
        makers |= dict.fromkeys(part.last_outputs, index)
    for i, value in enumerate(block.outputs):
        yield Edge(value, makers[value], len(block.parts) + i)


class Item:
    """A block with its size.

    Attributes:
        block: The block.
        width: What is drawn, the boxes behind a fold included.
        height: As well.
        extra: How much of either is for the boxes behind.
        entry_xs: Where a value that it takes comes in at the top, from its left.
        exit_xs: Where a value that it gives goes out at the bottom.
    """

    def __init__(self, block: Block) -> None:
        self.block = block
        self.width = self.height = 0.0
        self.extra = 2 * STACK if block.count > 1 else 0.0
        self.entry_xs: dict[int, float] = {}
        self.exit_xs: dict[int, float] = {}

    @property
    def axis(self) -> float:
        """Where the main line runs, from the left."""
        return next(iter(self.entry_xs.values()), self.width / 2)


class Box(Item):
    """An op, or a closed block: lines of text."""

    def __init__(self, block: Block, graph: Graph) -> None:
        super().__init__(block)
        self.lines = box_lines(block, graph)
        widths = (text_width(line.text, *font(line)) + 20 for line in self.lines)
        width = max(_MIN_WIDTH, *widths) + (COUNT_WIDTH if block.count > 1 else 0)
        self.width = width + self.extra
        self.height = 8 + LINE_HEIGHT * len(self.lines) + self.extra
        self.entry_xs = dict.fromkeys(block.inputs, width / 2)
        self.exit_xs = dict.fromkeys(block.outputs, width / 2)


class Frame(Item):
    """An opened block: its parts in rows and columns, and the edges between them.

    Attributes:
        parts: What is inside.
        places: Left and top of each part, from those of the frame.
        edges: All edges.
    """

    def __init__(self, block: Block, graph: Graph) -> None:
        super().__init__(block)
        self.parts = [lay_out(part, graph) for part in block.parts]
        self.grid = _Grid(block)
        self.edges = self.grid.edges
        self.row_tops, self.row_bottoms = self._rows()
        self.column_xs, right = self._columns()
        self.lanes_from = right + _LANE
        self.places = [
            (self.column_xs[self.grid.columns[i]] - part.axis, self.row_tops[self.grid.rows[i]])
            for i, part in enumerate(self.parts)
        ]
        for edge in self.edges:
            if edge.source < 0:
                self.entry_xs.setdefault(edge.value, self._way_x(edge) or self.column_xs[0])
            if self.is_exit(edge):
                self.exit_xs[edge.value] = self._way_x(edge) or self.leaving_x(edge)
        lanes = [number for kind, number in self.grid.ways.values() if kind == "l"]
        right = self.lanes_from + _LANE * max(lanes) if lanes else right
        if block.name:
            name = self.name_x + text_width(block.name, NAME_SIZE, True)
            right = max(right, name + (COUNT_WIDTH if block.count > 1 else 0))
        self.width = right + SIDE + self.extra
        self.height = self.row_bottoms[-1] + (_BOTTOM if block.name else _GAP) + self.extra

    @property
    def name_x(self) -> float:
        """Where the name starts: right of the edge that comes in."""
        return self.column_xs[0] + 10

    def _rows(self) -> tuple[list[float], list[float]]:
        """Top and bottom of each row; row 0 is the upper border."""
        tops, bottoms = [0.0], [_TOP - 11 - _LEAVE if self.block.name else 0.0]
        y = _TOP if self.block.name else _GAP
        for row in range(1, self.grid.num_rows + 1):
            members = (part for i, part in enumerate(self.parts) if self.grid.rows[i] == row)
            tops.append(y)
            bottoms.append(y + max(part.height for part in members))
            y = bottoms[-1] + _GAP
        return tops, bottoms

    def _columns(self) -> tuple[list[float], float]:
        """The main line of each column, and where the last one ends."""
        lines, right = [], SIDE - _COLUMN_GAP
        for column in range(self.grid.num_columns):
            members = [p for i, p in enumerate(self.parts) if self.grid.columns[i] == column]
            line = right + _COLUMN_GAP + max((part.axis for part in members), default=0)
            right = line + max((part.width - part.axis for part in members), default=0)
            lines.append(line)
        return lines, right

    def is_exit(self, edge: Edge) -> bool:
        """Whether an edge leaves the frame."""
        return edge.target >= len(self.parts)

    def leaving_x(self, edge: Edge) -> float:
        """Where an edge starts."""
        if edge.source < 0:
            return self.entry_xs[edge.value]
        part = self.parts[edge.source]
        own = dict(zip(part.block.last_outputs, part.block.outputs, strict=True))
        return self.places[edge.source][0] + part.exit_xs[own[edge.value]]

    def route(self, edge: Edge) -> list[tuple[float, float]]:
        """The points of an edge, from the corner of the frame."""
        bottom = 0.0
        if edge.source >= 0:
            part = self.parts[edge.source]
            bottom = self.places[edge.source][1] + part.height - part.extra
        x, way = self.leaving_x(edge), self._way_x(edge)
        points = [(x, bottom)]
        if way is not None and way != x:
            y = self.row_bottoms[self.grid.rows[edge.source]] + _LEAVE
            points += [(x, y), (way, y)]
            x = way
        if self._enters_from_side(edge):
            part, (left, top) = self.parts[edge.target], self.places[edge.target]
            middle = top + (part.height - part.extra) / 2
            return [*points, (x, middle), (left + part.width, middle)]
        end = self.exit_xs[edge.value] if self.is_exit(edge) else self._entering_x(edge)
        top = self.height - self.extra if self.is_exit(edge) else self.places[edge.target][1]
        if end != x:
            points += [(x, top - _MEET), (end, top - _MEET)]
        return [*points, (end, top)]

    def _way_x(self, edge: Edge) -> float | None:
        """Where an edge that passes rows runs."""
        if edge not in self.grid.ways:
            return None
        kind, number = self.grid.ways[edge]
        return self.column_xs[number] if kind == "c" else self.lanes_from + _LANE * number

    def _enters_from_side(self, edge: Edge) -> bool:
        """Whether an edge reaches its target from the right: nothing stands between."""
        if self.is_exit(edge) or edge not in self.grid.ways:
            return False
        kind, number = self.grid.ways[edge]
        column, row = self.grid.columns[edge.target], self.grid.rows[edge.target]
        if isinstance(self.parts[edge.target], Frame) or (kind == "c" and number <= column):
            return False
        same_row = (i for i in range(len(self.parts)) if self.grid.rows[i] == row)
        return not any(self.grid.columns[i] > column for i in same_row)

    def _entering_x(self, edge: Edge) -> float:
        """Where an edge meets the top of its target: a box is met abreast."""
        part = self.parts[edge.target]
        entry = self.places[edge.target][0] + part.entry_xs[edge.value]
        if isinstance(part, Frame):
            return entry
        own = [e for e in self.edges if e.target == edge.target and not self._enters_from_side(e)]
        own.sort(key=lambda e: self._way_x(e) or self.leaving_x(e))
        return entry + _ABREAST * (own.index(edge) - (len(own) - 1) / 2)


def lay_out(block: Block, graph: Graph) -> Item:
    """The block with sizes, and all in it with places."""
    return Frame(block, graph) if block.parts else Box(block, graph)


def font(line: Line) -> tuple[float, bool]:
    """The size of a line's letters, and whether they are bold."""
    return (11.0, True) if line.is_title else (9.5, False)


def text_width(text: str, size: float = 11.0, bold: bool = False) -> float:
    """About how wide a text is in a sans-serif font."""
    return len(text) * size * (0.62 if bold else 0.57)
