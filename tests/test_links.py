"""Links of the pages that people read lead to files that are there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / ".github" / "CONTRIBUTING.md", *ROOT.glob("examples/**/*.md")]
LINK = re.compile(r"\]\(([^)\s]+)\)")


def dead_links(page: Path, text: str) -> list[str]:
    found = []
    for target in LINK.findall(text):
        path, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", path):
            continue  # the network is not asked
        file = page.parent / path if path else page
        if not file.exists() or (anchor and anchor not in anchors(file.read_text())):
            found.append(target)
    return found


def anchors(text: str) -> set[str]:
    """Of headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links(page):
    assert dead_links(page, page.read_text()) == []


def test_this_test_can_fail():
    text = (
        "[a](nothing.md), [b](README.md#no-such-heading), [c](https://x.org)\n## Start\n[d](#start)"
    )
    assert dead_links(ROOT / "README.md", text) == ["nothing.md", "README.md#no-such-heading"]


def test_names_of_files_in_the_table_of_contributing():
    text = (ROOT / ".github" / "CONTRIBUTING.md").read_text()
    names = re.findall(r"`((?:[a-z]+/)+(?:[a-z_]+\.(?:py|yaml))?)`", text)
    assert len(names) > 10
    for name in names:
        assert (ROOT / name).exists() or (ROOT / "nifbuild" / name).exists(), name
