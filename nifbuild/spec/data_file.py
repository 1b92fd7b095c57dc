"""Files that hold nothing but a `data` section, read apart from any spec."""

from pathlib import Path

from nifbuild.errors import SpecError
from nifbuild.spec.check import check
from nifbuild.spec.compose import compose, data_section
from nifbuild.spec.data import DataSpec
from nifbuild.spec.shipped import spec_path
from nifbuild.spec.source import Node

_READING = ("resize", "interpolation", "crop_share", "unreadable")
"""How image files become inputs. A folder says nothing of it; a file with a `data` section does."""


def load_data(path: str | Path, own: DataSpec) -> DataSpec:
    """Reads the `data` section of a file, or the folder, that `--data` names for a run.

    Args:
        path: The file or folder. The images of a folder are read as those of training were.
        own: What the run was trained on.

    Raises:
        SpecError: With all problems of the section, or if it is not alone in the file.
    """
    section, _ = data_section(spec_path(path))
    return _checked(section).model_copy(update=dict(_as_trained(path, own)))


def settings_as_trained(path: str | Path, own: DataSpec) -> list[str]:
    """The same as values to set in the run's spec, such as `data.resize=stretch`."""
    return [f"data.{name}={value}" for name, value in _as_trained(path, own)]


def _as_trained(path: str | Path, own: DataSpec) -> list[tuple[str, str | float]]:
    is_folder = spec_path(path).is_dir()
    return [(name, getattr(own, name)) for name in _READING if is_folder]


def load_data_spec(path: str | Path) -> DataSpec | None:
    """Reads a file that holds nothing but a `data` section; None for any other spec.

    Raises:
        SpecError: With all problems of the section.
    """
    tree = compose(spec_path(path))
    if set(tree.entries) - {"version"} != {"data"}:
        return None
    return _checked(tree.entries["data"])


def _checked(section: Node) -> DataSpec:
    data, problems = check(DataSpec, section, "data")
    if problems:
        raise SpecError(problems)
    spec: DataSpec = data
    return spec
