"""Tables and names as GitHub's Markdown."""

from collections.abc import Sequence

from nifbuild.errors import shown
from nifbuild.report.show.tables import Grid

_ESCAPED = {"&": "&amp;", "<": "&lt;", "|": "\\|", "`": "\\`", "](": "]\\("}


def markdown(grids: Sequence[Grid], notes: Sequence[str] = ()) -> str:
    """The tables, then the notes."""
    parts = []
    for grid in grids:
        marks = [":--" if i < grid.num_text else "--:" for i in range(len(grid.headings))]
        headings, *rows = (map(markdown_text, line) for line in (grid.headings, *grid.rows))
        lines = (headings, marks, *rows)
        body = "\n".join(f"| {' | '.join(cell or ' ' for cell in line)} |" for line in lines)
        parts.append(f"**{markdown_text(grid.title)}**\n\n{body}" if grid.title else body)
    return "\n\n".join([*parts, *notes])


def markdown_text(text: str) -> str:
    """Text that stays on its line and in its cell, and is neither HTML, code nor a link."""
    for character, harmless in _ESCAPED.items():
        text = text.replace(character, harmless)
    return shown(" ".join(text.split()))


def folded_section(summary: str, content: str) -> str:
    """What is shown when one clicks on the summary."""
    return f"<details><summary>{summary}</summary>\n\n{content}\n\n</details>"


def code_block(text: str, language: str = "") -> str:
    """Text as it is, in a fence that nothing in it closes."""
    text = shown(text, lines=True)
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}{language}\n{text}\n{fence}"
