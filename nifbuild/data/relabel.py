"""The classes of one data set in terms of another's, by their names."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from nifbuild.data.catalog import Catalog
from nifbuild.data.class_names import composed
from nifbuild.errors import Problem, SpecError, did_you_mean

_SHOWN_CLASSES = 10


def relabelled(catalog: Catalog, class_names: Sequence[str]) -> Catalog:
    """The same images, their labels the places of their classes in `class_names`.

    Raises:
        SpecError: Classes of the data are not among them; lists these.
    """
    # Of two classes that nobody can tell apart, the first one counts.
    learned = {composed(name): at for at, name in reversed(list(enumerate(class_names)))}
    unknown = [name for name in catalog.class_names if composed(name) not in learned]
    if unknown:
        hints = {did_you_mean(name, class_names) for name in unknown[:_SHOWN_CLASSES]}
        known = f"classes of the run: {_listed(class_names)}"
        raise SpecError(
            Problem(
                f"the data has classes that the run did not learn: {_listed(unknown)}",
                path="data",
                fix="\n".join([*sorted(hints - {""}), known]),
                code="classes",
            )
        )
    if catalog.spec.per_pixel and catalog.class_names != tuple(class_names):
        raise SpecError(
            Problem(
                "masks hold class numbers, and the data has the run's classes in another order, or "
                "not all of them",
                path="data.classes",
                fix=f"write masks with the numbers of the run: {_listed(class_names)}",
                code="classes",
            )
        )
    places = np.array([learned[composed(name)] for name in catalog.class_names], np.int64)
    sources = {
        role: replace(source, labels=places[source.labels])
        for role, source in catalog.sources.items()
    }
    return replace(catalog, class_names=tuple(class_names), sources=sources)


def difference(found: Sequence[str], learned: Sequence[str]) -> str:
    """In words, how the data's classes differ from those that a run has learned; may be empty."""
    if tuple(found) == tuple(learned):
        return ""
    if len(found) < len(learned):
        return (
            f"the data has {len(found)} of the run's {len(learned)} classes, matched by name; "
            "the model still chooses among all of its own"
        )
    return "the data has the run's classes in another order; they are matched by name"


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:_SHOWN_CLASSES])
    more = len(names) - _SHOWN_CLASSES
    return f"{shown}, and {more} more" if more > 0 else shown
