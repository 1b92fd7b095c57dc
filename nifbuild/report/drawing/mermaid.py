"""A picture as Mermaid text, which many Markdown viewers draw."""

from collections.abc import Iterator
from html import escape

from nifbuild.errors import shown
from nifbuild.report.drawing.blocks import Block
from nifbuild.report.drawing.labels import (
    COLOURS,
    IMAGE_SIZED,
    group_of,
    level_lines,
    op_lines,
    shape_label,
)
from nifbuild.spec.graph import INPUT, Graph


def mermaid(model: Block, graph: Graph) -> str:
    """The model as a flowchart: the same boxes, frames and edges as in a picture."""
    writer = _Writer(graph)
    body = [*writer.blocks((model,) if not model.parts else model.parts, 1)]
    nodes = ['    input(["input"])', *body, '    output(["output"])']
    edges = [*writer.edges(), writer.edge(model.last_outputs[0], "output")]
    styles = [
        f"    classDef {name} fill:{fill},stroke:#57606a,color:#24292f"
        for name, fill in COLOURS.items()
    ]
    return "\n".join(("flowchart TB", *nodes, *edges, *styles)) + "\n"


def _label(text: str) -> str:
    """Text within quotes, which Mermaid takes for HTML."""
    return escape(shown(text), quote=False).replace('"', "#quot;")


class _Writer:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.makers = {INPUT: "input"}
        self.first: dict[int, int] = {}  # what the last of a fold gives, to what the first gives
        self.taken: list[tuple[int, str]] = []

    def blocks(self, parts: tuple[Block, ...], depth: int) -> Iterator[str]:
        indent = "    " * depth
        for block in parts:
            name = f"n{block.nodes[0]}"
            times = f" \u00d7{block.count}" if block.count > 1 else ""
            if block.count > 1:
                self.first |= zip(block.last_outputs, block.outputs, strict=True)
            if block.parts:
                yield f'{indent}subgraph {name}_{depth}["{_label(block.name)}{times}"]'
                yield from self.blocks(block.parts, depth + 1)
                yield f"{indent}end"
                continue
            nodes = [self.graph.nodes[i] for i in block.nodes]
            lines = (level_lines if block.is_level else op_lines)(nodes, block.name)
            text = "<br/>".join(_label(line.text) for line in lines)
            groups = [group_of(node) for node in nodes]
            loud = [group for group in groups if group in IMAGE_SIZED]
            if block.is_level:
                style = f":::{loud[0]}" if loud else ""
            else:
                style = f":::{groups[0] if groups[0] in COLOURS else 'activation'}"
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
