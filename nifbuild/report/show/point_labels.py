"""Places names beside points so that they cover neither each other nor the points."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.transforms import Bbox

_DISTANCES = (9, 16, 26, 38, 52, 68, 86)
"""From a point to its name, in typographic points."""

_ANGLES = (0, 45, -45, 90, -90, 135, -135, 180)
_LEADER_FROM = 14  # a name farther away gets a line to its point
_MARK_PIXELS = 8
_FONT_SIZE = 8


def place_labels(
    axes: "Axes",
    names: Sequence[str],
    places: Sequence[tuple[float, float]],
    colors: Sequence[str],
) -> None:
    """Writes each name near its point, in the first place around it that is free.

    Args:
        axes: With all that the names are to keep clear of, and its final limits.
        names: One for each point.
        places: The points, in data coordinates.
        colors: Of the names.
    """
    figure = axes.figure
    figure.draw_without_rendering()  # type: ignore[union-attr]  # fixes the layout, and so the pixels
    axes.set_xlim(axes.get_xlim())
    axes.set_ylim(axes.get_ylim())
    taken = [_around(axes, place) for place in places]
    taken += _drawn(axes)
    for name, place, color in zip(names, places, colors, strict=True):
        candidates = _candidates(axes, _size(axes, name), place)
        best = min(candidates, key=lambda candidate: _cost(axes, candidate.box, taken))
        _annotate(axes, name, place, color, best)
        taken.append(best.box)


@dataclass(frozen=True)
class _Candidate:
    """Where a name could stand: its box in pixels, its offset in points, its side of the offset."""

    box: "Bbox"
    offset: tuple[float, float]
    side: str


def _size(axes: "Axes", name: str) -> tuple[float, float]:
    """Width and height of a name in pixels, with a little air."""
    text = axes.text(0, 0, name, fontsize=_FONT_SIZE)
    box = text.get_window_extent()
    text.remove()
    return box.width * 1.02, box.height * 1.1


def _candidates(
    axes: "Axes", size: tuple[float, float], place: tuple[float, float]
) -> list[_Candidate]:
    """Places around a point, the nearest first."""
    from matplotlib.transforms import Bbox

    x, y = axes.transData.transform(place)
    pixels = axes.figure.dpi / 72
    width, height = size
    found = []
    for distance in _DISTANCES:
        for angle in _ANGLES:
            radians = math.radians(angle)
            offset = (distance * math.cos(radians), distance * math.sin(radians))
            side = "left" if abs(angle) < 90 else "right" if abs(angle) > 90 else "center"
            share = {"left": 0.0, "center": 0.5, "right": 1.0}[side]
            left = x + offset[0] * pixels - share * width
            bottom = y + offset[1] * pixels - height / 2
            found.append(_Candidate(Bbox.from_bounds(left, bottom, width, height), offset, side))
    return found


def _annotate(
    axes: "Axes", name: str, place: tuple[float, float], color: str, where: _Candidate
) -> None:
    far = math.hypot(*where.offset) > _LEADER_FROM
    line = {"arrowstyle": "-", "color": color, "linewidth": 0.6, "shrinkB": 4} if far else None
    axes.annotate(
        name,
        place,
        where.offset,
        textcoords="offset points",
        ha=where.side,
        va="center",
        fontsize=_FONT_SIZE,
        color=color,
        arrowprops=line,
    )


def _cost(axes: "Axes", box: "Bbox", taken: Sequence["Bbox"]) -> float:
    """Pixels that would be covered, or lie outside; the first candidate without any is nearest."""
    from matplotlib.transforms import Bbox

    covered = 0.0
    for other in taken:
        common = Bbox.intersection(box, other)
        covered += common.width * common.height if common is not None else 0
    inside = Bbox.intersection(box, axes.bbox)
    area = inside.width * inside.height if inside is not None else 0
    return covered + box.width * box.height - area


def _around(axes: "Axes", place: tuple[float, float]) -> "Bbox":
    from matplotlib.transforms import Bbox

    x, y = axes.transData.transform(place)
    return Bbox.from_extents(x - _MARK_PIXELS, y - _MARK_PIXELS, x + _MARK_PIXELS, y + _MARK_PIXELS)


def _drawn(axes: "Axes") -> list["Bbox"]:
    """Error bars, lines across and the names on them."""
    boxes = [text.get_window_extent() for text in axes.texts]
    for bars in axes.collections:
        boxes += [
            axes.transData.transform_bbox(path.get_extents()).padded(5) for path in bars.get_paths()
        ]
    boxes += [
        line.get_window_extent().padded(2) for line in axes.lines if line.get_linestyle() == "--"
    ]
    return boxes
