"""Files of reports: whole or not at all, and over nothing that would be missed."""

import os
import resource
from contextlib import contextmanager
from pathlib import Path

import pytest

from nifbuild.errors import RunError, SpecError
from nifbuild.machine import MAKER
from nifbuild.report.output_file import (
    file_problem,
    require_files,
    require_folder,
    written_file,
    written_folder,
)

NAMES = r"page\.html|plot_\d\.png"


@contextmanager
def no_room(size: int = 1000):
    """Files cannot grow beyond so many bytes, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def content(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}


def write(path: Path, text: str, *, overwrite: bool = False) -> None:
    with written_file("--csv", path, overwrite=overwrite) as aside:
        aside.write_text(text)


@pytest.mark.parametrize(
    ("name", "overwrite", "words"),
    [
        ("there.csv", False, "there.csv exists"),
        ("there.csv", True, None),
        ("link.csv", False, "link.csv exists"),
        ("nowhere.csv", False, "nowhere.csv exists"),
        ("folder.csv", True, "it is a directory"),
        ("pipe.csv", True, "it is no ordinary file"),
        ("no/such.csv", True, "there is no folder"),
        ("there.csv/new.csv", True, "cannot write to"),
        (f"{'x' * 251}.csv", False, None),  # the longest name that a file can have
        (f"{'x' * 252}.csv", False, "File name too long"),
        ("new.txt", False, "names no known format"),
        ("new.csv", False, None),
    ],
)
def test_what_keeps_a_file_from_being_written_is_known_before(tmp_path, name, overwrite, words):
    (tmp_path / "there.csv").write_text("mine")
    (tmp_path / "link.csv").symlink_to("there.csv")
    (tmp_path / "nowhere.csv").symlink_to("gone/away.csv")
    (tmp_path / "folder.csv").mkdir()
    os.mkfifo(tmp_path / "pipe.csv")
    before = sorted(tmp_path.iterdir())
    found = file_problem("--csv", tmp_path / name, (".csv",), overwrite=overwrite)
    assert (found is None) if words is None else (words in str(found))
    assert sorted(tmp_path.iterdir()) == before  # the trial leaves nothing
    assert (tmp_path / "there.csv").read_text() == "mine"
    if words is None:
        write(tmp_path / name, "new", overwrite=overwrite)
        assert (tmp_path / name).read_text() == "new"


def test_a_file_named_twice_is_refused(tmp_path):
    for other in ("a.csv", "A.csv", "./a.csv"):
        with pytest.raises(SpecError, match="is named twice"):
            require_files("--confusion", [tmp_path / "a.csv", tmp_path / other], overwrite=True)


def test_a_link_is_replaced_and_not_followed(tmp_path):
    (tmp_path / "far.csv").write_text("mine")
    (tmp_path / "link.csv").symlink_to("far.csv")
    write(tmp_path / "link.csv", "new", overwrite=True)
    assert content(tmp_path) == {"far.csv": "mine", "link.csv": "new"}
    assert not (tmp_path / "link.csv").is_symlink()


def test_what_fails_half_way_leaves_what_was_there(tmp_path):
    (tmp_path / "a.csv").write_text("before")
    with no_room(), pytest.raises(RunError, match="File too large") as caught:
        write(tmp_path / "a.csv", "x" * 5000, overwrite=True)
    assert "make room" in str(caught.value)
    with (
        pytest.raises(KeyboardInterrupt),
        written_file("", tmp_path / "b.csv", overwrite=True) as b,
    ):
        b.write_text("half")
        raise KeyboardInterrupt
    assert content(tmp_path) == {"a.csv": "before"}


def test_of_two_writers_neither_loses_its_file(tmp_path):
    with (
        pytest.raises(RunError, match="exists"),
        written_file("--csv", tmp_path / "a.csv", overwrite=False) as aside,
    ):
        aside.write_text("second")
        write(tmp_path / "a.csv", "first")
    assert content(tmp_path) == {"a.csv": "first"}


def write_report(folder: Path, plots: int, *, overwrite: bool, text: str = "x") -> None:
    require_folder("--out", folder, NAMES, overwrite=overwrite)
    with written_folder("--out", folder, NAMES, overwrite=overwrite) as aside:
        (aside / "page.html").write_text(f"<meta {MAKER}>{text}")
        for number in range(plots):
            (aside / f"plot_{number}.png").write_text(f"{'-' * 9000}{MAKER}")


def test_in_a_folder_only_own_files_are_replaced(tmp_path):
    out = tmp_path / "deep" / "out"
    write_report(out, 3, overwrite=False)
    (out / "plot_holiday.png").write_text("mine")
    before = content(out)
    with pytest.raises(SpecError, match=r"exists\n.*--overwrite"):
        write_report(out, 1, overwrite=False, text="new")
    assert content(out) == before
    write_report(out, 1, overwrite=True, text="new")
    assert set(content(out)) == {"page.html", "plot_0.png", "plot_holiday.png"}
    assert content(out)["page.html"].endswith("new")
    assert content(out)["plot_holiday.png"] == "mine"


@pytest.mark.parametrize("name", ["page.html", "Page.HTML", "plot_7.png"])
@pytest.mark.parametrize("is_link", [False, True])
def test_in_a_folder_what_others_wrote_is_never_replaced(tmp_path, name, is_link):
    out = tmp_path / "out"
    out.mkdir()
    if is_link:  # to a file of nifbuild's, even
        (tmp_path / "far").write_text(MAKER)
        (out / name).symlink_to(tmp_path / "far")
    else:
        (out / name).write_text("mine")
    before = content(tmp_path)
    for overwrite in (False, True):
        with pytest.raises(SpecError, match=f"{name} in .* was not made by nifbuild"):
            write_report(out, 1, overwrite=overwrite)
    assert content(tmp_path) == before
    # Nor where it appeared after the check.
    with (
        pytest.raises(RunError, match="was not made by nifbuild"),
        written_folder("--out", out, NAMES, overwrite=True) as aside,
    ):
        (aside / "page.html").write_text(MAKER)
    assert content(tmp_path) == before


def test_a_folder_is_written_whole_or_not_at_all(tmp_path):
    with no_room(), pytest.raises(RunError, match="make room"):
        write_report(tmp_path / "a" / "b", 1, overwrite=False)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "x"):
        with pytest.raises(SpecError, match="a file is in the way"):
            write_report(out, 1, overwrite=True)
    assert content(tmp_path) == {"file": "mine"}
