"""Files that hold nothing but a `data` section, read apart from any spec."""

from pathlib import Path

from nifbuild.errors import SpecError
from nifbuild.spec.check import check
from nifbuild.spec.compose import compose, data_section
from nifbuild.spec.data import DataSpec
from nifbuild.spec.shipped import spec_path
from nifbuild.spec.source import Node


def load_data(path: str | Path) -> DataSpec:
    """Reads the `data` section of a file that `--data` names.

    Raises:
        SpecError: With all problems of the section, or if it is not alone in the file.
    """
    section, _ = data_section(spec_path(path))
    return _checked(section)


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
