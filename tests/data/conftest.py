"""Tiny images and data sets, made anew for each test; no network, and a cache of its own."""

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
import pytest
from PIL import Image
from pydantic import TypeAdapter

from nifbuild.spec.data import DataSpec

ADAPTER: TypeAdapter[Any] = TypeAdapter(DataSpec)


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for module in (datasets.config, huggingface_hub.constants):
        monkeypatch.setattr(module, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture(autouse=True)
def no_bars() -> Any:
    """The tests' own writing of files shows no bars; that of nifbuild is looked at in a test."""
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


@pytest.fixture
def spec() -> Callable[..., Any]:
    """Makes a spec as a YAML file does: by way of JSON."""
    return lambda **fields: ADAPTER.validate_json(json.dumps(fields, default=str))


def encode(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture
def encoded() -> Callable[..., bytes]:
    return encode


@pytest.fixture
def png() -> Callable[..., bytes]:
    """A PNG of one colour."""

    def make(value: int | tuple[int, ...], size: tuple[int, int] = (4, 4)) -> bytes:
        mode = "L" if isinstance(value, int) else {3: "RGB", 4: "RGBA"}[len(value)]
        return encode(Image.new(mode, size, value))

    return make


@pytest.fixture
def table(png: Callable[..., bytes]) -> Callable[..., datasets.Dataset]:
    """A data set with an Image and a ClassLabel column; row i is gray i."""

    def make(
        labels: Sequence[int],
        names: Sequence[str] = ("cat", "dog"),
        image: str = "img",
        label: str = "label",
        first: int = 0,
    ) -> datasets.Dataset:
        cells = [{"bytes": png((first + i) % 256), "path": None} for i in range(len(labels))]
        features = datasets.Features(
            {image: datasets.Image(), label: datasets.ClassLabel(names=list(names))}
        )
        return datasets.Dataset.from_dict({image: cells, label: list(labels)}, features=features)

    return make


@pytest.fixture
def raw_table(png: Callable[..., bytes]) -> Callable[..., datasets.Dataset]:
    """A data set without feature types: bytes, and labels as they are."""

    def make(labels: Sequence[Any], **more: Sequence[Any]) -> datasets.Dataset:
        images = [png(i % 256) for i in range(len(labels))]
        return datasets.Dataset.from_dict({"image": images, "label": list(labels), **more})

    return make


@pytest.fixture
def parquet(tmp_path: Path, spec: Callable[..., Any]) -> Callable[..., Any]:
    """Writes a Parquet file for each split, and makes the spec that reads them."""

    def make(splits: dict[str, datasets.Dataset], **fields: Any) -> Any:
        files = {}
        for name, rows in splits.items():
            files[name] = tmp_path / f"{name}.parquet"
            rows.to_parquet(files[name])
        return spec(source="parquet", files=files, **fields)

    return make


@pytest.fixture
def folder(tmp_path: Path, png: Callable[..., bytes]) -> Callable[..., Path]:
    """Writes a tree of class folders: {"train/cat": 3} is three images there."""

    def make(tree: dict[str, int], root: str = "images") -> Path:
        for place, number in tree.items():
            at = tmp_path / root / place
            at.mkdir(parents=True, exist_ok=True)
            for i in range(number):
                (at / f"{i:03}.png").write_bytes(png(i))
        return tmp_path / root

    return make
