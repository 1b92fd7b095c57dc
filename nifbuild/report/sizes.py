"""Sizes of images as people write them on the command line."""

import re

from nifbuild.errors import Mark, Problem, SpecError


def parse_size(text: str, flag: str = "--size") -> tuple[int, int]:
    """Height and width, in pixels, of `224` or `224x192`.

    Raises:
        SpecError: The text is no size.
    """
    match = re.fullmatch(r"([1-9]\d*)(?:x([1-9]\d*))?", text)
    if match is None:
        fix = "pixels, such as 224, or height x width, such as 224x192"
        mark = Mark(f"{flag} {text}")
        raise SpecError(Problem(f"'{text}' is no size", mark, fix=fix, code="option"))
    return int(match[1]), int(match[2] or match[1])


def size_overrides(size: tuple[int, int], has_data: bool) -> list[str]:
    """The `--set` texts with which a spec is for images of this size, whatever it says itself."""
    sections = ["input"] + (["data"] if has_data else [])
    return [f"{section}.size=[{size[0]}, {size[1]}]" for section in sections]
