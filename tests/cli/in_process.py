"""The command in this process: torch takes longer to load than most commands take."""

import contextlib
import io
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from nifbuild.cli.app import main

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Done:
    """What became of it."""

    returncode: int
    stdout: str
    stderr: str


def nifbuild(*arguments: str, width: int = 120) -> Done:
    """Called in the root of the clone, with a terminal that is so many letters wide."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with (
        mock.patch.object(sys, "argv", ["nifbuild", *arguments]),
        mock.patch.dict(os.environ, {"COLUMNS": str(width)}),
        contextlib.chdir(ROOT),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
    return Done(code, out.getvalue(), err.getvalue())
