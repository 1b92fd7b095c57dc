"""A tall picture cut into columns that stand side by side, so that it fits a page or a screen."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

from nifbuild.report.drawing.picture import FRAME_LINE, Picture, Polyline, Rect, Text

_TALLEST = 900.0
"""Height up to which a picture stays as it is, whatever its width."""
_GUTTER = 44.0
_LANE = 7.0
"""Between lines that lead to the next column."""
_MARGIN = 16.0
_AIR = 5.0
"""What a cut keeps away from boxes, letters and corners of lines."""
_FRAME_COST = 0.15
_LINE_COST = 0.04
"""Of a frame, and of a line more than one, that a cut goes through: as shares of a column, by which
it may lie higher or lower instead."""

_Span = tuple[float, float]
_Point = tuple[float, float]


def in_columns(drawn: Picture, number: int | None = None) -> Picture:
    """The picture in columns, to be read from the left.

    Lines go on from the end of a column to the beginning of the next. No box is cut through; a
    frame may be, where there is no better place.

    Args:
        drawn: The picture.
        number: Of columns, at most; None: as few as make it no taller than it is wide.
    """
    if number is None:
        fits = drawn.height <= _TALLEST
        number = 1 if fits else math.ceil(math.sqrt(drawn.height / (drawn.width + _GUTTER)))
    cuts = _cuts(drawn, number)
    return _side_by_side(drawn, cuts) if cuts else drawn


def _cuts(drawn: Picture, number: int) -> list[float]:
    """Heights to cut at, in order; fewer where there is no place for more."""
    places = [(low + high) / 2 for low, high in _gaps(drawn)]
    column = drawn.height / number
    cuts: list[float] = []
    for wanted in range(1, number):
        later = [y for y in places if y > (cuts[-1] if cuts else 0.0) + column / 3]
        if later:
            cuts.append(min(later, key=lambda y: _cost(drawn, y, wanted * column, column)))
    return cuts


def _cost(drawn: Picture, y: float, wanted: float, column: float) -> float:
    frames = sum(rect.y < y < rect.y + rect.height for rect in drawn.rects)
    lines = sum(_crosses(line, y) for line in drawn.paths)
    return abs(y - wanted) / column + _FRAME_COST * frames + _LINE_COST * (lines - 1)


def _crosses(line: Polyline, y: float) -> bool:
    heights = [point[1] for point in line.points]
    return min(heights) < y < max(heights)


def _gaps(drawn: Picture) -> Iterator[_Span]:
    """From top to bottom, where nothing stands but frames and lines that go down."""
    reached = 0.0
    for low, high in sorted(_obstacles(drawn)):
        if low - reached > 2 * _AIR:
            yield reached, low
        reached = max(reached, high)


def _obstacles(drawn: Picture) -> Iterator[_Span]:
    for rect in drawn.rects:
        if rect.stroke != FRAME_LINE:
            yield rect.y, rect.y + rect.height
        else:
            yield rect.y, rect.y
            yield rect.y + rect.height, rect.y + rect.height
    for text in drawn.texts:
        yield text.y - text.size, text.y + text.size / 3
    for line in drawn.paths:
        for _, y in line.points:
            yield y, y


def _side_by_side(drawn: Picture, cuts: Sequence[float]) -> Picture:
    """The slices between the cuts from left to right, with lines from each to the next."""
    slices = [_slice(drawn, span) for span in pairwise((0.0, *cuts, drawn.height))]
    lanes = max(sum(_crosses(line, cut) for line in drawn.paths) for cut in cuts)
    gutter = _GUTTER + _LANE * lanes
    top = _MARGIN + _LANE * lanes
    made = Picture(0.0, 0.0)
    left = before = bottom = 0.0
    for index, (part, start) in enumerate(zip(slices, (0.0, *cuts), strict=True)):
        right, down = left - _left(part), 0.0 if index == 0 else top - start
        _add(made, part, right, down)
        crossing = _crossings(drawn, start) if index else []
        for lane, x in enumerate(crossing):
            over = left - gutter / 2 + _LANE * (lane - len(crossing) / 2)
            points = _around((x + before, bottom), (x + right, top), over, _LANE * (lane + 1))
            made.paths.append(Polyline(points, arrow=False))
        bottom, before = start + part.height + down, right
        made.height = max(made.height, bottom + _MARGIN + _LANE * lanes)
        left += _right(part) - _left(part) + gutter
    made.width = left - gutter
    return made


def _crossings(drawn: Picture, y: float) -> list[float]:
    return sorted({x for line in drawn.paths for x in _xs_at(line, y)})


def _around(end: _Point, start: _Point, over: float, shift: float) -> tuple[_Point, ...]:
    """From the end of a column below it, up between the two, and down to where the next starts."""
    below, above = end[1] + shift, start[1] - shift
    return (end, (end[0], below), (over, below), (over, above), (start[0], above), start)


def _xs_at(line: Polyline, y: float) -> Iterator[float]:
    for (x, above), (_, below) in pairwise(line.points):
        if min(above, below) < y < max(above, below):
            yield x  # lines that go down do so straight


def _left(part: Picture) -> float:
    lefts = [rect.x for rect in part.rects] + [x for line in part.paths for x, _ in line.points]
    return min([*lefts, *(text.x for text in part.texts if text.anchor == "start")]) - _MARGIN


def _right(part: Picture) -> float:
    rights = [r.x + r.width for r in part.rects] + [x for p in part.paths for x, _ in p.points]
    return max(rights) + _MARGIN


def _add(made: Picture, part: Picture, right: float, down: float) -> None:
    made.rects += [replace(rect, x=rect.x + right, y=rect.y + down) for rect in part.rects]
    made.texts += [replace(text, x=text.x + right, y=text.y + down) for text in part.texts]
    for line in part.paths:
        points = tuple((x + right, y + down) for x, y in line.points)
        made.paths.append(replace(line, points=points))


def _slice(drawn: Picture, span: _Span) -> Picture:
    """What lies between two heights, at its place; frames and lines are cut off there."""
    low, high = span
    return Picture(
        drawn.width,
        high - low,
        [cut for rect in drawn.rects if (cut := _cut_rect(rect, span)) is not None],
        [cut for line in drawn.paths for cut in _cut_line(line, span)],
        [text for text in drawn.texts if _holds(span, text)],
    )


def _holds(span: _Span, text: Text) -> bool:
    return span[0] <= text.y < span[1]


def _cut_rect(rect: Rect, span: _Span) -> Rect | None:
    top, bottom = max(rect.y, span[0]), min(rect.y + rect.height, span[1])
    return replace(rect, y=top, height=bottom - top) if top < bottom else None


def _cut_line(line: Polyline, span: _Span) -> Iterator[Polyline]:
    """The parts of a line between two heights; the last one has its arrow."""
    low, high = span
    part: list[_Point] = []
    for (x, y), (to_x, to_y) in pairwise(line.points):
        if max(y, to_y) < low or min(y, to_y) > high:
            if part:
                yield Polyline(tuple(part), arrow=False)
            part = []
            continue
        part = part or [(x, min(max(y, low), high))]
        part.append((to_x, min(max(to_y, low), high)))
        if not low <= to_y <= high:
            yield Polyline(tuple(part), arrow=False)
            part = []
    if part:
        yield Polyline(tuple(part), line.arrow)
