from itertools import combinations, product

import pytest

from tests.coverings import each_pair, pairwise

FACTORS = [
    ("ab", "cd"),
    ("abc", "de", "fghi"),
    ("ab", "cd", "ef", "gh", "ij", "kl"),
    (range(5), range(4), range(4), range(3), range(3)),
    ("a", "bcd", "e", "fg"),
]


@pytest.mark.parametrize("factors", FACTORS, ids=str)
def test_each_pair_of_values_has_a_row(factors):
    rows = pairwise(*factors)
    for a, b in combinations(range(len(factors)), 2):
        assert {(row[a], row[b]) for row in rows} == set(product(factors[a], factors[b]))
    assert all(len(row) == len(factors) for row in rows)
    assert rows == pairwise(*factors)


@pytest.mark.parametrize(
    ("factors", "most"), [(FACTORS[2], 9), (FACTORS[3], 30), ((range(9), range(9), range(3)), 90)]
)
def test_the_table_is_short(factors, most):
    assert len(pairwise(*factors)) <= most


def test_values_need_no_order_and_no_hash():
    rows = pairwise([{}, [1]], [None, {"a": 1}], [(3, 3), "x"])
    assert all(({}, y, z) in rows or ([1], y, z) in rows for _, y, z in rows)
    assert len(rows) == 4


def test_of_one_factor_each_value():
    assert pairwise("abc") == [("a",), ("b",), ("c",)]


def test_marks_name_the_factors():
    mark = each_pair(size=[1, 2], kind="ab").mark
    assert mark.args == (("size", "kind"), [(1, "a"), (1, "b"), (2, "a"), (2, "b")])
