"""What all tests share. Torch is loaded by the fixtures that need it: tests of specs do without."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

if TYPE_CHECKING:
    from nifbuild.spec.resolve import Resolved

if "PYTEST_XDIST_WORKER" in os.environ:
    # Each worker has a core of its own: threads of several would wait for each other.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same cases in each run, so that a failure is of the change at hand and comes again.
hypothesis.settings.register_profile("fixed", derandomize=True, database=None, deadline=None)
hypothesis.settings.load_profile("fixed")


def pytest_configure() -> None:
    """Lets the processes that tests start hear signals, also where this one ignores them.

    A shell starts what it runs in the background, and `nohup` anything, with signals ignored.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """The tensors here are tiny; threads would spend their time waiting for each other."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def spec_file(tmp_path: Path) -> Callable[..., Path]:
    """Writes the tiny spec; `dropout` puts one before the last layer."""
    from tests.tiny_runs import spec_text

    def write(*, dropout: bool = False) -> Path:
        path = tmp_path / "tiny.yaml"
        path.write_text(spec_text(dropout=dropout))
        return path

    return write


@pytest.fixture
def resolve(spec_file: Callable[..., Path]) -> "Callable[..., Resolved]":
    """The tiny spec with other values, as `--set` takes them."""
    from nifbuild.spec.resolve import load_spec

    def load(*overrides: str, dropout: bool = False) -> "Resolved":
        return load_spec(spec_file(dropout=dropout), overrides=overrides)

    return load


@pytest.fixture(scope="session")
def two_epochs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the tiny spec for two epochs; not to be changed."""
    from tests.tiny_runs import spec_text, trained

    return trained(tmp_path_factory.mktemp("two_epochs"), spec_text(), "train.epochs=2")


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of image files of the digits 0, 1 and 2, wider than high: 60 train, 23 test."""
    from tests.tiny_runs import write_photos

    return write_photos(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="session")
def photo_run(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the tiny spec on these photos; not to be changed."""
    from tests.tiny_runs import photo_text, trained

    text = photo_text(photos, "validation: 0")
    return trained(tmp_path_factory.mktemp("photo_run"), text, "train.epochs=6")


@pytest.fixture
def cli() -> Callable[..., Any]:
    """Runs the command in this process, and gives its exit code and what it printed."""
    from typer.testing import CliRunner

    from nifbuild.cli.app import app

    return lambda *arguments: CliRunner().invoke(app, [str(word) for word in arguments])


Command = Callable[..., "subprocess.CompletedProcess[str]"]
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def child_environment() -> dict[str, str]:
    """Of a child process: this one's, without what a launcher or a terminal would add."""
    drop = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_PORT", "FORCE_COLOR")
    kept = {key: value for key, value in os.environ.items() if key not in drop}
    return {**kept, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}


@pytest.fixture
def start(tmp_path: Path, child_environment: dict[str, str]) -> Start:
    """Starts the command in the background, in the temporary directory."""

    def run(*arguments: Any) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "nifbuild", *map(str, arguments)],
            cwd=tmp_path,
            env=child_environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    return run


@pytest.fixture
def nifbuild(start: Start) -> Command:
    """Runs the command in a process of its own, to its end."""

    def run(*arguments: Any) -> "subprocess.CompletedProcess[str]":
        process = start(*arguments)
        stdout, stderr = process.communicate(timeout=100)
        return subprocess.CompletedProcess(arguments, process.returncode, stdout, stderr)

    return run
