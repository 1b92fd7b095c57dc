"""One line that says what is being measured, on terminals only."""

from rich.control import Control
from rich.segment import ControlType
from rich.text import Text

from nifbuild.machine.terminal import Console


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
