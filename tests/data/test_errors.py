"""What is wrong with a spec or with data is said once, with the place and what to do."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest

from nifbuild.data import open_data
from nifbuild.data.columns import read_labels
from nifbuild.errors import NifbuildError, Problem, RunError, SpecError


def problem_of(data: Any, kind: type[NifbuildError]) -> Problem:
    with pytest.raises(kind) as caught:
        open_data(data)
    assert type(caught.value) is kind
    (problem,) = caught.value.problems
    return problem


# Columns ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "path", "what", "fix"),
    [
        (
            {"image": "imgs"},
            "data.image",
            "split 'train' has no column 'imgs'",
            "did you mean 'img'?\nits columns are 'img' (PIL.Image.Image), 'label' (int64)",
        ),
        (
            {"label": "breed"},
            "data.label",
            "split 'train' has no column 'breed'",
            "its columns are 'img' (PIL.Image.Image), 'label' (int64)",
        ),
        (
            {"image": "label"},
            "data.image",
            "the column 'label' holds int64, not images (an Image feature, bytes, or paths)",
            "name it: `image: ...`\nits columns are",
        ),
        (
            {"label": "img"},
            "data.label",
            "the column 'img' holds PIL.Image.Image, not class labels (integers or strings)",
            "name it: `label: ...`\nits columns are",
        ),
        (
            {"num_classes": 10},
            "data.num_classes",
            "the data has 2 classes (cat, dog), not 10",
            "write `num_classes: 2`, or leave it out",
        ),
    ],
)
def test_wrong_names(
    fields: dict[str, Any], path: str, what: str, fix: str, spec: Any, parquet: Any, table: Any
) -> None:
    files = parquet({"train": table([0, 1] * 10)}).files
    problem = problem_of(spec(source="parquet", files=files, **fields), SpecError)
    assert (problem.path, problem.what) == (path, what)
    assert problem.fix.startswith(fix)


@pytest.mark.parametrize(
    ("columns", "path", "what"),
    [
        (
            {"left": "image", "right": "image", "label": "classes"},
            "data.image",
            "the columns 'left' and 'right' may each hold the images",
        ),
        (
            {"image": "image", "fine": "classes", "coarse": "classes"},
            "data.label",
            "the columns 'fine' and 'coarse' may each hold the labels",
        ),
        (
            {"image": "image", "label": "number", "class": "number"},
            "data.label",
            "the columns 'label' and 'class' may each hold the labels",
        ),
        (
            {"image": "image", "age": "number"},
            "data.label",
            "no column of split 'train' is known to hold labels",
        ),
        (
            {"age": "number", "label": "number"},
            "data.image",
            "no column of split 'train' is known to hold images",
        ),
    ],
)
def test_columns_that_cannot_be_found(
    columns: dict[str, str], path: str, what: str, parquet: Any, png: Any
) -> None:
    kinds = {
        "image": datasets.Image(),
        "classes": datasets.ClassLabel(names=["a", "b"]),
        "number": datasets.Value("int64"),
    }
    features = datasets.Features({name: kinds[kind] for name, kind in columns.items()})
    rows = datasets.Dataset.from_dict(
        {
            name: [{"bytes": png(i), "path": None} if kind == "image" else i for i in (0, 1)]
            for name, kind in columns.items()
        },
        features=features,
    )
    problem = problem_of(parquet({"train": rows}, validation=0, test=0), SpecError)
    assert (problem.path, problem.what, problem.code) == (path, what, "missing-column")
    assert all(f"'{name}' (" in problem.fix for name in columns)


# Labels -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("train", "test", "what"),
    [
        ([0, 1, None, None], [0, 1], "2 rows of split 'train' have no label; the first is row 2"),
        (["a", "b", None], ["a"], "row 2 of split 'train' has no label"),
        ([0, 1], [1, 2], "split 'test' has the class '2', which training never sees"),
        (["a", "b"], ["emu"], "split 'test' has the class 'emu', which training never sees"),
        (
            [0, 1],
            [1, -1, -2],
            "2 rows of split 'test' have negative labels, which are no classes; the first is "
            "row 1, -1",
        ),
        (
            [0, 1, -1],
            [0, 1],
            "1 rows of split 'train' have negative labels, which are no classes; the first is "
            "row 2, -1",
        ),
        (["a", "a"], ["a"], "the data has only one class, 'a'"),
        (
            [0, 1],
            ["0", "1"],
            "split 'test' has strings as labels, split 'train' has numbers without names",
        ),
    ],
)
def test_broken_labels(
    train: list[Any], test: list[Any], what: str, parquet: Any, raw_table: Any
) -> None:
    splits = {"train": raw_table(train), "test": raw_table(test)}
    problem = problem_of(parquet(splits, validation=0), RunError)
    assert problem.what == what
    assert problem.fix


@pytest.mark.parametrize("labels", [[-1, -1], [None, None]])
def test_a_split_without_labels(labels: list[Any], parquet: Any, table: Any) -> None:
    splits = {"train": table([0, 1]), "test": table(labels), "validation": table([0, 1])}
    problem = problem_of(parquet(splits), SpecError)
    assert problem.what == "split 'test' has no labels: all are missing or -1"
    assert problem.path == "data.splits.test"
    assert "splits: {test: validation}" in problem.fix


def test_a_label_out_of_range(parquet: Any, table: Any) -> None:
    rows = table([0, 1, 1, 1]).data.table
    numbers = rows.column("label").to_numpy().copy()
    numbers[2:] = [5, -3]
    index = rows.schema.get_field_index("label")
    broken = datasets.Dataset(rows.set_column(index, rows.schema.field("label"), [numbers]))
    problem = problem_of(parquet({"train": broken}, validation=0, test=0), RunError)
    assert problem.what == (
        "2 rows of split 'train' have a label that is no class; the first is row 2, 5"
    )
    assert problem.fix == "the 2 classes are 0 to 1"


def test_a_class_that_training_never_sees(parquet: Any, table: Any) -> None:
    names = ("cat", "dog", "emu")
    splits = {"train": table([0, 1], names), "test": table([0, 2], names)}
    problem = problem_of(parquet(splits, validation=0), RunError)
    assert problem.what == "split 'test' has the class 'emu', which training never sees"
    assert problem.fix == "split 'train' has no image of it: check both"


def test_class_names_that_differ_between_splits(parquet: Any, table: Any) -> None:
    splits = {"train": table([0, 1]), "test": table([0, 1], names=("dog", "cat"))}
    problem = problem_of(parquet(splits, validation=0), RunError)
    assert problem.what == (
        "split 'test' has the classes ['dog', 'cat'], split 'train' has the classes ['cat', 'dog']"
    )
    assert problem.fix == "write both with the same class names in the same order"


def test_of_many_class_names_the_first_that_differs(parquet: Any, table: Any) -> None:
    names = [f"class {i}" for i in range(2000)]
    others = [*names[:1500], "another", *names[1501:], "one more"]
    splits = {"train": table([0, 1], names=names), "test": table([1, 0], names=others)}
    problem = problem_of(parquet(splits, validation=0), RunError)
    assert problem.what == (
        "split 'test' has 2,001 classes, of which number 1,500 is 'another', "
        "split 'train' has 2,000 classes, of which number 1,500 is 'class 1500'"
    )


def test_class_names_that_differ_between_files(spec: Any, table: Any, tmp_path: Path) -> None:
    table([0, 1]).to_parquet(tmp_path / "0.parquet")
    table([0, 1], names=("dog", "cat")).to_parquet(tmp_path / "1.parquet")
    files = {"train": str(tmp_path / "*.parquet")}
    problem = problem_of(spec(source="parquet", files=files), RunError)
    assert problem.what == (
        f"'{tmp_path}/1.parquet' names other classes than '{tmp_path}/0.parquet': 'label' has the "
        "classes ['dog', 'cat'], not the classes ['cat', 'dog']"
    )
    assert problem.code == "class-names-differ"


def test_a_column_of_text_is_not_one_of_images(parquet: Any, raw_table: Any) -> None:
    rows = raw_table([0, 1], caption=["a cat on a mat", "a dog"])
    problem = problem_of(parquet({"train": rows}, image="caption", validation=0), SpecError)
    assert problem.what == (
        "the column 'caption' of split 'train' holds text; there is no file 'a cat on a mat'"
    )
    assert problem.fix.startswith("name it: `image: ...`\nits columns are 'image' (binary)")
    assert problem.path == "data.image"


def test_a_split_without_rows(parquet: Any, table: Any) -> None:
    splits = {"train": table([0, 1]), "test": table([])}
    problem = problem_of(parquet(splits, validation=0), RunError)
    assert problem.what == "the files of split 'test' have no rows"


def test_a_table_without_rows(table: Any) -> None:
    with pytest.raises(RunError) as caught:
        read_labels(table([]), "label", "test", "test")
    (problem,) = caught.value.problems
    assert (problem.what, problem.path) == ("split 'test' has no images", "data.splits.test")


# Files ------------------------------------------------------------------------------------------


def test_missing_files(spec: Any, table: Any, tmp_path: Path) -> None:
    table([0, 1]).to_parquet(tmp_path / "train.parquet")
    for name, what, fix in [
        (
            "trian.parquet",
            "there is no file '{}'",
            "did you mean '{0}/train.parquet'?\nlooked in {0}",
        ),
        ("no/train.parquet", "there is no file '{}'", "there is no folder {}/no"),
        ("*.arrow", "no file matches '{}'", "looked in "),
    ]:
        files = {"train": tmp_path / "train.parquet", "test": tmp_path / name}
        problem = problem_of(spec(source="parquet", files=files), SpecError)
        assert problem.what == what.format(tmp_path / name)
        assert problem.fix.startswith(fix.format(tmp_path))
        assert (problem.path, problem.code) == ("data.files.test", "missing-file")


def test_one_missing_file_of_a_list(spec: Any, table: Any, tmp_path: Path) -> None:
    table([0, 1]).to_parquet(tmp_path / "0.parquet")
    files = {"train": [str(tmp_path / "0.parquet"), str(tmp_path / "1.parquet")]}
    problem = problem_of(spec(source="parquet", files=files), SpecError)
    assert problem.what == f"there is no file '{tmp_path}/1.parquet'"


@pytest.mark.parametrize("source", ["parquet", "arrow"])
def test_a_file_of_another_format(source: str, spec: Any, tmp_path: Path) -> None:
    path = tmp_path / "rows"
    path.write_text("nothing of the kind")
    problem = problem_of(spec(source=source, files={"train": path}), RunError)
    assert problem.what.startswith(f"'{path}' cannot be read: ")
    assert (problem.path, problem.code) == ("data.files.train", "unreadable-source")


def test_a_truncated_file(spec: Any, table: Any, tmp_path: Path) -> None:
    table([0, 1] * 50).to_parquet(tmp_path / "rows.parquet")
    content = bytearray((tmp_path / "rows.parquet").read_bytes())
    content[20:200] = b"\xff" * 180  # the description at the end stays sound
    (tmp_path / "rows.parquet").write_bytes(content)
    files = {"train": tmp_path / "rows.parquet"}
    problem = problem_of(spec(source="parquet", files=files), RunError)
    assert problem.what.startswith(f"'{tmp_path}/rows.parquet' cannot be read: ")


@pytest.mark.parametrize(
    ("source", "make", "code", "fix"),
    [
        ("parquet", Path.mkdir, "not-a-file", "/*.parquet'"),
        ("arrow", Path.mkdir, "not-a-saved-dataset", "/*.arrow'"),
    ],
)
def test_folders_where_files_are_expected(
    source: str, make: Callable[[Path], None], code: str, fix: str, spec: Any, tmp_path: Path
) -> None:
    make(tmp_path / "rows")
    problem = problem_of(spec(source=source, files={"train": tmp_path / "rows"}), SpecError)
    assert problem.code == code
    assert problem.fix.endswith(fix)


def test_a_saved_set_of_several_splits(spec: Any, table: Any, tmp_path: Path) -> None:
    both = datasets.DatasetDict(train=table([0, 1]), test=table([1, 0]))
    both.save_to_disk(str(tmp_path / "saved"))
    files = {"train": tmp_path / "saved"}
    problem = problem_of(spec(source="arrow", files=files), SpecError)
    assert problem.what == f"'{tmp_path}/saved' holds several splits"
    assert f"{{test: {tmp_path}/saved/test, train: {tmp_path}/saved/train}}" in problem.fix


# Folders ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tree", "kind", "what", "fix"),
    [
        (
            {"cat": 2, "dog": 0},
            RunError,
            "the class folder '{}/dog' has no image",
            "remove the folder, or put its images back",
        ),
        (
            {"train/cat": 2, "train/dog": 2, "test/cat": 1, "test/dog": 0},
            RunError,
            "the class folder '{}/test/dog' has no image",
            "remove",
        ),
        (
            {"train/cat": 2, "train/dog": 2, "test/cats": 1},
            RunError,
            "the class 'cats' in '{}/test' is not among the classes of 'train'",
            "did you mean 'cat'?\n'train' has ['cat', 'dog']",
        ),
        ({"": 3}, RunError, "'{}' has no class folders", "put the images of each class"),
        ({"cat": 2}, RunError, "the data has only one class, 'cat'", "there is nothing to learn"),
    ],
)
def test_broken_folders(
    tree: dict[str, int],
    kind: type[NifbuildError],
    what: str,
    fix: str,
    spec: Any,
    folder: Any,
) -> None:
    root = folder(tree)
    problem = problem_of(spec(source="imagefolder", path=root), kind)
    assert problem.what == what.format(root)
    assert problem.fix.startswith(fix)


def test_all_empty_class_folders_are_named(spec: Any, folder: Any) -> None:
    root = folder({"a": 0, "b": 1, "c": 0})
    with pytest.raises(RunError) as caught:
        open_data(spec(source="imagefolder", path=root))
    assert [problem.what for problem in caught.value.problems] == [
        f"the class folder '{root}/{name}' has no image" for name in ("a", "c")
    ]


def test_a_run_among_the_class_folders_is_told(spec: Any, folder: Any) -> None:
    root = folder({"cat": 3, "dog": 3, "checkpoints": 0})
    for name in ("spec.yaml", "environment.json"):
        (root / name).touch()
    with pytest.raises(RunError) as caught:
        open_data(spec(source="imagefolder", path=root))
    (problem,) = caught.value.problems
    assert problem.fix.startswith(f"a run lies in {root}, too: give it, or the images, a folder of")


def test_missing_folder(spec: Any, folder: Any, tmp_path: Path) -> None:
    folder({"a": 1}, root="flowers")
    problem = problem_of(spec(source="imagefolder", path=tmp_path / "flower"), SpecError)
    assert problem.what == f"there is no folder '{tmp_path}/flower'"
    assert problem.fix == f"did you mean '{tmp_path}/flowers'?\nlooked in {tmp_path}"
    (tmp_path / "file").write_text("")
    problem = problem_of(spec(source="imagefolder", path=tmp_path / "file"), SpecError)
    assert problem.what == f"'{tmp_path}/file' is a file, not a folder"


def test_missing_split_folder(spec: Any, folder: Any) -> None:
    root = folder({"train/a": 1, "train/b": 1})
    problem = problem_of(spec(source="imagefolder", path=root, splits={"test": "tests"}), SpecError)
    assert problem.what == "the source has no split 'tests'"


@pytest.mark.parametrize(
    ("tree", "folder_name", "meant", "role"),
    [
        (("train", "tset"), "tset", "test", "test"),
        (("train", "test", "Vaild"), "Vaild", "valid", "validation"),
        (("trian", "test"), "trian", "train", "train"),  # else two classes, `test` and `trian`
    ],
)
def test_a_split_folder_that_is_misspelt(
    tree: tuple[str, ...], folder_name: str, meant: str, role: str, spec: Any, folder: Any
) -> None:
    root = folder({f"{split}/{label}": 3 for split in tree for label in "ab"})
    problem = problem_of(spec(source="imagefolder", path=root), SpecError)
    assert problem.what == (
        f"nothing uses the folder '{root}/{folder_name}', which has folders as a split has"
    )
    assert problem.fix.startswith(f"did you mean '{meant}'?")
    named = f"splits: {{{role}: {folder_name}}}"
    assert named in problem.fix
    splits = {role: folder_name}
    catalog = open_data(spec(source="imagefolder", path=root, splits=splits, validation=0))
    assert catalog.sizes[role] == 6


@pytest.mark.parametrize(
    "tree",
    [
        {
            "train/a": 3,
            "train/b": 3,
            "test/a": 1,
            "test/b": 1,
            "tset/a": 1,
        },  # a test split is there
        {"train/a": 3, "train/b": 3, "test/a": 1, "test/b": 1, "notes/x": 1},
        {"train/a": 3, "train/b": 3, "test/a": 1, "test/b": 1, "vali": 1},  # has no folders
        {"cat/small": 3, "cat/large": 2, "rain/heavy": 4},  # classes, with folders of their own
    ],
)
def test_other_folders_are_no_misspelt_splits(tree: dict[str, int], spec: Any, folder: Any) -> None:
    assert open_data(spec(source="imagefolder", path=folder(tree), validation=0, test=0))


def test_too_few_images_to_set_aside(spec: Any, folder: Any) -> None:
    root = folder({"a": 1, "b": 1})
    problem = problem_of(spec(source="imagefolder", path=root), SpecError)
    assert problem.what == "a share of 0.2 of 2 images is no image"
    assert problem.path == "data.test"
