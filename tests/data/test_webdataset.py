"""Tar files in which an image and its label follow each other."""

import gzip
import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nifbuild.data import open_data
from nifbuild.errors import RunError, SpecError


@pytest.fixture
def shards(tmp_path: Path, png: Any) -> Any:
    """Two tar files of three images each, of which number i is gray 10 i and of class i mod 2."""

    def write(label: str = "cls", image: str = "png") -> str:
        for shard in range(2):
            with tarfile.open(tmp_path / f"train-{shard}.tar", "w") as tar:
                for at in range(3 * shard, 3 * shard + 3):
                    text = {"cls": str(at % 2), "txt": ("cat", "dog")[at % 2]}[label]
                    for suffix, content in ((image, png(10 * at)), (label, text.encode())):
                        member = tarfile.TarInfo(f"{at:04}.{suffix}")
                        member.size = len(content)
                        tar.addfile(member, io.BytesIO(content))
        return str(tmp_path / "train-*.tar")

    return write


def test_images_and_labels_follow_each_other(shards: Any, spec: Any) -> None:
    catalog = open_data(spec(source="webdataset", files={"train": shards()}, validation=0, test=0))
    assert catalog.class_names == ("0", "1")
    train = catalog.load(1, (4, 4)).splits["train"]
    batch = train.__getitems__(range(6))
    assert batch["images"][:, 0, 0, 0].tolist() == [0, 10, 20, 30, 40, 50]
    assert batch["labels"].tolist() == [0, 1, 0, 1, 0, 1]
    assert "0003.png" in train.name(3)


def test_columns_may_be_named(shards: Any, spec: Any) -> None:
    files = {"train": shards("txt", "jpg")}
    fields = {"source": "webdataset", "files": files, "validation": 0, "test": 0}
    catalog = open_data(spec(label="txt", **fields))
    assert catalog.class_names == ("cat", "dog")
    assert np.array_equal(catalog.sources["train"].labels, [0, 1, 0, 1, 0, 1])
    with pytest.raises(SpecError, match="has no column 'cls'"):
        open_data(spec(label="cls", **fields))


def test_what_is_no_tar_file_is_named(shards: Any, spec: Any, tmp_path: Path) -> None:
    data = spec(source="webdataset", files={"train": shards()}, validation=0, test=0)
    (tmp_path / "train-1.tar").write_bytes(b"no tar file" * 100)
    with pytest.raises(RunError) as caught:
        open_data(data)
    (problem,) = caught.value.problems
    assert problem.what.startswith(f"'{tmp_path / 'train-1.tar'}' cannot be read")
    assert problem.path == "data.files.train"
    folder = spec(source="webdataset", files={"train": tmp_path}, validation=0, test=0)
    with pytest.raises(SpecError) as refused:
        open_data(folder)
    assert refused.value.problems[0].fix == f"name its files, such as '{tmp_path}/*.tar'"


def members(path: Path) -> list[tarfile.TarInfo]:
    with tarfile.open(path) as tar:
        return tar.getmembers()


def test_what_was_cut_off_between_images_is_named(shards: Any, spec: Any, tmp_path: Path) -> None:
    """`tarfile` and `datasets` take it for whole."""
    data = spec(source="webdataset", files={"train": shards()}, validation=0, test=0)
    path = tmp_path / "train-1.tar"
    content, third = path.read_bytes(), members(path)[2].offset
    for end in (third, third + 200):
        path.write_bytes(content[:end])
        assert len(members(path)) == 2
        with pytest.raises(RunError, match=r"train-1.tar' cannot be read: it is cut off"):
            open_data(data)
    path.write_bytes(content)
    assert open_data(data).sizes == {"train": 6}


def test_compressed_files(shards: Any, spec: Any, tmp_path: Path) -> None:
    for path in sorted(tmp_path.glob(shards().rsplit("/", 1)[-1])):
        path.with_suffix(".tar.gz").write_bytes(gzip.compress(path.read_bytes()))
    files = {"train": str(tmp_path / "train-*.tar.gz")}
    assert open_data(spec(source="webdataset", files=files, validation=0, test=0)).sizes == {
        "train": 6
    }
