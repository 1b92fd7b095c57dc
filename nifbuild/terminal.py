"""The way to rich, which draws tables and progress on terminals.

Names of files, classes and specs get into everything that is printed. Here, and nowhere else, they
are kept from being read as rich's markup (`[red]`), as emoji (`:x:`), or by the terminal itself.
"""

from collections.abc import Iterable
from typing import Any

import rich.console
import rich.table
from rich.console import RenderableType
from rich.segment import Segment
from rich.text import Text

from nifbuild.shown import shown


class Console(rich.console.Console):
    """A console that shows text as it is, on stdout or on stderr."""

    def __init__(self, *, stderr: bool = False, soft_wrap: bool = False) -> None:
        super().__init__(
            stderr=stderr, soft_wrap=soft_wrap, markup=False, emoji=False, highlight=False
        )

    def render_str(self, text: str, **options: Any) -> Text:
        """Strings, on their way to become `Text`, before they are measured."""
        return super().render_str(shown(text, lines=True), **options)

    def render(
        self, renderable: RenderableType, options: rich.console.ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Everything else, `Text` above all, on its way out."""
        for segment in super().render(renderable, options):
            text, style, control = segment
            yield segment if control else Segment(shown(text, lines=True), style)


class Table(rich.table.Table):
    """A table whose cells are one line each, whatever a name in them holds."""

    def add_row(self, *cells: RenderableType | None, **options: Any) -> None:
        """As rich's."""
        plain = (shown(cell) if isinstance(cell, str) else cell for cell in cells)
        super().add_row(*plain, **options)
