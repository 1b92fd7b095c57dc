"""What patterns match, against Python's own `glob`; which images lie in a folder."""

import glob
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nifbuild.data import open_data
from nifbuild.data.listing import LeftOut, TooManyFoldersError, image_files, matching_files
from nifbuild.errors import RunError, SpecError


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("a/x.pq", "a/b/y.pq", "a/.h/z.pq", "c/x.txt", "a/b/c/d/e.pq", ".hid/q.pq"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for name in ("t-0.pq", "t-1.pq", "a/[z].pq"):
        (tmp_path / name).touch()
    (tmp_path / "link").symlink_to("c")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "pattern",
    [
        *("*.pq", "**/*.pq", "a/**/*.pq", "a/*/*.pq", "*/x.*", "./t-*.pq", "a/**/y.pq", "a/.*/*"),
        *("t-[01].pq", "a/../a/*.pq", "a/[[]z].pq", "a//x*", "link/*", "**/b/*.pq", "no*/x", "*"),
    ],
)
def test_patterns_match_what_those_of_python_do(pattern: str, tree: Path) -> None:
    assert matching_files(pattern) == sorted({*glob.iglob(pattern, recursive=True)})  # noqa: PTH207
    absolute = f"{tree}/{pattern}"
    names = {os.path.normpath(name) for name in glob.iglob(absolute, recursive=True)}  # noqa: PTH207
    assert {os.path.normpath(name) for name in matching_files(absolute)} == names


def test_links_back_give_no_file_twice(tree: Path) -> None:
    expected = matching_files("a/**/*.pq")
    assert len(expected) == 4
    (tree / "a" / "b" / "up").symlink_to("..")
    (tree / "c" / "over").symlink_to("../a")
    (tree / "a" / "over").symlink_to("../c")
    found = {os.path.realpath(name) for name in matching_files("**/*.pq")}
    assert found == {os.path.realpath(name) for name in [*expected, "t-0.pq", "t-1.pq"]}
    assert matching_files("a/b/**/*.pq") == ["a/b/c/d/e.pq", "a/b/y.pq"]


@pytest.mark.timeout(60)
def test_a_pattern_over_a_whole_disk_ends(spec: Any, tmp_path: Path) -> None:
    wide = tmp_path / "wide"
    for i in range(101):
        for j in range(100):
            (wide / f"{i}" / f"{j}").mkdir(parents=True)
    with pytest.raises(TooManyFoldersError):
        matching_files(f"{wide}/**/*.nope")
    start = time.monotonic()
    with pytest.raises(SpecError) as caught:
        open_data(spec(source="parquet", files={"train": f"{wide}/**/*.nope"}))
    assert time.monotonic() - start < 20
    (problem,) = caught.value.problems
    assert problem.what == f"the pattern '{wide}/**/*.nope' looks through more than 10,000 folders"
    assert (problem.path, problem.code) == ("data.files.train", "too-many-folders")


def test_images_of_a_folder_in_order(folder: Any) -> None:
    root = folder({"x": 2, "x/b": 1, "x/a/deep": 1, "x/a": 1, "y": 1})
    (root / "x" / "c").symlink_to(root / "y")
    left_out = LeftOut()
    names = [os.path.relpath(path, root / "x") for path in image_files(root / "x", left_out).paths]
    assert names == ["000.png", "001.png", "a/000.png", "a/deep/000.png", "b/000.png", "c/000.png"]
    assert left_out.text() == ""


def test_a_class_that_leads_back_is_none(spec: Any, folder: Any) -> None:
    root = folder({"a": 2, "b": 2})
    (root / "all").symlink_to(".")
    (root / "c").symlink_to("b")
    catalog = open_data(spec(source="imagefolder", path=root, validation=0, test=0))
    assert catalog.class_names == ("a", "b", "c")
    assert catalog.sizes == {"train": 6}
    assert catalog.notes == (f"left out: 1 folder beside the class folders, such as '{root}/all'",)


def test_what_is_left_out_is_counted(folder: Any) -> None:
    root = folder({"x": 2, "x/.h": 1, "x/in": 1})
    for name in ("a.heic", "b.HEIC", "in/c.jpg_", "d", "Thumbs.db", ".DS_Store", ".keep"):
        (root / "x" / name).touch()
    (root / "x" / ".d.png").touch()
    (root / "x" / "e.png").mkdir()
    (root / "x" / "in" / "up").symlink_to("..")
    left_out = LeftOut()
    assert len(image_files(root / "x", left_out).paths) == 3
    assert left_out.text() == (
        "left out: 4 files whose suffix is no image's (2 .heic, 1 none, 1 .jpg_), such as "
        f"'{root}/x/a.heic'; 1 hidden file, such as '{root}/x/.d.png'; "
        f"1 hidden folder, such as '{root}/x/.h'; 1 empty folder, such as '{root}/x/e.png'; "
        f"1 link back to a folder that it lies in, such as '{root}/x/in/up'"
    )


@pytest.fixture
def unprivileged(png: Any) -> Iterator[Path]:
    """Class folders of somebody to whom permissions matter."""
    base = Path(tempfile.mkdtemp())
    if os.getuid() == 0:
        os.chown(base, 65534, -1)
        os.seteuid(65534)
    for label in ("a", "b"):
        (base / label).mkdir()
        for i in range(3):
            (base / label / f"{i}.png").write_bytes(png(i))
    yield base
    for place in (base, base / "a"):
        place.chmod(0o700)
    os.seteuid(os.getuid())
    shutil.rmtree(base)


@pytest.mark.parametrize("closed", [".", "a"])
def test_what_cannot_be_listed_is_not_what_is_not_there(
    closed: str, spec: Any, unprivileged: Path
) -> None:
    (unprivileged / closed).chmod(0)
    with pytest.raises(RunError) as caught:
        open_data(spec(source="imagefolder", path=unprivileged, validation=0, test=0))
    (problem,) = caught.value.problems
    assert problem.what == f"'{unprivileged / closed}' cannot be read: Permission denied"
    assert problem.path == "data.path"


def test_an_image_without_permission_is_unreadable(spec: Any, unprivileged: Path) -> None:
    (unprivileged / "a" / "0.png").chmod(0)
    data = spec(source="imagefolder", path=unprivileged, validation=0, test=0)
    with pytest.raises(RunError, match=r"a/0\.png' cannot be read: Permission denied"):
        open_data(data).load(1, (4, 4))
