"""Each kind of source, opened and read."""

from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from nifbuild.data import open_data


def grays(data: Any, split: str) -> list[int]:
    """The values of a split's one-colour images."""
    images = data.splits[split].__getitems__(range(len(data.splits[split])))["images"]
    return images[:, 0, 0, 0].tolist()


def test_digits(spec: Any) -> None:
    catalog = open_data(spec(source="digits"))
    assert catalog.class_names == tuple("0123456789")
    assert catalog.num_classes == 10
    assert catalog.sizes == {"train": 1294, "validation": 144, "test": 359}
    data = catalog.load(1, (8, 8))
    truth = load_digits()
    seen = np.concatenate([s.source.rows for s in data.splits.values()])
    assert sorted(seen) == list(range(1797))
    for images in data.splits.values():
        batch = images.__getitems__(range(len(images)))
        rows = images.source.rows
        assert np.array_equal(batch["labels"], truth.target[rows])
        assert np.array_equal(
            batch["images"][:, 0], np.rint(truth.images[rows] * 255 / 16).astype(np.uint8)
        )


def test_digits_are_resized_to_the_input(spec: Any) -> None:
    catalog = open_data(spec(source="digits"))
    small, large = catalog.load(1, (8, 8)), catalog.load(3, (16, 24))
    pixels = small.splits["test"][5]["images"][0].numpy()
    expected = np.asarray(Image.fromarray(pixels).resize((24, 16), Image.Resampling.BILINEAR,
                                                         box=(0, 8 / 6, 8, 40 / 6)))  # fmt: skip
    result = large.splits["test"][5]["images"]
    assert result.shape == (3, 16, 24)
    assert all(np.array_equal(channel, expected) for channel in result)


def test_no_split_where_shares_are_zero(spec: Any) -> None:
    assert open_data(spec(source="digits", validation=0, test=0)).sizes == {"train": 1797}


def test_seed_and_limit_of_digits(spec: Any) -> None:
    limits = {"train": 100, "validation": 50, "test": 20}
    first, again, other = (
        open_data(spec(source="digits", limit=limits, seed=seed)) for seed in (0, 0, 1)
    )
    assert first.sizes == limits
    rows = [catalog.sources["train"].rows.tolist() for catalog in (first, again, other)]
    assert rows[0] == rows[1] != rows[2]


def test_parquet(parquet: Any, table: Any) -> None:
    catalog = open_data(
        parquet({"train": table([0, 1] * 10), "test": table([1, 0], first=100)}, validation=0.2)
    )
    assert catalog.class_names == ("cat", "dog")
    assert catalog.sizes == {"train": 16, "validation": 4, "test": 2}
    data = catalog.load(3, (4, 4))
    assert grays(data, "test") == [100, 101]
    assert data.splits["test"].labels.tolist() == [1, 0]
    train, validation = grays(data, "train"), grays(data, "validation")
    assert sorted(train + validation) == list(range(20))
    for split, values in (("train", train), ("validation", validation)):
        assert data.splits[split].labels.tolist() == [value % 2 for value in values]
    assert data.splits["validation"].labels.tolist().count(0) == 2


def test_patterns_and_lists_of_files(spec: Any, table: Any, tmp_path: Path) -> None:
    for part in range(3):
        table([0, 1], first=2 * part).to_parquet(tmp_path / f"train-{part}.parquet")
    pattern = str(tmp_path / "train-*.parquet")
    listed = [str(tmp_path / f"train-{part}.parquet") for part in range(3)]
    for files in (pattern, listed, [listed[0], str(tmp_path / "train-[12].parquet")]):
        data = open_data(spec(source="parquet", files={"train": files}, validation=0, test=0)).load(
            1, (4, 4)
        )
        assert grays(data, "train") == [0, 1, 2, 3, 4, 5]


def test_a_file_in_two_splits_is_told(spec: Any, table: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table([0, 1] * 10).to_parquet(path)
    (tmp_path / "b.parquet").symlink_to(path)
    for test, told in (
        (path, True),
        (tmp_path / "b.parquet", True),
        (tmp_path / "c.parquet", False),
    ):
        if not test.exists():
            table([0, 1]).to_parquet(test)
        files = {"train": str(path), "test": str(test)}
        (*notes,) = open_data(spec(source="parquet", files=files)).notes
        what = f"'{test}' is in split 'train' and in split 'test'"
        assert [note.startswith(what) for note in notes] == [True] * told


def test_bytes_and_strings_without_feature_types(parquet: Any, raw_table: Any) -> None:
    rows = raw_table(["dog", "cat", "emu"] * 4)
    catalog = open_data(parquet({"train": rows}, validation=0, test=0))
    assert catalog.class_names == ("cat", "dog", "emu")
    data = catalog.load(1, (4, 4))
    assert data.splits["train"].labels.tolist() == [1, 0, 2] * 4
    assert grays(data, "train") == list(range(12))


@pytest.mark.parametrize(
    ("labels", "names", "numbers"),
    [
        ([0, 1, 2, 0, 1, 2], ("0", "1", "2"), [0, 1, 2, 0, 1, 2]),
        ([7, 3, 7, 3], ("3", "7"), [1, 0, 1, 0]),
        ([True, False, True, False], ("0", "1"), [1, 0, 1, 0]),
    ],
)
def test_numbers_as_labels(
    labels: list[int], names: tuple[str, ...], numbers: list[int], parquet: Any, raw_table: Any
) -> None:
    catalog = open_data(parquet({"train": raw_table(labels)}, validation=0, test=0))
    assert catalog.class_names == names
    assert catalog.sources["train"].labels.tolist() == numbers


def test_paths_as_images(parquet: Any, folder: Any) -> None:
    root = folder({"x": 3})
    rows = datasets.Dataset.from_dict(
        {"image": [str(path) for path in sorted(root.rglob("*.png"))], "label": ["a", "b", "a"]}
    )
    data = open_data(parquet({"train": rows}, validation=0, test=0)).load(1, (4, 4))
    assert grays(data, "train") == [0, 1, 2]


def with_images(rows: datasets.Dataset, column: str, png: Any) -> datasets.Dataset:
    cells = [{"bytes": png(200), "path": None}] * len(rows)
    return rows.add_column(column, cells).cast_column(column, datasets.Image())


def test_named_columns(parquet: Any, table: Any, png: Any) -> None:
    rows = table([0, 1, 0], image="left", label="kind")
    rows = with_images(rows, "right", png)
    rows = rows.add_column("label", ["x", "y", "y"])
    fields = {"validation": 0, "test": 0, "image": "right"}
    catalog = open_data(parquet({"train": rows}, **fields))
    assert catalog.class_names == ("cat", "dog")
    assert grays(catalog.load(1, (4, 4)), "train") == [200] * 3
    assert open_data(parquet({"train": rows}, label="label", **fields)).class_names == ("x", "y")


def test_columns_of_usual_names_among_several_of_a_type(parquet: Any, table: Any, png: Any) -> None:
    rows = table([0, 1, 0])
    rows = with_images(rows, "mask", png)
    names = datasets.ClassLabel(names=["a", "b", "c"])
    rows = rows.add_column("coarse", [0, 1, 2]).cast_column("coarse", names)
    assert open_data(parquet({"train": rows}, validation=0, test=0)).num_classes == 2


def test_saved_to_disk(spec: Any, table: Any, tmp_path: Path) -> None:
    both = datasets.DatasetDict(train=table([0, 1] * 5), test=table([1, 0], first=50))
    both.save_to_disk(str(tmp_path / "saved"))
    files = {name: tmp_path / "saved" / name for name in both}
    data = open_data(spec(source="arrow", files=files, validation=0)).load(1, (4, 4))
    assert grays(data, "train") == list(range(10))
    assert grays(data, "test") == [50, 51]


@pytest.mark.parametrize("layout", ["stream", "file"])
def test_arrow_files(layout: str, spec: Any, table: Any, tmp_path: Path) -> None:
    content: pa.Table = table([0, 1, 1]).data.table
    writer = pa.ipc.new_stream if layout == "stream" else pa.ipc.new_file
    with writer(tmp_path / "rows.arrow", content.schema) as sink:
        sink.write_table(content)
    catalog = open_data(
        spec(source="arrow", files={"train": tmp_path / "rows.arrow"}, validation=0, test=0)
    )
    assert catalog.class_names == ("cat", "dog")
    assert grays(catalog.load(1, (4, 4)), "train") == [0, 1, 2]


def test_folder_of_splits(spec: Any, folder: Any) -> None:
    root = folder({"train/cat": 3, "train/dog": 2, "val/cat": 1, "notes/x": 1})
    (root / "train" / "cat" / "notes.txt").write_text("no image")
    (root / "train" / ".hidden").mkdir()
    catalog = open_data(spec(source="imagefolder", path=root, validation=0))
    assert catalog.class_names == ("cat", "dog")
    assert catalog.sizes == {"train": 5, "test": 1}
    data = catalog.load(1, (4, 4))
    assert grays(data, "train") == [0, 1, 2, 0, 1]
    assert data.splits["train"].labels.tolist() == [0, 0, 0, 1, 1]
    assert data.splits["train"].name(3) == f"'{root / 'train' / 'dog' / '000.png'}'"


def test_folder_with_three_splits_and_other_names(spec: Any, folder: Any) -> None:
    tree = {"train/a": 2, "train/b": 2, "valid/a": 1, "test/b": 1, "odd/a": 2, "odd/b": 1}
    root = folder(tree)
    assert open_data(spec(source="imagefolder", path=root)).sizes == {
        "train": 4,
        "validation": 1,
        "test": 1,
    }
    named = spec(source="imagefolder", path=root, splits={"train": "odd"}, validation=0)
    assert open_data(named).sizes == {"train": 3, "validation": 1, "test": 1}


def test_folder_of_classes(spec: Any, folder: Any) -> None:
    root = folder({"b": 10, "a/deep/er": 5, "a": 5, "c": 10})
    catalog = open_data(spec(source="imagefolder", path=root, test=0.2, validation=0.25))
    assert catalog.class_names == ("a", "b", "c")
    assert catalog.sizes == {"train": 18, "validation": 6, "test": 6}
    for split, each in (("train", 6), ("validation", 2), ("test", 2)):
        assert np.bincount(catalog.sources[split].labels).tolist() == [each] * 3


def test_a_class_called_train_is_a_class(spec: Any, folder: Any) -> None:
    root = folder({"train": 10, "bus": 10})
    assert open_data(spec(source="imagefolder", path=root)).class_names == ("bus", "train")


def test_relative_paths(
    spec: Any, folder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder({"a": 10, "b": 10})
    monkeypatch.chdir(tmp_path)
    catalog = open_data(spec(source="imagefolder", path="images", validation=0))
    assert len(catalog.load(1, (4, 4)).splits["train"]) == 16


def test_hub_layout(spec: Any, table: Any, tmp_path: Path) -> None:
    (tmp_path / "repo" / "data").mkdir(parents=True)
    table([0, 1] * 5).to_parquet(tmp_path / "repo" / "data" / "train-00000-of-00001.parquet")
    table([1, 0], first=50).to_parquet(tmp_path / "repo" / "data" / "test-00000-of-00001.parquet")
    (tmp_path / "repo" / "README.md").write_text("---\nlicense: mit\n---\n# A data set\n")
    catalog = open_data(spec(source="hub", id=tmp_path / "repo", revision="main", validation=0))
    assert catalog.class_names == ("cat", "dog")
    data = catalog.load(1, (4, 4))
    assert grays(data, "train") == list(range(10))
    assert grays(data, "test") == [50, 51]


def test_hub_configurations(spec: Any, table: Any, tmp_path: Path) -> None:
    readme = ["---", "configs:"]
    for name, first in (("one", 10), ("two", 20)):
        (tmp_path / "repo" / name).mkdir(parents=True)
        table([0, 1], first=first).to_parquet(tmp_path / "repo" / name / "rows.parquet")
        readme += [f"- config_name: {name}", f"  data_files: {name}/rows.parquet"]
    (tmp_path / "repo" / "README.md").write_text("\n".join([*readme, "---", ""]))
    data = open_data(
        spec(
            source="hub",
            id=tmp_path / "repo",
            revision="main",
            config="two",
            validation=0,
            test=0,
        )
    ).load(1, (4, 4))
    assert grays(data, "train") == [20, 21]


def test_nothing_is_printed(parquet: Any, table: Any, capfd: pytest.CaptureFixture[str]) -> None:
    made = parquet({"train": table([0, 1] * 10)})
    datasets.enable_progress_bars()
    level = datasets.logging.get_verbosity()
    open_data(made).load(1, (4, 4))
    assert capfd.readouterr() == ("", "")
    assert not datasets.are_progress_bars_disabled()
    assert datasets.logging.get_verbosity() == level
