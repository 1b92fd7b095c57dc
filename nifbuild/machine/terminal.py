"""The way to terminals: rich, which draws there, and a standard error that ends nothing.

Names of files, classes and specs get into everything that is printed. Here, and nowhere else, they
are kept from being read as rich's markup (`[red]`), as emoji (`:x:`), or by the terminal itself.
"""

import io
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import rich.console
import rich.table
from rich.cells import cell_len
from rich.console import RenderableType
from rich.control import Control
from rich.segment import ControlType, Segment
from rich.text import Text

from nifbuild.errors import shown

_LEAST = 6
"""Columns that a text keeps."""
_PIPED_COLUMNS = 200
"""Where what is printed goes to a file or a program, nothing has to be cut to fit a screen."""


class Console(rich.console.Console):
    """A console that shows text as it is, on stdout or on stderr."""

    def __init__(self, *, stderr: bool = False, soft_wrap: bool = False) -> None:
        super().__init__(
            stderr=stderr, soft_wrap=soft_wrap, markup=False, emoji=False, highlight=False
        )
        if not self.is_terminal and "COLUMNS" not in os.environ:
            self.width = _PIPED_COLUMNS

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
    """A table whose cells are one line each, whatever a name in them holds.

    On a narrow terminal, texts give way to numbers: a number without its end is another one.
    """

    def add_row(self, *cells: RenderableType | None, **options: Any) -> None:
        """As rich's."""
        plain = [shown(cell) if isinstance(cell, str) else cell for cell in cells]
        super().add_row(*plain, **options)
        for column, cell in zip(self.columns, plain, strict=False):
            if isinstance(cell, str):
                need = cell_len(cell) if column.justify == "right" else min(cell_len(cell), _LEAST)
                column.min_width = max(column.min_width or 0, need)


class StatusLine:
    """Writes over itself between measurements, and is gone in the end.

    A bar with a thread that refreshes it would take time from what is being timed.
    """

    def __init__(self) -> None:
        self._console = Console(stderr=True)

    def __enter__(self) -> "StatusLine":
        return self

    def __exit__(self, *error: object) -> None:
        self.clear()

    def show(self, text: str) -> None:
        """Shows the text in place of the one before."""
        if self._console.is_terminal:
            self.clear()
            line = Text(text, style="dim")
            line.truncate(self._console.width - 1, overflow="ellipsis")
            self._console.print(line, end="")

    def clear(self) -> None:
        """Shows nothing."""
        if self._console.is_terminal:
            erase_line = (ControlType.ERASE_IN_LINE, 2)
            self._console.control(Control(ControlType.CARRIAGE_RETURN, erase_line))


class _Stderr(io.FileIO):
    """Standard error; what cannot be written is dropped."""

    def write(self, content: Any) -> int:
        try:
            return super().write(content)
        except OSError:
            return len(memoryview(content).cast("B"))


@contextmanager
def careful_stderr() -> Iterator[None]:
    """While entered, what is written to stderr is dropped where it cannot be written."""
    given = sys.stderr
    sys.stderr = careful = _careful(given)
    try:
        yield
    finally:
        careful.flush()
        sys.stderr = given
        if given is None:
            careful.close()


def _careful(given: TextIO | None) -> TextIO:
    if given is None:  # closed: `print` would write to stdout instead
        return Path(os.devnull).open("w")
    try:
        descriptor = given.fileno()
    except OSError:  # a stand-in that a caller has put there
        return given
    if sys.platform == "win32":  # a console is no file there
        return given
    raw = io.BufferedWriter(_Stderr(descriptor, "w", closefd=False))
    return io.TextIOWrapper(
        raw, encoding=given.encoding, errors="backslashreplace", line_buffering=True
    )
