"""A picture as SVG, or as PNG."""

from html import escape
from pathlib import Path as File

from nifbuild.errors import shown
from nifbuild.report.drawing.shapes import LINE, Path, Picture, Rect, Text
from nifbuild.report.show.plots import in_plot

_RADIUS = 5.0
_FONT = "Helvetica, Arial, 'DejaVu Sans', sans-serif"


def svg(picture: Picture) -> str:
    """The picture as an SVG document."""
    size = f'width="{picture.width:g}" height="{picture.height:g}"'
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" {size}'
            f' viewBox="0 0 {picture.width:g} {picture.height:g}" font-family="{_FONT}">',
            '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7.5" refY="4" markerWidth="7"'
            f' markerHeight="7" orient="auto"><path d="M0 0.5 L8 4 L0 7.5 z" fill="{LINE}"/>'
            "</marker></defs>",
            f'<rect {size} fill="#ffffff"/>',
            *map(_rect, picture.rects),
            *map(_path, picture.paths),
            *map(_text, picture.texts),
            "</svg>\n",
        )
    )


def _rect(rect: Rect) -> str:
    return (
        f'<rect x="{rect.x:g}" y="{rect.y:g}" width="{rect.width:g}" height="{rect.height:g}"'
        f' rx="{min(_RADIUS, rect.height / 4):g}" fill="{rect.fill}" stroke="{rect.stroke}"'
        f' stroke-width="{rect.stroke_width:g}"/>'
    )


def _path(path: Path) -> str:
    points = " ".join(f"{x:g},{y:g}" for x, y in path.points)
    arrow = ' marker-end="url(#arrow)"' if path.arrow else ""
    return (
        f'<polyline points="{points}" fill="none" stroke="{LINE}" stroke-width="1.3"'
        f' stroke-linejoin="round"{arrow}/>'
    )


def _text(text: Text) -> str:
    bold = ' font-weight="bold"' if text.bold else ""
    return (
        f'<text x="{text.x:g}" y="{text.y:g}" font-size="{text.size:g}"'
        f' text-anchor="{text.anchor}"{bold} fill="{text.colour}">{escape(shown(text.text))}</text>'
    )


def save_png(picture: Picture, file: File, scale: float = 2.0) -> None:
    """Writes the picture as PNG, `scale` pixels for each of its own."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import FancyBboxPatch

    inch = 72.0
    figure = Figure(figsize=(picture.width / inch, picture.height / inch), dpi=inch * scale)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, picture.width), ylim=(picture.height, 0))
    axes.axis("off")
    for rect in picture.rects:
        style = f"round,pad=0,rounding_size={min(_RADIUS, rect.height / 4)}"
        box = FancyBboxPatch((rect.x, rect.y), rect.width, rect.height, boxstyle=style)
        box.set(facecolor=rect.fill, edgecolor=rect.stroke, linewidth=rect.stroke_width)
        axes.add_patch(box)
    for path in picture.paths:
        axes.plot(*zip(*path.points, strict=True), color=LINE, lw=1.3, zorder=2)
        if path.arrow:
            look = {"color": LINE, "arrowstyle": "-|>", "lw": 0, "shrinkA": 0, "shrinkB": 0}
            axes.annotate("", path.points[-1], path.points[-2], arrowprops=look)
    for text in picture.texts:
        side = {"start": "left", "middle": "center", "end": "right"}[text.anchor]
        weight = "bold" if text.bold else "normal"
        size = text.size * 0.92  # matplotlib's font is wider than the browsers'
        axes.text(
            text.x,
            text.y,
            in_plot(text.text),
            fontsize=size,
            ha=side,
            weight=weight,
            color=text.colour,
        )
    figure.savefig(file, dpi=inch * scale)
