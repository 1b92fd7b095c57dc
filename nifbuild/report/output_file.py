"""Files that a report is written to, checked before the work rather than after it."""

from collections.abc import Sequence
from pathlib import Path

from nifbuild.errors import Mark, Problem


def output_problem(option: str, path: Path, endings: Sequence[str]) -> Problem | None:
    """What keeps a report from being written to `path`, or None.

    Args:
        option: That which names the file, such as `--plot`.
        path: The file.
        endings: Those that name a format, such as `.png`.
    """
    mark = Mark(f"{option} {path}")
    if path.suffix.lower() not in endings:
        what, fix = f"'{path}' names no known format", f"end it in {', '.join(endings)}"
        return Problem(what, mark, fix=fix, code="option")
    existed = path.exists()
    try:
        path.open("ab").close()
        if not existed:
            path.unlink()
    except OSError as error:
        what = f"cannot write to {path}: {error.strerror}"
        fix = "name a file in a directory that you may write to"
        return Problem(what, mark, fix=fix, code="option")
    return None
