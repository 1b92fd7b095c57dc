import math

import pytest

from nifbuild.report.bench.contenders import LAYER, InputShape
from nifbuild.report.bench.crossover import measure_crossover, smallest_odd
from nifbuild.report.bench.prepared import Activations, Prepared


@pytest.mark.parametrize("limit", [3, 5, 7, 11, 31, 55, 223])
def test_search_finds_every_threshold(limit):
    for threshold in range(3, limit + 4, 2):
        asked = []

        def holds(size, threshold=threshold, asked=asked):
            asked.append(size)
            return size >= threshold

        expected = threshold if threshold <= limit else None
        assert smallest_odd(holds, limit) == expected
        assert len(asked) == len(set(asked)) <= 2 * math.log2(limit)
        assert all(size % 2 == 1 and 3 <= size <= limit for size in asked)


@pytest.mark.parametrize(("size", "limit"), [((6, 4), 5), ((1, 1), 3)])
def test_measured_sizes_stay_within_the_image(setting, size, limit):
    shape = InputShape(1, 2, *size)
    activations = Activations(shape, setting)
    layer = Prepared(LAYER.build(shape), activations, setting)
    heard = []
    found = measure_crossover(layer, shape, activations, "depthwise", setting, heard.append)
    assert found.limit == limit
    assert set(found.ratios) <= {3, 5}
    assert heard[0] == "crossover: depthwise-3"
    for kernel_size, ratio in found.ratios.items():
        is_slower = found.kernel_size is not None and kernel_size >= found.kernel_size
        assert (ratio.median > 1) == is_slower
