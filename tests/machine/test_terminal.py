"""Tables on narrow terminals: texts give way, numbers never lose a digit."""

import io

import pytest

from nifbuild.machine.terminal import Console
from nifbuild.report.show.tables import framed_table, open_table


def printed(table, width, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    console = Console()
    console.file = io.StringIO()
    console.print(table)
    return console.file.getvalue()


@pytest.mark.parametrize("make", [framed_table, open_table])
def test_numbers_stay_whole_and_names_visible(make, monkeypatch):
    folded = {"folded": (0,)} if make is open_table else {}
    table = make("", ("layer", "grid", "kept mass", "change"), **folded)
    table.add_row("layer1.0.conv1", "32x32", "100.00%", "1,234.56%")
    for width in (120, 80, 45):
        lines = printed(table, width, monkeypatch)
        assert "100.00%" in lines and "1,234.56%" in lines and "32x32" in lines
        assert "layer1" in lines or "layer…" in lines
        assert all(len(line) <= width for line in lines.splitlines())
    assert "layer1.0.conv1" in printed(table, 80, monkeypatch)
