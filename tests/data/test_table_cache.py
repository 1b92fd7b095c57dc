"""Files that are replaced are read anew, though their times of modification stay."""

import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nifbuild.data import open_data
from nifbuild.errors import RunError

TIME = (10**9, 10**9)


def write(path: Path, png: Any, names: tuple[str, str], layout: str) -> None:
    rows = pa.table({"image": [png(9)] * 10, "label": [names[i % 2] for i in range(10)]})
    if layout == "arrow":
        with pa.ipc.new_stream(path, rows.schema) as sink:
            sink.write_table(rows)
    else:
        pq.write_table(rows, path)
    os.utime(path, TIME)


@pytest.mark.parametrize("way", ["in place", "moved"])
@pytest.mark.parametrize("source", ["parquet", "arrow", "hub"])
def test_a_replaced_file_is_read_anew(
    source: str, way: str, spec: Any, png: Any, tmp_path: Path
) -> None:
    (tmp_path / "repo").mkdir()
    path = tmp_path / "repo" / "train.parquet"
    named = {"files": {"train": path}}
    if source == "hub":
        named = {"id": tmp_path / "repo", "revision": "main"}
    data = spec(source=source, validation=0, test=0, **named)
    write(path, png, ("cat", "dog"), source)
    before = open_data(data)
    assert before.class_names == ("cat", "dog")
    size = path.stat().st_size
    if way == "moved":
        write(tmp_path / "other", png, ("fox", "owl"), source)
        (tmp_path / "other").replace(path)
    else:
        write(path, png, ("fox", "owl"), source)
    os.utime(tmp_path / "repo", TIME)
    assert path.stat().st_size == size
    after = open_data(data)
    assert after.class_names == ("fox", "owl")
    assert after.fingerprint != before.fingerprint


def test_the_same_file_is_read_from_the_cache(spec: Any, png: Any, tmp_path: Path) -> None:
    path = tmp_path / "train.parquet"
    write(path, png, ("cat", "dog"), "parquet")
    data = spec(source="parquet", files={"train": path}, validation=0, test=0)
    open_data(data)
    cached = {file: file.stat().st_mtime_ns for file in (tmp_path / "cache").rglob("*.arrow")}
    assert len(cached) == 1
    open_data(data)
    now = {file: file.stat().st_mtime_ns for file in (tmp_path / "cache").rglob("*.arrow")}
    assert now == cached


@pytest.fixture
def large(spec: Any, tmp_path: Path) -> Any:
    """A Parquet file of some KB with 80 MB of rows, and a spec of it."""
    contents = [i.to_bytes(4, "big") + bytes(200_000) for i in range(400)]
    rows = pa.table({"image": contents, "label": [i % 2 for i in range(400)]})
    pq.write_table(rows, tmp_path / "train.parquet", compression="zstd")
    assert (tmp_path / "train.parquet").stat().st_size < 10**6
    files = {"train": tmp_path / "train.parquet"}
    return spec(source="parquet", files=files, validation=0, test=0)


def test_a_copy_is_told_of_before_it_is_made(large: Any, tmp_path: Path) -> None:
    heard = []

    def hear(text: str) -> None:
        heard.append(text)
        assert not list((tmp_path / "cache").rglob("*.arrow"))

    open_data(large, hear)
    (text,) = heard
    assert text.startswith(f"data.files.train: copying 0.08 GB to {tmp_path}/cache/files-")
    open_data(large, hear)  # it is there now
    assert len(heard) == 1
    (copy,) = (tmp_path / "cache").rglob("*.arrow")
    assert copy.stat().st_size == pytest.approx(80e6, rel=0.01)


def test_a_disk_without_room_for_the_copy_is_one_error(
    large: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = SimpleNamespace(free=10**7)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(RunError) as caught:
        open_data(large)
    (problem,) = caught.value.problems
    assert problem.what == (
        f"there is no room for a copy of the rows in {tmp_path}/cache: they take 0.08 GB, and 0.01 "
        "GB are free"
    )
    assert problem.path == "data.files.train" and "HF_DATASETS_CACHE=DIR" in problem.fix
    assert not list((tmp_path / "cache").rglob("*.arrow"))
