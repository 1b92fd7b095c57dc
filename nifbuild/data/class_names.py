"""Names of classes that people cannot tell apart, or hardly."""

import itertools
import unicodedata
from collections.abc import Sequence


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
