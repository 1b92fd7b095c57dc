"""Sets of images: in memory and lazy, what cannot be read, statistics, memory, workers."""

import pickle
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

import nifbuild.data.catalog as catalog_module
from nifbuild.data import Batch, open_data
from nifbuild.data.decode import Decoder
from nifbuild.data.images import ImageSet, LazyImages, MemoryImages, channel_statistics, decode_all
from nifbuild.errors import NifbuildError, RunError, SpecError
from nifbuild.machine.processes import available_cores

UNREADABLE_FIX = (
    "replace the image, or leave such images out: `--set data.unreadable=skip`; "
    "where there is no --set, `unreadable: skip` in a file that --data names"
)


def identity(batch: Batch) -> Batch:
    return batch


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Forty noisy JPEGs of different shapes in two class folders."""
    rng = np.random.default_rng(0)
    for i in range(40):
        at = tmp_path / "photographs" / ("cat" if i % 2 else "dog") / f"{i:02}.jpg"
        at.parent.mkdir(parents=True, exist_ok=True)
        shape = (int(rng.integers(8, 90)), int(rng.integers(8, 90)), 3)
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(at, quality=90)
    return tmp_path / "photographs"


def damage(folder: Path, *names: str) -> None:
    for name in names:
        (path,) = folder.rglob(name)
        path.write_bytes(path.read_bytes()[:-30])


def all_of(images: ImageSet) -> Batch:
    return images.__getitems__(range(len(images)))


def same(a: Batch, b: Batch) -> bool:
    return all(torch.equal(a[key], b[key]) for key in ("images", "labels", "index"))


def test_a_batch(spec: Any, photographs: Path) -> None:
    data = open_data(spec(source="imagefolder", path=photographs)).load(3, (8, 10))
    train = data.splits["train"]
    batch = train.__getitems__([5, 0, 5])
    assert batch["images"].shape == (3, 3, 8, 10)
    assert batch["images"].dtype == torch.uint8
    assert batch["labels"].dtype == batch["index"].dtype == torch.int64
    assert batch["index"].tolist() == [5, 0, 5]
    one = train[5]
    assert torch.equal(one["images"], batch["images"][0])
    assert one["labels"] == train.labels[5]
    assert one["index"] == 5
    with pytest.raises(IndexError):
        train.__getitems__([len(train)])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("workers", [0, 2])
def test_lazy_and_memory_are_the_same(
    channels: Any, workers: int, spec: Any, photographs: Path
) -> None:
    memory, lazy = (
        open_data(
            spec(source="imagefolder", path=photographs, in_memory=held, workers=workers)
        ).load(channels, (9, 7), cores=3)
        for held in (True, False)
    )
    assert memory.workers_for(memory.splits["train"]) == 0
    assert lazy.workers_for(lazy.splits["train"]) == workers
    assert torch.equal(memory.mean, lazy.mean)
    assert torch.equal(memory.std, lazy.std)
    for split in ("train", "validation", "test"):
        assert isinstance(memory.splits[split], MemoryImages)
        assert isinstance(lazy.splits[split], LazyImages)
        assert same(all_of(memory.splits[split]), all_of(lazy.splits[split]))


@pytest.mark.parametrize("held", [True, False])
@pytest.mark.parametrize("workers", [0, 2])
def test_loaders_give_whole_batches_whatever_the_workers(
    held: bool, workers: int, spec: Any, photographs: Path
) -> None:
    data = open_data(spec(source="imagefolder", path=photographs, in_memory=held))
    train = data.load(1, (8, 8)).splits["train"]
    loader = DataLoader(
        train,
        batch_size=8,
        shuffle=True,
        generator=torch.Generator().manual_seed(3),
        collate_fn=identity,
        num_workers=min(workers, available_cores()),
    )
    batches = list(loader)
    order = torch.cat([batch["index"] for batch in batches])
    assert sorted(order.tolist()) == list(range(len(train)))
    expected = train.__getitems__(order.tolist())
    joined = {key: torch.cat([b[key] for b in batches]) for key in ("images", "labels", "index")}
    assert same(joined, expected)  # type: ignore[arg-type]


def test_lazy_sets_can_be_pickled(spec: Any, photographs: Path) -> None:
    data = open_data(spec(source="imagefolder", path=photographs, in_memory=False))
    train = data.load(1, (8, 8)).splits["train"]
    assert same(all_of(pickle.loads(pickle.dumps(train))), all_of(train))


@pytest.mark.parametrize("size", [300, 500])
def test_threads_do_not_change_the_result(
    size: int, spec: Any, parquet: Any, table: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nifbuild.data.images.WORTH_THREADS_SECONDS", 0.0)
    catalog = open_data(parquet({"train": table([0, 1] * (size // 2))}, validation=0, test=0))
    source = catalog.sources["train"]
    counts: list[int] = []
    results = [
        decode_all(source, Decoder(1, 4, 4), threads=threads, progress=counts.append)[0]
        for threads in (1, 4)
    ]
    assert torch.equal(*results)  # type: ignore[arg-type]
    assert results[0][:, 0, 0, 0].tolist() == [i % 256 for i in range(size)]  # type: ignore[index]
    assert sum(counts) == 2 * size


def test_progress_counts_to_the_end(spec: Any, photographs: Path) -> None:
    seen: list[tuple[int, int]] = []
    for options in ({"in_memory": True}, {"in_memory": False, "unreadable": "skip"}):
        seen.clear()
        open_data(spec(source="imagefolder", path=photographs, **options)).load(
            1, (4, 4), progress=lambda done, of: seen.append((done, of))
        )
        assert seen[-1] == (40, 40)
        assert seen == sorted(seen)


# Unreadable images ------------------------------------------------------------------------------


@pytest.mark.parametrize("held", [True, False])
def test_unreadable_images_are_skipped_and_listed(held: bool, spec: Any, photographs: Path) -> None:
    damage(photographs, "03.jpg", "10.jpg")
    (photographs / "cat" / "99.png").write_bytes(b"")
    catalog = open_data(
        spec(
            source="imagefolder",
            path=photographs,
            in_memory=held,
            unreadable="skip",
            validation=0,
            test=0,
        )
    )
    assert catalog.sizes == {"train": 41}
    data = catalog.load(3, (8, 8))
    train = data.splits["train"]
    assert len(train) == len(all_of(train)["images"]) == 38
    names = [str(photographs / name) for name in ("cat/03.jpg", "cat/99.png", "dog/10.jpg")]
    assert [(split, name) for split, name, _ in data.unreadable] == [
        ("train", f"'{name}'") for name in names
    ]
    assert "truncated" in data.unreadable[0][2]
    assert data.unreadable[1][2] == "it is empty"
    assert {train.name(i).strip("'") for i in range(38)}.isdisjoint(names)
    assert [int(label) for label in train.labels] == [
        0 if "/cat/" in train.name(i) else 1 for i in range(38)
    ]


def test_what_is_left_out_does_not_move_the_rest(spec: Any, photographs: Path) -> None:
    damage(photographs, "03.jpg", "10.jpg")
    memory, lazy = (
        open_data(
            spec(source="imagefolder", path=photographs, in_memory=held, unreadable="skip")
        ).load(3, (8, 8))
        for held in (True, False)
    )
    assert len(memory.unreadable) == 2
    assert memory.unreadable == lazy.unreadable
    for split in memory.splits:
        assert same(all_of(memory.splits[split]), all_of(lazy.splits[split]))


def test_unreadable_images_are_an_error_in_memory(spec: Any, photographs: Path) -> None:
    damage(photographs, "03.jpg", "10.jpg")
    catalog = open_data(spec(source="imagefolder", path=photographs, validation=0, test=0))
    with pytest.raises(RunError) as caught:
        catalog.load(3, (8, 8))
    first, second = caught.value.problems
    assert first.what.startswith(
        f"the image '{photographs}/cat/03.jpg' cannot be read: image file is truncated"
    )
    assert "10.jpg" in second.what
    assert first.fix == UNREADABLE_FIX


def test_unreadable_images_of_all_splits_are_told_at_once(spec: Any, folder: Any) -> None:
    root = folder({f"{split}/{label}": 3 for split in ("train", "test") for label in "ab"})
    for place in ("train/a", "test/b"):
        (root / place / "001.png").write_bytes(b"no image")
    catalog = open_data(spec(source="imagefolder", path=root, validation=0))
    with pytest.raises(RunError) as caught:
        catalog.load(3, (8, 8))
    first, second = caught.value.problems
    assert f"'{root}/train/a/001.png'" in first.what and f"'{root}/test/b/001.png'" in second.what


def test_many_unreadable_images_are_counted(spec: Any, photographs: Path) -> None:
    damage(photographs, *(f"{i:02}.jpg" for i in range(15)))
    catalog = open_data(spec(source="imagefolder", path=photographs, validation=0, test=0))
    with pytest.raises(RunError) as caught:
        catalog.load(3, (8, 8))
    assert len(caught.value.problems) == 11
    assert caught.value.problems[-1].what == "5 more images of 'train' cannot be read"


@pytest.mark.parametrize("workers", [0, 1])
def test_unreadable_images_are_an_error_when_lazily_read(
    workers: int, spec: Any, photographs: Path
) -> None:
    fixed = {"mean": [0], "std": [1]}
    catalog = open_data(
        spec(
            source="imagefolder",
            path=photographs,
            in_memory=False,
            normalize=fixed,
            validation=0,
            test=0,
        )
    )
    train = catalog.load(3, (8, 8)).splits["train"]
    damage(photographs, "03.jpg")
    with pytest.raises(RunError) as caught:
        list(DataLoader(train, batch_size=8, collate_fn=identity, num_workers=workers))
    (problem,) = caught.value.problems
    assert problem.what.startswith(
        f"the image '{photographs}/cat/03.jpg' cannot be read: image file is truncated"
    )
    assert problem.path == "data.unreadable"
    assert problem.fix == UNREADABLE_FIX


@pytest.mark.parametrize("held", [True, False])
def test_a_split_without_a_readable_image(held: bool, spec: Any, photographs: Path) -> None:
    damage(photographs, *(f"{i:02}.jpg" for i in range(40)))
    catalog = open_data(
        spec(source="imagefolder", path=photographs, unreadable="skip", in_memory=held)
    )
    with pytest.raises(RunError, match=r"none of the 29 images of 'train' can be read"):
        catalog.load(3, (8, 8))


def test_rows_without_paths_are_named_by_number(parquet: Any, raw_table: Any) -> None:
    rows = raw_table(["a", "b"] * 3).to_dict()
    rows["image"][4] = b"broken"
    catalog = open_data(parquet({"train": datasets.Dataset.from_dict(rows)}, validation=0, test=0))
    with pytest.raises(RunError, match=r"the image row 4 of 'train' cannot be read: cannot"):
        catalog.load(1, (4, 4))


def test_bytes_with_a_relative_path_are_named_by_both(parquet: Any, png: Any) -> None:
    features = datasets.Features(image=datasets.Image(), label=datasets.Value("string"))
    cells = [{"bytes": png(1), "path": "a.png"}, {"bytes": b"broken", "path": "b.png"}]
    rows = datasets.Dataset.from_dict({"image": cells, "label": ["x", "y"]}, features=features)
    catalog = open_data(parquet({"train": rows}, validation=0, test=0))
    with pytest.raises(RunError, match=r"the image 'b.png' \(row 1 of 'train'\) cannot be read"):
        catalog.load(1, (4, 4))


# Statistics -------------------------------------------------------------------------------------


def test_statistics_are_those_of_the_training_images(spec: Any, photographs: Path) -> None:
    data = open_data(spec(source="imagefolder", path=photographs)).load(3, (8, 8))
    pixels = all_of(data.splits["train"])["images"].numpy() / 255
    assert np.allclose(data.mean, pixels.mean((0, 2, 3)), atol=1e-6)
    assert np.allclose(data.std, pixels.std((0, 2, 3)), atol=1e-6)


def test_statistics_of_many_images() -> None:
    images = torch.randint(0, 256, (3000, 2, 5, 4), dtype=torch.uint8)
    mean, std = channel_statistics(images)
    assert np.allclose(mean, images.numpy().mean((0, 2, 3)) / 255, atol=1e-6)
    assert np.allclose(std, images.numpy().std((0, 2, 3)) / 255, atol=1e-6)


def test_statistics_of_one_colour_can_be_divided_by() -> None:
    mean, std = channel_statistics(torch.full((10, 1, 4, 4), 51, dtype=torch.uint8))
    assert mean.item() == pytest.approx(0.2)
    assert std.item() == pytest.approx(1 / 255)


def test_statistics_of_a_sample(
    spec: Any, photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog_module, "STATISTICS_IMAGES", 10)
    means = [
        open_data(
            spec(source="imagefolder", path=photographs, in_memory=False, seed=seed)
        ).load(1, (8, 8)).mean
        for seed in (0, 0, 1)
    ]  # fmt: skip
    assert means[0] == means[1] != means[2]
    damage(photographs, *(f"{i:02}.jpg" for i in range(40)))
    catalog = open_data(spec(source="imagefolder", path=photographs, in_memory=False))
    with pytest.raises(RunError, match="cannot be read"):
        catalog.load(1, (8, 8))


@pytest.mark.parametrize(
    ("mean", "std", "channels", "expected"),
    [
        ([0.5], [0.25], 3, ([0.5] * 3, [0.25] * 3)),
        ([0.1, 0.2, 0.3], [0.5], 3, ([0.1, 0.2, 0.3], [0.5] * 3)),
        ([0.1], [0.5], 1, ([0.1], [0.5])),
    ],
)
def test_fixed_statistics(
    mean: list[float], std: list[float], channels: Any, expected: Any, spec: Any
) -> None:
    normalize = {"mean": mean, "std": std}
    data = open_data(spec(source="digits", normalize=normalize)).load(channels, (8, 8))
    assert (data.mean.tolist(), data.std.tolist()) == tuple(map(pytest.approx, expected))


@pytest.mark.parametrize(
    ("mean", "std", "path", "what"),
    [
        ([0, 0], [1], "data.normalize.mean", "2 numbers for 3 channels"),
        ([0], [1, 1], "data.normalize.std", "2 numbers for 3 channels"),
        ([], [1], "data.normalize.mean", "0 numbers for 3 channels"),
    ],
)
def test_statistics_of_another_number_of_channels(
    mean: list[float], std: list[float], path: str, what: str, spec: Any
) -> None:
    catalog = open_data(spec(source="digits", normalize={"mean": mean, "std": std}))
    with pytest.raises(SpecError) as caught:
        catalog.load(3, (8, 8))
    (problem,) = caught.value.problems
    assert (problem.path, problem.what) == (path, what)


# Memory and options -----------------------------------------------------------------------------


def test_auto_holds_what_fits(spec: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = open_data(spec(source="digits"))
    for room, kind in ((1797 * 64, MemoryImages), (1797 * 64 - 1, LazyImages)):
        monkeypatch.setattr(catalog_module, "MEMORY_BYTES", room)
        assert isinstance(catalog.load(1, (8, 8)).splits["test"], kind)


def test_resize_and_interpolation_reach_the_images(spec: Any, photographs: Path) -> None:
    def load(**options: Any) -> bytes:
        data = open_data(spec(source="imagefolder", path=photographs, **options))
        return all_of(data.load(1, (8, 8)).splits["train"])["images"].numpy().tobytes()

    kinds = [{}, {"resize": "stretch"}, {"interpolation": "nearest"}, {"interpolation": "lanczos"}]
    assert len({load(**options) for options in kinds}) == 4


def test_problems_are_for_people(spec: Any, photographs: Path) -> None:
    damage(photographs, "03.jpg")
    catalog = open_data(spec(source="imagefolder", path=photographs, validation=0, test=0))
    with pytest.raises(NifbuildError) as caught:
        catalog.load(3, (8, 8))
    assert caught.value.exit_code == 1
    assert str(caught.value).startswith("data.unreadable: the image '")
