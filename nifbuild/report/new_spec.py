"""A spec to begin with, as a file."""

import json
from dataclasses import replace
from pathlib import Path

from nifbuild.errors import Mark, Problem, SpecError
from nifbuild.report.output_file import file_problem, written_file
from nifbuild.spec.resolve import load_spec
from nifbuild.spec.shipped import PREFIX, shipped_folder, spec_path
from nifbuild.spec.starting_text import starting_text


def write_spec(name: str, base: Path, *, overwrite: bool = False) -> Path:
    """Writes a spec that builds on another one to NAME.yaml.

    Args:
        name: Of the spec; it may be given as the file's.
        base: As commands take specs.
        overwrite: Whether a file that is there is replaced.

    Returns:
        The file.

    Raises:
        SpecError: The name is none for a spec, the file is there, or `base` is wrong.
        RunError: It cannot be written.
    """
    path = Path(f"{name.removesuffix('.yaml')}.yaml")
    load_spec(base)  # what is wrong with it is told first
    try:
        resolved = load_spec(base, overrides=[f"name={json.dumps(path.stem)}"])
    except SpecError as error:
        raise SpecError(replace(p, where=Mark(name), path="") for p in error.problems) from None
    if problem := file_problem("NAME", path, overwrite=overwrite):
        other = "give another NAME, or add --overwrite"
        fix = other if problem.code == "file-exists" else problem.fix
        raise SpecError(replace(problem, where=None, fix=fix))
    text = starting_text(path.stem, _reference(spec_path(base), path), resolved)
    with written_file("NAME", path, overwrite=overwrite) as file:
        file.write_text(text, encoding="utf-8")
    return path


def _reference(base: Path, path: Path) -> str:
    """How the spec at `path` names the one that it builds on."""
    if base.is_relative_to(shipped_folder()):
        return PREFIX + base.relative_to(shipped_folder()).with_suffix("").as_posix()
    if base.resolve() == path.resolve():
        raise SpecError(Problem(f"{path} cannot build on itself", fix="give it another name"))
    base, folder = base.absolute(), path.absolute().parent
    return str(base.relative_to(folder) if base.is_relative_to(folder) else base)
