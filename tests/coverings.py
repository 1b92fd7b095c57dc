"""Tables of test cases in which each pair of values occurs, in place of all combinations.

Most defects show with one value or with two together; a table of all pairs grows with the two
longest factors alone.
"""

from collections.abc import Iterable, Sequence
from itertools import combinations, product
from typing import Any

import pytest


def pairwise(*factors: Iterable[Any]) -> list[tuple[Any, ...]]:
    """Rows with a value of each factor, such that any two values of two factors share a row.

    The same factors give the same rows. Greedy: a row begins with the first pair that is still
    missing, and takes for each other factor the value that completes most missing pairs, and
    among equals the one that was taken least often.
    """
    values = [list(factor) for factor in factors]
    if len(values) < 2:
        return list(product(*values))
    missing = {
        ((a, i), (b, j)): None  # a dict keeps the order
        for a, b in combinations(range(len(values)), 2)
        for i, j in product(range(len(values[a])), range(len(values[b])))
    }
    times = [[0] * len(own) for own in values]
    rows = []
    while missing:
        row = dict(next(iter(missing)))
        for factor in range(len(values)):
            if factor not in row:
                row[factor] = max(
                    range(len(values[factor])),
                    key=lambda i, f=factor: (_completed(row, f, i, missing), -times[f][i]),
                )
        cells = sorted(row.items())
        for factor, i in cells:
            times[factor][i] += 1
        for pair in combinations(cells, 2):
            missing.pop(pair, None)
        rows.append(tuple(values[factor][i] for factor, i in cells))
    return rows


def _completed(row: dict[int, int], factor: int, i: int, missing: dict[Any, None]) -> int:
    """How many missing pairs a row completes with this value."""
    cells = [tuple(sorted([cell, (factor, i)])) for cell in row.items()]
    return sum(pair in missing for pair in cells)


def each_pair(*, indirect: Sequence[str] = (), **factors: Iterable[Any]) -> pytest.MarkDecorator:
    """As a stack of `parametrize`, but with each pair of values instead of each combination."""
    rows = pairwise(*factors.values())
    return pytest.mark.parametrize(tuple(factors), rows, indirect=list(indirect), ids=str)
