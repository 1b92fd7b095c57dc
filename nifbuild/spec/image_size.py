"""Sizes of images as people give them."""

import re

from nifbuild.errors import Problem, option_problem

Pixels = str | int | tuple[int, int]
"""A size: `224` (a square) or `224x192` (height x width) as a text, or the numbers themselves."""

_SIZE = re.compile(r"([1-9][0-9]{0,5})(?:x([1-9][0-9]{0,5}))?")


def parse_size(size: Pixels) -> tuple[int, int]:
    """Height and width in pixels, below a million.

    Raises:
        ValueError: It is no size.
    """
    text = "x".join(map(str, size)) if isinstance(size, tuple) else str(size)
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"'{text}' is no size")
    return int(found[1]), int(found[2] or found[1])


def noting_size(size: Pixels, problems: list[Problem]) -> tuple[int, int] | None:
    """What `--size` says; adds to the problems, and gives None, where that is no size."""
    try:
        return parse_size(size)
    except ValueError as error:
        fix = "pixels, such as 224, or height x width, such as 224x192"
        problems.append(option_problem(f"--size {size}", str(error), fix))
        return None


def size_text(size: tuple[int, int]) -> str:
    """The size as `parse_size` takes it."""
    height, width = size
    return str(height) if height == width else f"{height}x{width}"


def size_overrides(size: tuple[int, int], has_data: bool) -> list[str]:
    """The `--set` texts with which a spec is for images of this size, whatever it says itself."""
    sections = ["input"] + (["data"] if has_data else [])
    return [f"{section}.size=[{size[0]}, {size[1]}]" for section in sections]
