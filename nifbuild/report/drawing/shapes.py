"""What a picture consists of; lengths are in pixels, y grows downwards."""

from dataclasses import dataclass, field

INK = "#24292f"
GREY = "#6e7781"
LINE = "#57606a"


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
class Path:
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
    paths: list[Path] = field(default_factory=list)
    texts: list[Text] = field(default_factory=list)


def text_width(text: str, size: float = 11.0, bold: bool = False) -> float:
    """About how wide a text is in a sans-serif font."""
    return len(text) * size * (0.62 if bold else 0.57)
