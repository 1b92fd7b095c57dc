"""The hub without a connection, and what it may answer with one."""

import json
import shutil
import time
from pathlib import Path
from typing import Any
from unittest import mock

import datasets
import huggingface_hub
import pytest
from huggingface_hub import errors

from nifbuild.data import open_data
from nifbuild.errors import NifbuildError, Problem, RunError, SpecError

COMMIT = "0b2714987fa478483af9968de7c934580d0bb9a2"


def problem_of(data: Any, kind: type[NifbuildError]) -> Problem:
    with pytest.raises(kind) as caught:
        open_data(data)
    assert type(caught.value) is kind
    (problem,) = caught.value.problems
    return problem


@pytest.fixture
def cached(table: Any, tmp_path: Path) -> None:
    """What downloading `owner/animals` at COMMIT leaves in the cache."""
    (tmp_path / "repo").mkdir()
    table([0, 1] * 5).to_parquet(tmp_path / "repo" / "train-00000-of-00001.parquet")
    datasets.load_dataset(str(tmp_path / "repo"))
    (built,) = (tmp_path / "cache" / "repo" / "default" / "0.0.0").glob("*/dataset_info.json")
    there = tmp_path / "cache" / "owner___animals" / "default" / "0.0.0" / COMMIT
    shutil.copytree(built.parent, there)
    (there / "repo-train.arrow").rename(there / "animals-train.arrow")
    info = json.loads((there / "dataset_info.json").read_text())
    (there / "dataset_info.json").write_text(json.dumps(info | {"dataset_name": "animals"}))


def test_offline_is_said_at_once(spec: Any) -> None:
    start = time.monotonic()
    data = spec(source="hub", id="uoft-cs/cifar10", revision=COMMIT, config="plain_text")
    problem = problem_of(data, RunError)
    assert time.monotonic() - start < 5
    assert problem.what == (
        "'uoft-cs/cifar10' is not in the local cache, and the hub cannot be reached"
    )
    assert f"load_dataset('uoft-cs/cifar10', 'plain_text', revision='{COMMIT}')" in problem.fix
    assert "`source: parquet`, `arrow` or `imagefolder`" in problem.fix
    assert (problem.path, problem.code) == ("data.id", "hub-unreachable")
    assert datasets.config.HF_HUB_OFFLINE


@pytest.mark.usefixtures("cached")
def test_the_cache_serves_without_a_connection(spec: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    data = spec(source="hub", id="owner/animals", revision=COMMIT, test=0, validation=0)
    assert open_data(data).sizes == {"train": 10}
    assert not datasets.config.HF_HUB_OFFLINE


@pytest.mark.usefixtures("cached")
def test_the_cache_does_not_pass_for_another_revision(spec: Any) -> None:
    problem = problem_of(spec(source="hub", id="owner/animals", revision="f" * 40), RunError)
    assert problem.what.endswith(f"; the cache has another revision, {COMMIT}")


@pytest.mark.usefixtures("cached")
def test_the_cache_lacks_a_configuration(spec: Any) -> None:
    data = spec(source="hub", id="owner/animals", revision=COMMIT, config="plain")
    problem = problem_of(data, RunError)
    assert "'owner/animals' cannot be read" in problem.what
    assert "['default']" in problem.what


@pytest.mark.parametrize(
    ("error", "kind", "what", "fix", "path"),
    [
        (
            errors.RepositoryNotFoundError,
            SpecError,
            "the hub has no data set 'o/n' that you may see",
            "run `hf auth login`",
            "data.id",
        ),
        (
            errors.RevisionNotFoundError,
            SpecError,
            "'o/n' has no revision 'main' on the hub",
            "https://huggingface.co/datasets/o/n/commits/main",
            "data.revision",
        ),
        (
            errors.GatedRepoError,
            RunError,
            "'o/n' is gated: its owners let only registered people read it",
            "accept its terms at https://huggingface.co/datasets/o/n\nthen run `hf auth login`",
            "data.id",
        ),
    ],
)
def test_what_the_hub_answers(
    error: Any,
    kind: Any,
    what: str,
    fix: str,
    path: str,
    spec: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        # The response's class depends on the version of huggingface_hub; nothing here reads it.
        raise error("refused", response=mock.MagicMock())

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", refuse)
    problem = problem_of(spec(source="hub", id="o/n", revision="main"), kind)
    assert (problem.what, problem.path) == (what, path)
    assert fix in problem.fix


def test_a_disk_without_room(monkeypatch: pytest.MonkeyPatch, spec: Any) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("Not enough disk space. Needed: 1 TiB (download: 0, generated: 1 TiB)")

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda *_, **__: None)
    monkeypatch.setattr(datasets, "load_dataset", refuse)
    problem = problem_of(spec(source="hub", id="o/n", revision="main"), RunError)
    assert problem.what.startswith("'o/n' does not fit on the disk: Not enough disk space. Needed")
    assert (problem.path, problem.code) == ("data.id", "no-room")
    assert "HF_HOME=DIR" in problem.fix


def test_a_name_that_cannot_be(spec: Any) -> None:
    problem = problem_of(spec(source="hub", id="a/b/c", revision="main"), SpecError)
    assert problem.what == "the hub has no data set 'a/b/c' that you may see"


def test_configurations(spec: Any, table: Any, tmp_path: Path) -> None:
    readme = ["---", "configs:"]
    for name in ("one", "two"):
        (tmp_path / "repo" / name).mkdir(parents=True)
        table([0, 1]).to_parquet(tmp_path / "repo" / name / "rows.parquet")
        readme += [f"- config_name: {name}", f"  data_files: {name}/rows.parquet"]
    (tmp_path / "repo" / "README.md").write_text("\n".join([*readme, "---", ""]))
    for config, what in (
        (None, f"'{tmp_path}/repo' has several configurations"),
        ("three", f"'{tmp_path}/repo' has no configuration 'three'"),
    ):
        data = spec(source="hub", id=tmp_path / "repo", revision="main", config=config)
        problem = problem_of(data, SpecError)
        assert (problem.what, problem.path) == (what, "data.config")
        assert problem.fix == "choose one of ['one', 'two']"


def test_an_empty_repository(spec: Any, tmp_path: Path) -> None:
    (tmp_path / "repo").mkdir()
    problem = problem_of(spec(source="hub", id=tmp_path / "repo", revision="main"), RunError)
    assert problem.what.startswith(f"'{tmp_path}/repo' cannot be read: ")
    assert problem.code == "unreadable-source"


@pytest.fixture
def shards(table: Any, tmp_path: Path) -> Path:
    """A local data set in the hub's layout, of 40 training and 10 test images in two classes."""
    root = tmp_path / "large"
    root.mkdir()
    for at in range(2):
        name = f"train-0000{at}-of-00002.parquet"
        table([0, 1] * 10, first=20 * at).to_parquet(root / name)
    table([0, 1] * 5, first=100).to_parquet(root / "test-00000-of-00001.parquet")
    return root


def test_a_first_look_reads_the_first_rows(shards: Path, spec: Any, tmp_path: Path) -> None:
    fields = {"source": "hub", "id": shards, "revision": "main", "validation": 0}
    data = spec(streaming=6, **fields)
    catalog = open_data(data)
    assert catalog.sizes == {"train": 6, "test": 6}
    assert catalog.class_names == ("cat", "dog")
    splits = catalog.load(1, (4, 4)).splits
    for name, first in (("train", 0), ("test", 100)):
        batch = splits[name].__getitems__(range(6))  # type: ignore[index]
        assert batch["images"][:, 0, 0, 0].tolist() == [*range(first, first + 6)]
        assert batch["labels"].tolist() == [0, 1] * 3
    assert not list((tmp_path / "cache").rglob("*.arrow"))
    assert open_data(data).fingerprint == catalog.fingerprint
    assert open_data(spec(streaming=7, **fields)).fingerprint != catalog.fingerprint
    assert open_data(spec(streaming=1000, **fields)).sizes == {"train": 40, "test": 10}


def test_streaming_needs_a_connection(spec: Any) -> None:
    data = spec(source="hub", id="owner/animals", revision=COMMIT, streaming=5)
    problem = problem_of(data, RunError)
    assert problem.what.endswith("the hub cannot be reached, which `streaming` needs")
