"""Options that the commands of `nifbuild ablate` share."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from nifbuild.ablate.cells import Store
    from nifbuild.spec.study import Study

StudyArgument = Annotated[Path, typer.Argument(help="The study's YAML.", show_default=False)]
DirectoryOption = Annotated[
    Path | None,
    typer.Option(
        "--dir",
        help="Where its cells and their results lie.",
        show_default="ablations/<name of the study>",
    ),
]
MainOption = Annotated[
    Path | None,
    typer.Option(
        "--main",
        metavar="PATH",
        help="The report of the main branch, for gates with `versus: main`: its report.json, or "
        "the folder that it lies in.",
    ),
]


def open_study(path: Path, directory: Path | None, *, read: bool = False) -> "tuple[Study, Store]":
    """The study and the folder of its results, which need not be there yet.

    Args:
        path: The study's file.
        directory: Where the results lie; None: where they usually do.
        read: Whether results are to be read: a folder that is named has to be there then.

    Raises:
        SpecError: The study or the folder is wrong.
    """
    from nifbuild.ablate.cells import Store
    from nifbuild.errors import Problem, SpecError, closest_beside
    from nifbuild.spec.ablation import load_study

    study = load_study(path)
    folder = directory or Path("ablations") / study.name
    if folder.exists() and not folder.is_dir():
        fix = "write elsewhere with --dir"
        raise SpecError(Problem(f"{folder} is a file", fix=fix, code="not-a-folder"))
    if read and directory is not None and not folder.exists():
        fix = closest_beside(folder, folders=True) or f"nifbuild ablate run {path} --dir {folder}"
        raise SpecError(Problem(f"there is no folder {folder}", fix=fix, code="missing-folder"))
    return study, Store(folder)
