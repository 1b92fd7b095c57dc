"""Whether figures of two branches are of the same thing, so that they may be compared."""

from collections.abc import Callable
from typing import Any

from nifbuild.ablate.forms import Document
from nifbuild.ablate.results import Results, VariantResults


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


_PROPERTIES: dict[str, Callable[[Document], Any]] = {
    "data": lambda result: result["origin"]["data"],
    "split": lambda result: result["split"],
    "number of test images": lambda result: result["num_samples"],
    "version of nifbuild": lambda result: result["environment"]["packages"]["nifbuild"],
    "version of torch": lambda result: _minor(result["environment"]["packages"]["torch"]),
    "precision": lambda result: result["environment"]["precision"],
}
"""What must not differ; code and spec may, as it is they that are compared."""


def incomparable(
    here: Results, own: VariantResults, there: Results, other: VariantResults
) -> list[str]:
    """In what two sets of results differ that they must share, in words.

    Args:
        here: The results of this branch.
        own: Of them, the variant in question.
        there: Those of the other branch.
        other: The same variant there.
    """
    found = []
    if set(here.seeds) != set(there.seeds):
        found.append(_words("seeds", set(here.seeds), set(there.seeds)))
    if own.results and other.results:
        for name, value in _PROPERTIES.items():
            one, two = ({value(r) for r in each.results.values()} for each in (own, other))
            if one != two:
                found.append(_words(name, one, two))
    return found


def _words(name: str, one: set[Any], two: set[Any]) -> str:
    here, there = (", ".join(map(str, sorted(values))) for values in (one, two))
    return f"{name}: {here} here, {there} there"
