"""Files that are replaced are read anew, though their times of modification stay."""

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nifbuild.data import open_data

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
