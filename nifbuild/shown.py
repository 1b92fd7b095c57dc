"""Text from outside, such as the name of a file or of a class, as people are shown it."""

import re

_OBEYED = re.compile(
    "[\x00-\x1f\x7f-\x9f"  # control characters: colours, titles, cursors of terminals; lines
    "\u2028\u2029"  # lines, too
    "\u200e\u200f\u202a-\u202e\u2066-\u2069"  # the direction of writing
    "\ud800-\udfff]"  # bytes of file names that are no UTF-8, which cannot be printed at all
)


def shown(text: str, *, lines: bool = False) -> str:
    r"""The text with nothing in it that a terminal, a log or a browser would obey.

    Such characters are written as in Python: `\x1b`. All others are left as they are.

    Args:
        text: Anything.
        lines: It has lines and tabs of its own, which stay. A name has none: with a line break
            in it, a file could forge a line of a log.
    """
    return _OBEYED.sub(lambda found: _escaped(found[0], lines), text)


def in_plot(text: str) -> str:
    """A name on one line of a plot of matplotlib, in which a dollar starts no mathematics."""
    return shown(text).replace("$", r"\$")


def _escaped(character: str, lines: bool) -> str:
    if lines and character in "\n\t":
        return character
    if "\udc80" <= character <= "\udcff":  # a byte, as `os.fsdecode` gives it
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape", "surrogatepass").decode()
