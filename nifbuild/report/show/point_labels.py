"""Places names beside points so that they cover neither each other nor the points."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D
    from matplotlib.transforms import Bbox

_DISTANCES = (9, 16, 26, 38, 52, 68, 86)
"""From a point to its name, in typographic points."""

_ANGLES = (0, 45, -45, 90, -90, 135, -135, 180)
_SHARES = tuple(0.01 + 0.03 * step for step in range(32))
"""Where names on lines may begin, as shares of the width."""
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


def place_on_lines(
    axes: "Axes", names: Sequence[str], heights: Sequence[float], colors: Sequence[str]
) -> None:
    """Writes each name on its dashed line across, at the first place where nothing is in its way.

    Args:
        axes: As for `place_labels`, which is to come later.
        names: One for each line.
        heights: Of the lines, in data coordinates.
        colors: Of the names.
    """
    from matplotlib.transforms import Bbox

    axes.figure.draw_without_rendering()  # type: ignore[union-attr]
    others = [line.get_window_extent() for line in _lines_across(axes)]
    for name, height, color in zip(names, heights, colors, strict=True):
        y = axes.transData.transform((0, height))[1]
        taken = _bars(axes) + [text.get_window_extent() for text in axes.texts]
        taken += [box for box in others if abs(box.y0 - y) > 1]
        width, tall = _size(axes, name)
        found = []
        for below in (False, True):
            for share in _SHARES:
                left = axes.bbox.x0 + share * axes.bbox.width
                box = Bbox.from_bounds(left, y - tall if below else y, width, tall)
                found.append((_cost(axes, box, taken), share, below))
        _, share, below = min(found, key=lambda one: one[0])
        axes.annotate(
            name,
            (share, height),
            xycoords=axes.get_yaxis_transform(),
            xytext=(0, -2 if below else 2),
            textcoords="offset points",
            va="top" if below else "bottom",
            color=color,
            fontsize=_FONT_SIZE,
        )


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
    lines = [line.get_window_extent().padded(2) for line in _lines_across(axes)]
    return boxes + _bars(axes) + lines


def _lines_across(axes: "Axes") -> list["Line2D"]:
    return [line for line in axes.lines if line.get_linestyle() == "--"]


def _bars(axes: "Axes") -> list["Bbox"]:
    paths = [(bars.get_transform(), path) for bars in axes.collections for path in bars.get_paths()]
    return [place.transform_bbox(path.get_extents()).padded(5) for place, path in paths]
