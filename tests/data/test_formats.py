"""Which files are images: no program is started for one, and nothing but a plain file is read."""

import os
import re
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import datasets
import pytest
from PIL import EpsImagePlugin, Image

import nifbuild
from nifbuild.data import open_data
from nifbuild.data.decode import Decoder
from nifbuild.errors import RunError

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n"
SHARES = {"validation": 0, "test": 0}


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for Ghostscript is on the path; it leaves this file where it is started."""
    trace, program = tmp_path / "started", tmp_path / "bin" / "gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch '{trace}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)  # Pillow's memory of where it is
    return trace


def test_the_stand_in_is_what_pillow_starts(started: Path, tmp_path: Path) -> None:
    (tmp_path / "cat.png").write_bytes(EPS)
    with suppress(OSError), Image.open(tmp_path / "cat.png") as image:
        image.load()
    assert started.exists()


@pytest.mark.parametrize("form", ["bytes", "path"])
def test_no_program_is_started_for_an_image(form: str, started: Path, tmp_path: Path) -> None:
    (tmp_path / "cat.png").write_bytes(EPS)
    with pytest.raises(ValueError, match="cannot identify image file"):
        Decoder(3, 8, 8)(EPS if form == "bytes" else str(tmp_path / "cat.png"))
    assert not started.exists()


def test_no_program_is_started_for_a_class_folder(spec: Any, folder: Any, started: Path) -> None:
    root = folder({"a": 3, "b": 3})
    (root / "a" / "cat.png").write_bytes(EPS)
    data = spec(source="imagefolder", path=root, unreadable="skip", **SHARES)
    loaded = open_data(data).load(1, (4, 4))
    assert [(split, name) for split, name, _ in loaded.unreadable] == [
        ("train", f"'{root}/a/cat.png'")
    ]
    assert not started.exists()


def test_datasets_decodes_nothing(parquet: Any, folder: Any, started: Path, tmp_path: Path) -> None:
    """Rows are asked for whole in places, and with them images in columns that nothing needs."""
    paths = [str(path) for path in sorted(folder({"x": 4}).rglob("*.png"))]
    features = datasets.Features(
        image=datasets.Value("string"), mask=datasets.Image(), label=datasets.Value("int64")
    )
    masks = [{"bytes": EPS, "path": None}] * 4
    rows = datasets.Dataset.from_dict(
        {"image": paths, "mask": masks, "label": [0, 1, 0, 1]}, features=features
    )
    catalog = open_data(parquet({"train": rows}, image="image", **SHARES))
    assert len(catalog.load(1, (4, 4)).splits["train"]) == 4
    with pytest.raises(RunError, match="cannot identify image file"):
        open_data(parquet({"train": rows}, image="mask", **SHARES)).load(1, (4, 4))
    assert not started.exists()


def test_images_are_opened_in_one_place() -> None:
    package = Path(nifbuild.__file__).parent
    calls = {
        path.name: re.findall(r"(?m)^[^\"']*(Image\.open\(.*\))", path.read_text())
        for path in package.rglob("*.py")
    }
    calls = {name: found for name, found in calls.items() if found}
    assert list(calls) == ["decode.py"]
    assert all("formats=" in call for call in calls["decode.py"])


def make_socket(path: Path) -> None:
    place = Path.cwd()
    os.chdir(path.parent)  # a socket's name is at most 107 bytes long
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path.name)
    os.chdir(place)


SPECIAL: dict[str, tuple[Callable[[Path], None], str]] = {
    "pipe": (os.mkfifo, "a pipe, a socket or a device"),
    "socket": (make_socket, "a pipe, a socket or a device"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "a pipe, a socket or a device"),
    "dangling": (lambda path: path.symlink_to("nowhere"), "No such file"),
    "loop": (lambda path: path.symlink_to(path.name), "Too many levels of symbolic links"),
    "empty": (Path.touch, "it is empty"),
}


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.timeout(60)
def test_what_is_no_plain_file_is_not_waited_for(kind: str, spec: Any, folder: Any) -> None:
    root = folder({"a": 3, "b": 3})
    make, reason = SPECIAL[kind]
    make(root / "a" / "x.png")
    data = {"source": "imagefolder", "path": root, **SHARES}
    with pytest.raises(RunError, match=reason) as caught:
        open_data(spec(**data)).load(1, (4, 4))
    (problem,) = caught.value.problems
    assert f"'{root}/a/x.png'" in problem.what
    assert problem.path == "data.unreadable"
    loaded = open_data(spec(unreadable="skip", **data)).load(1, (4, 4))
    assert len(loaded.splits["train"]) == 6
    ((_, name, said),) = loaded.unreadable
    assert name == f"'{root}/a/x.png'"
    assert reason in said


@pytest.mark.parametrize("kind", ["pipe", "device", "loop"])
@pytest.mark.parametrize("source", ["parquet", "arrow"])
@pytest.mark.timeout(60)
def test_files_of_a_table_are_plain(kind: str, source: str, spec: Any, tmp_path: Path) -> None:
    make, reason = SPECIAL[kind]
    make(tmp_path / "rows")
    with pytest.raises(Exception, match=reason) as caught:
        open_data(spec(source=source, files={"train": tmp_path / "rows"}))
    (problem,) = caught.value.problems  # type: ignore[attr-defined]
    assert problem.path == "data.files.train"
    assert problem.what.startswith(f"'{tmp_path}/rows' ")


@pytest.mark.timeout(60)
def test_a_pipe_in_a_saved_set_and_in_a_local_repository(
    spec: Any, table: Any, tmp_path: Path
) -> None:
    table([0, 1]).save_to_disk(str(tmp_path / "saved"))
    os.mkfifo(tmp_path / "saved" / "more.arrow")
    with pytest.raises(Exception, match=r"more\.arrow' is a pipe"):
        open_data(spec(source="arrow", files={"train": tmp_path / "saved"}))
    (tmp_path / "repo").mkdir()
    os.mkfifo(tmp_path / "repo" / "train.parquet")
    with pytest.raises(RunError, match=r"train\.parquet': a pipe"):
        open_data(spec(source="hub", id=tmp_path / "repo", revision="main"))
