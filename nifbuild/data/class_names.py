"""Names of classes that people cannot tell apart, or hardly."""

import unicodedata
from collections.abc import Sequence


def composed(name: str) -> str:
    """The name as Unicode composes it (NFC): archives of a Mac hold it decomposed.

    What nobody can tell apart is one class.
    """
    return unicodedata.normalize("NFC", name)


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
