"""Numbers as people read them."""

import pytest

from nifbuild.report.show import units


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (units.count_text(847), "847"),
        (units.count_text(11_689_512), "11.7 M"),
        (units.count_text(-1_819_000_000), "-1.82 G"),
        (units.count_text(999_600), "1.00 M"),
        (units.bytes_text(512), "512 B"),
        (units.bytes_text(5 * 2**28), "1.25 GiB"),
        (units.percent_text(0.97214), "97.21%"),
        (units.percent_text(0.5, 0), "50%"),
        (units.change_text(-0.0312), "-3.1%"),
        (units.points_text(-0.0031), "-0.31pp"),
        (units.speed_text(1234.5), "1,234 img/s"),
        (units.duration_text(11_040), "3 h 04 min"),
        (units.duration_text(245), "4 min 05 s"),
        (units.duration_text(5.06), "5.1 s"),
        (units.shape_text((3, 224, 192)), "3x224x192"),
    ],
)
def test_numbers(text, shown):
    assert text == shown
