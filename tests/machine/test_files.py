"""Files that are written whole or not at all."""

import os
import resource
from contextlib import contextmanager

import pytest

from nifbuild.machine.files import WRITING, is_full, move_in, staging_folder, write_atomically


@contextmanager
def no_room(size=1000):
    """Files cannot grow beyond so many bytes, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("concurrent", [False, True])
def test_what_does_not_fit_leaves_what_was_there_and_nothing_else(tmp_path, concurrent):
    path = tmp_path / "a.json"
    write_atomically(path, b"before", concurrent=concurrent)
    with no_room(), pytest.raises(OSError, match="too large") as caught:
        write_atomically(path, b"x" * 5000, concurrent=concurrent)
    assert is_full(caught.value)
    assert list(tmp_path.iterdir()) == [path] and path.read_bytes() == b"before"


def test_what_another_process_is_writing_is_let_be(tmp_path):
    others = tmp_path / f"{WRITING}{os.getpid() + 1}_a.json"
    others.write_text("half")
    write_atomically(tmp_path / "a.json", b"whole", concurrent=True)
    assert others.read_text() == "half" and (tmp_path / "a.json").read_bytes() == b"whole"


def test_files_move_in_over_nothing_unless_told_so(tmp_path):
    (tmp_path / "a.txt").write_text("mine")
    with staging_folder(tmp_path) as staged:
        assert staged.name.startswith(WRITING)
        (staged / "a.txt").write_text("new")
        with pytest.raises(FileExistsError):
            move_in(staged.iterdir(), tmp_path, overwrite=False)
        assert (tmp_path / "a.txt").read_text() == "mine"
        move_in(staged.iterdir(), tmp_path, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "new"
