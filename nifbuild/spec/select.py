"""Selectors: which modules or weights are meant, by their names."""

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import Field

from nifbuild.errors import Problem, SpecError

MAX_LENGTH = 500
"""Longest selector, as long as the longest reference to an op."""
MAX_SELECTORS = 1000
"""Most selectors in one place."""

Selector = Annotated[str, Field(min_length=1, max_length=MAX_LENGTH)]
"""A selector, as YAML has it."""


class PathPattern:
    """What a selector finds: `*` is anything within a name, `?` one character of it.

    `**` is anything at all, and `**.` any number of whole names with their dots, none included.

    A path is read once, with the set of all places in the selector that may be reached: a search
    that goes back where it has guessed wrong takes exponential time for a row of stars.
    """

    def __init__(self, selector: str) -> None:
        # A place is a bit. Each `**.` has a second one: within a name, before its dot.
        self._tokens: list[str] = []
        for token in re.findall(r"\*\*\.?|.", selector, re.DOTALL):
            self._tokens += [token, "name"] if token == "**." else [token]
        self._start = self._with_skipped(1)
        self._steps: dict[tuple[int, str], int] = {}

    def fullmatch(self, path: str) -> bool:
        """Whether the selector finds this path."""
        places = self._start
        for character in path:
            step = (places, character)
            if step not in self._steps:
                self._steps[step] = self._with_skipped(self._read(places, character))
            places = self._steps[step]
        return bool(places >> len(self._tokens))

    def _read(self, places: int, character: str) -> int:
        """The places that one character leads to from these."""
        reached = 0
        inside = character != "."
        places &= (1 << len(self._tokens)) - 1  # behind the last token nothing is read
        while places:
            place = places & -places
            places -= place
            token = self._tokens[place.bit_length() - 1]
            if token == "**" or (inside and token in ("*", "name")):
                reached |= place
            elif token == "name":
                reached |= place >> 1
            elif token == character or (inside and token in ("?", "**.")):
                reached |= place << 1
        return reached

    def _with_skipped(self, places: int) -> int:
        """These places, and those behind tokens that may stand for nothing."""
        for index, token in enumerate(self._tokens):
            if places >> index & 1 and token in ("*", "**", "**."):
                places |= 1 << index + (2 if token == "**." else 1)
        return places


def path_pattern(selector: str) -> PathPattern:
    """What a selector finds.

    Raises:
        SpecError: If it is longer than any path.
    """
    if len(selector) > MAX_LENGTH:
        what = f"a selector has at most {MAX_LENGTH} characters, and this one {len(selector):,}"
        raise SpecError(Problem(what, fix="use `*` and `**` for parts of it", code="selector"))
    return PathPattern(selector)


def select_weights(selector: str, names: Iterable[str]) -> list[str]:
    """The names of weights that a selector finds by themselves, or by a module that they are in."""
    pattern = path_pattern(selector)
    return [name for name in names if any(map(pattern.fullmatch, _and_modules(name)))]


def _and_modules(name: str) -> list[str]:
    """A weight's name, and the paths of the modules that it is in."""
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(len(parts), 0, -1)]


def agrees(fields: Mapping[str, Any], where: Mapping[str, Any]) -> bool:
    """Whether every value of `where` is that of the field of its name.

    A number agrees with a pair of it: `kernel_size: 3` finds 3x3. `groups: depthwise` agrees with
    as many groups as there are `in_channels`, if these are several.
    """
    return all(name in fields and _same(name, value, fields) for name, value in where.items())


def _same(name: str, value: Any, fields: Mapping[str, Any]) -> bool:
    own = fields[name]
    if name == "groups" and own != value:
        channels = fields.get("in_channels")
        if value == "depthwise":
            return bool(own == channels and channels != 1)
        own = channels if own == "depthwise" else own
    return bool(_pair(own) == _pair(value))


def _pair(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        return (value, value)
    return tuple(value) if isinstance(value, list) else value
