"""Folders of very many images open soon, and none is decoded for it."""

import os
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from nifbuild.data import open_data


@pytest.fixture
def many(tmp_path: Path, spec: Any, png: Any) -> Any:
    """The spec of so many files in 20 classes."""

    def write(number: int) -> Any:
        for label in range(20):
            folder = tmp_path / "images" / f"class_{label:02}"
            folder.mkdir(parents=True)
            first = folder / "000000.png"
            first.write_bytes(png(label))
            for at in range(1, number // 20):
                os.link(first, folder / f"{at:06}.png")
        return spec(source="imagefolder", path=tmp_path / "images", in_memory=False, validation=0)

    return write


@pytest.mark.parametrize("number", [20_000, pytest.param(200_000, marks=pytest.mark.slow)])
def test_it_takes_a_tenth_of_a_millisecond_for_each_file(number: int, many: Any) -> None:
    """Of the processor, as others may use it."""
    data = many(number)
    started = time.process_time()
    catalog = open_data(data)
    assert time.process_time() - started < 1e-4 * number
    assert catalog.sizes == {"train": number * 4 // 5, "test": number // 5}
    batch = catalog.load(1, (4, 4)).splits["train"].__getitems__([0, 5])
    assert batch["images"].shape == (2, 1, 4, 4)


@pytest.mark.slow
def test_what_is_held_is_little_more_than_the_paths(many: Any) -> None:
    data = many(20_000)
    open_data(data)  # what is loaded once
    tracemalloc.start()
    catalog = open_data(data)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 100 * sum(catalog.sizes.values())
    assert peak < 1000 * sum(catalog.sizes.values())
