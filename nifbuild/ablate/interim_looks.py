"""Which seeds a study had when its results were shown.

A bound holds with its confidence where the number of seeds was chosen before anything was seen.
Whoever adds seeds until a gate passes, or leaves out those that stand in its way, makes it pass far
more often than its confidence says. So what is shown is noted beside the cells, and a gate does not
pass on results of seeds that were chosen later.
"""

import json
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nifbuild.ablate.cells import Store, write_file
from nifbuild.ablate.forms import REPORT_JSON, Count, Damaged, Form, Seed, read_document
from nifbuild.errors import Problem, RunError

_LOOKS = "looks.json"


class _Look(Form):
    seeds: list[Seed]
    cells: list[str]


class _Looks(Form):
    looks: list[_Look]


class _Shown(Form):
    done: Count
    variants: list[Any]  # which no report of a search has


@dataclass(frozen=True, slots=True)
class Look:
    """Results that were shown.

    Attributes:
        seeds: All that were planned then.
        cells: Keys of the cells that were done.
    """

    seeds: frozenset[int]
    cells: frozenset[str]


def read_looks(store: Store) -> list[Look]:
    """All that were noted.

    Raises:
        RunError: The file is damaged, may not be read, or is gone after a report was written.
    """
    path = store.path / _LOOKS
    try:
        found = read_document(path, _Looks)
        if found is None and _has_shown(report := store.report / REPORT_JSON):
            raise Damaged(f"it is gone, and {report} has shown results")
    except Damaged as error:
        fix = "copy it back; without it, nobody knows which seeds were planned when"
        raise RunError(Problem(f"{path} is damaged: {error}", fix=fix, code="load")) from error
    looks = [] if found is None else found["looks"]
    return [Look(frozenset(look["seeds"]), frozenset(look["cells"])) for look in looks]


def _has_shown(report: Path) -> bool:
    """Whether there is a report of a study with results in it."""
    try:
        found = read_document(report, _Shown)
    except Damaged:
        return False
    return found is not None and found["done"] > 0


def changed_since(
    looks: Sequence[Look], seeds: Collection[int], cells: Collection[str]
) -> str | None:
    """That other seeds were planned when some of these cells were shown, and the way out.

    Args:
        looks: All that were noted.
        seeds: Those that are planned now.
        cells: Keys of the cells that are done.
    """
    planned = frozenset(seeds)
    shown = [look.seeds for look in looks if look.seeds != planned and look.cells & set(cells)]
    if not shown:
        return None
    then = " and when ".join(f"{_seeds_are(seeds, 'was', 'were')} planned" for seeds in shown)
    first = max(planned.union(*(look.seeds for look in looks))) + 1
    new = range(first, first + max(2, len(planned)))
    return (
        f"results of these were shown when {then}, and {_seeds_are(planned, 'is', 'are')} planned "
        "now: the confidence is for seeds that are chosen before; "
        f"plan seeds that are all new, as in `seeds: [{listed_seeds(new)}]`"
    )


def _seeds_are(seeds: Collection[int], one: str, several: str) -> str:
    """`seed 0 is`, `seeds 0, 1 are`."""
    noun, verb = ("seeds", several) if len(seeds) > 1 else ("seed", one)
    return f"{noun} {listed_seeds(seeds)} {verb}"


def listed_seeds(seeds: Iterable[int]) -> str:
    """`0, 1, 2`."""
    return ", ".join(map(str, sorted(seeds)))


def note_look(store: Store, seeds: Collection[int], cells: Collection[str]) -> None:
    """Notes that results are shown; where nothing can be written, as in a copy, it is left out.

    Raises:
        RunError: What was noted before is damaged.
    """
    if not cells:
        return
    looks = {look.seeds: look.cells for look in read_looks(store)}
    planned = frozenset(seeds)
    known = looks.get(planned, frozenset())
    if known >= set(cells):
        return
    looks[planned] = known | set(cells)
    document = [{"seeds": sorted(s), "cells": sorted(c)} for s, c in looks.items()]
    with suppress(RunError):
        write_file(store.path / _LOOKS, json.dumps({"looks": document}, indent=1) + "\n")
