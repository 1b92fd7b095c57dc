import json

import pytest

from nifbuild.report.bench import growth
from nifbuild.report.bench.growth import SIZES, GrowthRequest


def test_all_sizes_have_the_same_number_of_values(setting):
    shapes = GrowthRequest(setting).shapes()
    assert tuple(shapes) == SIZES == (32, 64, 128, 256, 512)
    assert {shape.num_values for shape in shapes.values()} == {32 * 2 * 512 * 512}
    assert [shape.channels for shape in shapes.values()] == [512, 128, 32, 8, 2]
    assert {shape.batch for shape in GrowthRequest(setting, 4).shapes().values()} == {4}


def test_growth_is_over_the_smallest_size_of_the_same_repeat(setting, monkeypatch):
    made_up = {
        "4": {"floor": [0.001, 0.002], "forward_backward": [0.010, 0.030]},
        "8": {"floor": [0.001, 0.002], "forward_backward": [0.015, 0.060]},
    }
    monkeypatch.setattr(growth, "measure_in_turn", lambda *_, **__: made_up)
    report = GrowthRequest(setting, 1, sizes=(4, 8)).measure()
    small, large = report.sizes
    assert small.growth.median == small.n_log_n_growth == 1
    assert large.growth.median == pytest.approx((1.5 + 2) / 2)
    assert large.n_log_n_growth == pytest.approx(3 / 2)  # log 64 / log 16
    assert large.floors.median == pytest.approx((15 + 30) / 2)


def test_document(setting):
    report = GrowthRequest(setting, 1, sizes=(4, 8)).measure()
    document = json.loads(json.dumps(report.document()))
    assert document["report"] == "growth"
    assert [size["size"] for size in document["sizes"]] == [4, 8]
    assert document["environment"]["precision"] == "float32"
    assert document["environment"]["max_repeats"] == 2
