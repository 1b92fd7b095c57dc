"""Files that stay people's own once they have changed them."""

import hashlib

import pytest

from nifbuild.machine.sealed_text import is_sealed, sealed


@pytest.fixture
def page(tmp_path):
    path = tmp_path / "README.md"
    path.write_bytes(sealed("# a model\n\nsome text ü"))
    return path


def test_what_was_written_is_known_again(page):
    assert is_sealed(page)
    *lines, last = page.read_text().splitlines()
    assert lines == ["# a model", "", "some text ü"]
    digest = hashlib.sha256("# a model\n\nsome text ü\n".encode()).hexdigest()
    assert last.startswith("<!-- made by nifbuild ") and digest in last


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("some", "more"),
        lambda text: f"{text}my own line\n",
        lambda text: f"my own line\n{text}",
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.splitlines(keepends=True)[0],
        lambda text: text.rstrip("\n"),
        lambda text: "",
    ],
)
def test_what_was_changed_is_not(page, change):
    page.write_text(change(page.read_text()), newline="")
    assert not is_sealed(page)


def test_what_is_no_file_is_not(page, tmp_path):
    (tmp_path / "link").symlink_to(page)
    assert not is_sealed(tmp_path / "link")
    assert not is_sealed(tmp_path)
    assert not is_sealed(tmp_path / "absent")
