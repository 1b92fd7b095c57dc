"""The specs that come with nifbuild, by names that hold anywhere: `nifbuild:resnet18_nif`."""

import os
from pathlib import Path

from nifbuild.errors import Problem, SpecError, did_you_mean

PREFIX = "nifbuild:"
_PACKAGE = Path(__file__).parents[1]


def shipped_folder() -> Path:
    """Where they lie: in an installed package, or beside the package in a clone."""
    installed = _PACKAGE / "specs"
    return installed if installed.is_dir() else _PACKAGE.parent / "specs"


def shipped_names() -> list[str]:
    """Their names, as in `architectures/resnet18`."""
    folder = shipped_folder()
    found = (path.relative_to(folder).with_suffix("") for path in folder.rglob("*.yaml"))
    return sorted(path.as_posix() for path in found)


def spec_path(name: str | os.PathLike[str], beside: Path | None = None) -> Path:
    """The file that a spec, a study or a data file is named by.

    Args:
        name: A path, or `nifbuild:` and a name.
        beside: The folder that paths are relative to; None: the working directory.

    Raises:
        SpecError: No spec of that name is shipped.
    """
    text = str(name)
    if not text.startswith(PREFIX):
        return Path(name) if beside is None else beside / name
    wanted = text.removeprefix(PREFIX).removesuffix(".yaml")
    names = shipped_names()
    if wanted in names:
        return shipped_folder() / f"{wanted}.yaml"
    fix = did_you_mean(wanted, names) or f"shipped: {', '.join(names)}"
    raise SpecError(Problem(f"no spec '{wanted}' comes with nifbuild", path=text, fix=fix))
