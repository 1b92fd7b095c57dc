"""Names of classes: how many there are, and which of them people can hardly tell apart."""

import itertools
import unicodedata
from collections.abc import Sequence

from nifbuild.errors import Problem, RunError, SpecError
from nifbuild.spec.common_data import CommonData


def composed(name: str) -> str:
    """The name as Unicode composes it (NFC): archives of a Mac hold it decomposed.

    What nobody can tell apart is one class.
    """
    return unicodedata.normalize("NFC", name)


_LISTED = 20


def contrasted(names: Sequence[str], others: Sequence[str]) -> tuple[str, str]:
    """Two lists of classes that differ, in words; of long ones, where they first do."""
    if max(len(names), len(others)) <= _LISTED:
        return f"the classes {list(names)}", f"the classes {list(others)}"
    pairs = itertools.zip_longest(names, others)
    at = next(place for place, (name, other) in enumerate(pairs) if name != other)

    def told(given: Sequence[str]) -> str:
        name = f"'{given[at]}'" if at < len(given) else "no more"
        return f"{len(given):,} classes, of which number {at:,} is {name}"

    return told(names), told(others)


def look_alikes(class_names: Sequence[str]) -> str:
    """In words, which classes differ in case or spaces only, which is mostly a slip; may be empty.

    So do names that Unicode writes in several ways.
    """
    groups: dict[str, list[str]] = {}
    for name in class_names:
        key = " ".join(unicodedata.normalize("NFKC", name).casefold().split())
        groups.setdefault(key, []).append(name)
    alike = [group for group in groups.values() if len(group) > 1]
    if not alike:
        return ""
    first = " and ".join(f"'{name}'" for name in alike[0])
    more = f", and {len(alike) - 1:,} more pairs" if len(alike) > 1 else ""
    return f"classes that differ in case, spaces or Unicode form only: {first}{more}"


def check_num_classes(spec: CommonData, class_names: tuple[str, ...]) -> None:
    """Raises SpecError where the YAML asserts another number of classes than these."""
    if spec.num_classes not in (None, len(class_names)):
        shown = ", ".join(class_names[:5]) + (", ..." if len(class_names) > 5 else "")
        raise SpecError(
            Problem(
                f"the data has {len(class_names)} classes ({shown}), not {spec.num_classes}",
                path="data.num_classes",
                fix=f"write `num_classes: {len(class_names)}`, or leave it out",
                code="num-classes",
            )
        )


def require_several(class_names: Sequence[str]) -> None:
    """Raises RunError where there is one class only."""
    if len(class_names) < 2:
        raise RunError(
            Problem(
                f"the data has only one class, '{class_names[0]}'",
                path="data",
                fix="there is nothing to learn from it: check the folders or the label column",
                code="one-class",
            )
        )
