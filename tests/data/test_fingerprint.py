import os
import shutil
from pathlib import Path
from typing import Any

import pytest

import nifbuild.data.fingerprint as module
from nifbuild.data import open_data


def fingerprint(data: Any) -> str:
    return open_data(data).fingerprint


def test_it_is_stable_and_short(spec: Any) -> None:
    digits = spec(source="digits")
    assert fingerprint(digits) == fingerprint(digits)
    assert len(fingerprint(digits)) == 32


def test_digits_are_the_same_everywhere(spec: Any) -> None:
    assert fingerprint(spec(source="digits")) == "fe1fa63fe0a79e3ada388bf790371b61"


def test_it_is_of_the_data_not_of_what_is_done_with_it(spec: Any) -> None:
    same = [
        spec(source="digits", **options)
        for options in ({}, {"seed": 3}, {"limit": {"train": 5}}, {"validation": 0, "test": 0.5})
    ]
    assert len({fingerprint(data) for data in same}) == 1


def test_any_change_of_the_data_changes_it(parquet: Any, table: Any) -> None:
    kinds = [
        {"train": table([0, 1, 0, 1])},
        {"train": table([0, 1, 1, 1])},
        {"train": table([0, 1, 0])},
        {"train": table([0, 1, 0, 1], first=1)},
        {"train": table([0, 1, 0, 1], names=("cat", "emu"))},
        {"train": table([0, 1, 0, 1]), "test": table([0])},
        {"train": table([0, 1, 0, 1]), "test": table([0], first=1)},
    ]
    seen = {fingerprint(parquet(splits, validation=0, test=0)) for splits in kinds}
    assert len(seen) == len(kinds)


def test_column_names_do_not_matter(parquet: Any, table: Any) -> None:
    fields = {"validation": 0, "test": 0}
    one = fingerprint(parquet({"train": table([0, 1])}, **fields))
    assert fingerprint(parquet({"train": table([0, 1], image="image")}, **fields)) == one


def test_a_moved_folder_is_the_same_and_one_changed_pixel_is_not(
    spec: Any, folder: Any, png: Any, tmp_path: Path
) -> None:
    root = folder({"a": 5, "b": 5})
    data = {"source": "imagefolder", "validation": 0, "test": 0}
    before = fingerprint(spec(path=root, **data))
    shutil.move(root, tmp_path / "elsewhere")
    root = tmp_path / "elsewhere"
    assert fingerprint(spec(path=root, **data)) == before
    (root / "b" / "003.png").write_bytes(png(99))
    assert fingerprint(spec(path=root, **data)) != before


def test_of_large_data_a_share_is_read(
    parquet: Any, table: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    content = module.content_of
    monkeypatch.setattr(module, "content_of", lambda cell: read.append(1) or content(cell))
    data = parquet({"train": table([0, 1] * 500)}, validation=0, test=0)
    whole = fingerprint(data)
    assert len(read) == 64 + 1000
    read.clear()
    monkeypatch.setattr(module, "WHOLE_BYTES", 7000)  # a tenth of the thousand PNGs
    assert fingerprint(data) != whole
    assert 64 + 80 < len(read) < 64 + 125


def test_of_a_large_split_every_size_counts(spec: Any, folder: Any) -> None:
    """Of 280 MiB, every second image is read; a hole in a file takes no room on a disk."""
    root = folder({"a": 0, "b": 0})
    images = [root / label / f"{i:02}.png" for label in "ab" for i in range(14)]
    for image in images:
        image.touch()
        os.truncate(image, 10 * 2**20)
    data = spec(source="imagefolder", path=root, validation=0, test=0)
    before = fingerprint(data)
    os.truncate(images[-1], 10 * 2**20 + 1)  # one that is not read
    assert fingerprint(data) != before
