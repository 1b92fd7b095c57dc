import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from nifbuild.errors import SpecError
from nifbuild.spec.resolve import Resolved, load_spec


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def write_file(text: str, name: str = "spec.yaml") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return path

    return write_file


@pytest.fixture
def resolve(write: Callable[..., Path]) -> Callable[..., Resolved]:
    def resolve_text(text: str, **options: object) -> Resolved:
        return load_spec(write(text), **options)  # type: ignore[arg-type]

    return resolve_text


@pytest.fixture
def problems(write: Callable[..., Path]) -> Callable[..., list[str]]:
    """All problems of a spec as text, the file's folder left out."""

    def find(text: str, **options: object) -> list[str]:
        path = write(text)
        with pytest.raises(SpecError) as caught:
            load_spec(path, **options)  # type: ignore[arg-type]
        return [str(p).replace(f"{path.parent}/", "") for p in caught.value.problems]

    return find
