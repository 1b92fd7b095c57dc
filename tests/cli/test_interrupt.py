"""Ctrl-C at any moment ends a command with one line."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("module", "command"),
    [
        ("nifbuild.cli.app", ["--help"]),
        ("typer", ["--help"]),
        ("yaml", ["validate", "specs/resnet18.yaml"]),
        ("nifbuild.spec.schema", ["schema"]),
        ("torch", ["train", "specs/resnet18.yaml"]),
        ("torch", ["evaluate", "nowhere"]),
        # Swallowed by torch's import, an exception once led to endless recursion there.
        ("torch.fx", ["train", "specs/resnet18.yaml"]),
    ],
)
def test_while_a_module_is_loaded(module, command):
    code = f"""
        import os, signal, sys
        class Finder:
            def find_spec(self, name, path=None, target=None):
                if name == {module!r}:
                    os.kill(os.getpid(), signal.SIGINT)
        sys.meta_path.insert(0, Finder())
        sys.argv = ["nifbuild", *{command!r}]
        from nifbuild.__main__ import main
        main()
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")
