"""A network as a file: SVG, PNG, or Mermaid text, which many Markdown viewers draw."""

from collections.abc import Callable, Iterator
from html import escape
from pathlib import Path

from nifbuild.errors import SpecError, option_problem, shown
from nifbuild.report.drawing.boxes import Block, blocks, box_family, box_lines, shape_label
from nifbuild.report.drawing.columns import in_columns
from nifbuild.report.drawing.picture import LINE, Picture, Polyline, Rect, Text, picture
from nifbuild.report.output_file import require_files, written_file
from nifbuild.report.show.plots import INK, in_plot
from nifbuild.spec.graph import INPUT, Graph
from nifbuild.spec.ops.base import Family
from nifbuild.spec.resolve import Resolved

_OPTION = "--out"
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
            *map(_line, picture.paths),
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


def _line(line: Polyline) -> str:
    points = " ".join(f"{x:g},{y:g}" for x, y in line.points)
    arrow = ' marker-end="url(#arrow)"' if line.arrow else ""
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


def save_png(picture: Picture, file: Path, scale: float = 2.0) -> None:
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
    for line in picture.paths:
        axes.plot(*zip(*line.points, strict=True), color=LINE, lw=1.3, zorder=2)
        if line.arrow:
            look = {"color": LINE, "arrowstyle": "-|>", "lw": 0, "shrinkA": 0, "shrinkB": 0}
            axes.annotate("", line.points[-1], line.points[-2], arrowprops=look)
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


def mermaid(model: Block, graph: Graph) -> str:
    """The model as a flowchart: the same boxes, frames and edges as in a picture."""
    writer = _MermaidWriter(graph)
    body = [*writer.blocks((model,) if not model.parts else model.parts, 1)]
    nodes = ['    input(["input"])', *body, '    output(["output"])']
    edges = [*writer.edges(), writer.edge(model.last_outputs[0], "output")]
    styles = [
        f"    classDef {family.name} fill:{family.color},stroke:{LINE},color:{INK}"
        for family in writer.families
    ]
    return "\n".join(("flowchart TB", *nodes, *edges, *styles)) + "\n"


def _quoted(text: str) -> str:
    """Text within quotes, which Mermaid takes for HTML."""
    return escape(shown(text), quote=False).replace('"', "#quot;")


class _MermaidWriter:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.makers = {INPUT: "input"}
        self.first: dict[int, int] = {}  # what the last of a fold gives, to what the first gives
        self.taken: list[tuple[int, str]] = []
        self.families: dict[Family, None] = {}  # those that there are, in their order

    def blocks(self, parts: tuple[Block, ...], depth: int) -> Iterator[str]:
        indent = "    " * depth
        for block in parts:
            name = f"n{block.nodes[0]}"
            times = f" \u00d7{block.count}" if block.count > 1 else ""
            if block.count > 1:
                self.first |= zip(block.last_outputs, block.outputs, strict=True)
            if block.parts:
                yield f'{indent}subgraph {name}_{depth}["{_quoted(block.name)}{times}"]'
                yield from self.blocks(block.parts, depth + 1)
                yield f"{indent}end"
                continue
            text = "<br/>".join(_quoted(line.text) for line in box_lines(block, self.graph))
            style = ""
            if (family := box_family(block, self.graph)) is not None:
                self.families[family] = None
                style = f":::{family.name}"
            yield f'{indent}{name}["{text}{times}"]{style}'
            self.makers |= dict.fromkeys(block.outputs, name)
            self.taken += [(value, name) for value in block.inputs]

    def edges(self) -> Iterator[str]:
        return (self.edge(value, name) for value, name in self.taken)

    def edge(self, value: int, target: str) -> str:
        """From the box that makes a value; the label is the value's shape."""
        shape = self.graph.nodes[value].output_shape if value >= 0 else self.graph.input_shape
        made = value
        while made in self.first:
            made = self.first[made]
        return f'    {self.makers[made]} -->|"{shape_label(shape)}"| {target}'


def _save_svg(resolved: Resolved, model: Block, columns: int | None, file: Path) -> None:
    drawn = in_columns(picture(model, resolved.graph, resolved.name), columns)
    file.write_text(svg(drawn), encoding="utf-8")


def _save_png(resolved: Resolved, model: Block, columns: int | None, file: Path) -> None:
    save_png(in_columns(picture(model, resolved.graph, resolved.name), columns), file)


def _save_mermaid(resolved: Resolved, model: Block, columns: int | None, file: Path) -> None:
    if columns is not None:
        what, fix = "Mermaid arranges boxes itself", "leave --columns out, or write .svg or .png"
        raise SpecError(option_problem("--columns", what, fix))
    file.write_text(mermaid(model, resolved.graph), encoding="utf-8")


_FORMATS: dict[str, Callable[[Resolved, Block, int | None, Path], None]] = {
    ".svg": _save_svg,
    ".png": _save_png,
    ".mmd": _save_mermaid,
}


def require_writable(file: Path, *, overwrite: bool = False) -> None:
    """Raises SpecError unless the file's ending names a format, and it can be written."""
    require_files(_OPTION, [file], tuple(_FORMATS), overwrite=overwrite)


def save(
    resolved: Resolved,
    file: Path,
    depth: int | None = None,
    *,
    columns: int | None = None,
    overwrite: bool = False,
) -> None:
    """Draws a spec's network.

    Args:
        resolved: The spec.
        file: Its ending says what is written: .svg, .png or .mmd (Mermaid).
        depth: Levels of blocks that are opened; None: as many as stay legible.
        columns: That the picture is cut into where it is tall; None: as many as make it no taller
            than it is wide.
        overwrite: Replace the file that is there.

    Raises:
        SpecError: If the ending is another one, or the file exists; columns of Mermaid.
        RunError: If the file cannot be written.
    """
    require_writable(file, overwrite=overwrite)
    model = blocks(resolved.graph.evaluated, depth)
    with written_file(_OPTION, file, overwrite=overwrite) as aside:
        _FORMATS[file.suffix.lower()](resolved, model, columns, aside)
