"""Tables of pages as browsers show them: what may be wrapped, moved, and set as prose."""

import re

from nifbuild.report.show.web_page import table

PROSE = "a sentence that no column of figures has room for"


def cells(text, tag="td"):
    """Class and content of each cell, row by row."""
    rows = re.findall(r"<tr>(.*?)</tr>", text, re.DOTALL)
    found = [re.findall(rf'<{tag}(?: class="(\w+)")?>(.*?)</{tag}>', row) for row in rows]
    return [row for row in found if row]


def test_a_column_with_prose_is_set_as_such_with_its_heading():
    text = table(["name", "figure", "found"], [["a" * 40, "2 min 01 s", PROSE], ["b", "1", "-"]])
    assert cells(text, "th") == [[("", "name"), ("", "figure"), ("prose", "found")]]
    assert cells(text) == [
        [("", "a" * 40), ("", "2 min 01 s"), ("prose", PROSE)],
        [("", "b"), ("", "1"), ("prose", "-")],
    ]


def test_a_long_heading_does_not_make_figures_prose():
    text = table(["trial", "train.optimizer.weight_decay"], [["1", "0.01"]])
    assert cells(text, "th")[0] == [("", "trial"), ("named", "train.optimizer.weight_decay")]
    assert cells(text)[0][1] == ("named", "0.01")


def test_a_caption_is_outside_of_what_is_scrolled():
    text = table(["name"], [["a"]], "What <this> is.")
    caption, rest = text.split('<div class="wide">')
    assert "What &lt;this&gt; is." in caption and "<table>" in rest
    assert table(["name"], [["a"]]).startswith('<div class="wide">')


def test_groups_stand_above_their_columns():
    text = table(["layer", "50%", "90%"], [["a", "3", "5"]], groups=[("", 1), ("trained", 2)])
    above, _ = text.split("</tr>", 1)
    assert re.findall(r'<th colspan="(\d)">(.*?)</th>', above) == [("1", ""), ("2", "trained")]


def test_no_rows():
    assert cells(table(["name", "figure"], []), "th") == [[("", "name"), ("", "figure")]]
