"""Imports point one way: errors, spec, nn, compile, data, train, report, ablate, cli."""

import ast
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "nifbuild"
FLOORS = ["shown", "errors", "terminal", "spec", "nn", "compile"]
FLOORS += ["data", "train", "report", "ablate", "cli"]
HEAVY = {"torch", "accelerate", "datasets", "kornia", "torchmetrics", "sklearn", "matplotlib"}
LIGHT_FLOORS = {"shown", "errors", "terminal", "spec", "compile", "cli"}


def imports(tree: ast.Module) -> list[tuple[str, bool]]:
    """Names of all imported modules, and whether the import runs when the file is loaded."""
    found: list[tuple[str, bool]] = []

    def visit(node: ast.AST, at_load: bool) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            at_load = False
        if isinstance(node, ast.Import):
            found.extend((alias.name, at_load) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append((node.module, at_load))
            found.extend((f"{node.module}.{alias.name}", at_load) for alias in node.names)
        inner = at_load and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for child in ast.iter_child_nodes(node):
            visit(child, inner)

    visit(tree, True)
    return found


def floor_of(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[0] == "nifbuild" and parts[1] in FLOORS else None


def breaches(files: dict[str, str]) -> list[str]:
    """Imports that point upwards, and heavy ones in floors that must load fast."""
    found = []
    for name, text in files.items():
        own = name.split("/")[0].removesuffix(".py")
        if own not in FLOORS:
            continue
        for module, at_load in imports(ast.parse(text)):
            other = floor_of(module)
            # An op's `build` may name the module that it builds.
            built = own == "spec" and other == "nn" and not at_load
            if other and FLOORS.index(other) > FLOORS.index(own) and not built:
                found.append(f"{name} imports {module}")
            if own in LIGHT_FLOORS and at_load and module.split(".")[0] in HEAVY:
                found.append(f"{name} loads {module}")
            if own == "nn" and other == "spec":
                found.append(f"{name} knows of specs: {module}")
    return found


def package_files() -> dict[str, str]:
    return {str(p.relative_to(PACKAGE)): p.read_text() for p in PACKAGE.rglob("*.py")}


def test_imports_point_one_way():
    files = package_files()
    assert len(files) > 30
    assert breaches(files) == []


@pytest.mark.parametrize(
    ("name", "text", "breach"),
    [
        ("spec/source.py", "from nifbuild.train import run", "imports nifbuild.train"),
        ("nn/fourier.py", "def f():\n    import nifbuild.spec.ops", "knows of specs"),
        ("spec/ops/conv.py", "import torch", "loads torch"),
        ("spec/ops/conv.py", "from nifbuild.nn import X", "imports nifbuild.nn"),
        ("cli/train.py", "from torch import nn", "loads torch"),
        ("data/images.py", "from nifbuild.cli import app", "imports nifbuild.cli"),
    ],
)
def test_this_test_can_fail(name, text, breach):
    assert any(breach in found for found in breaches({name: text}))


def test_an_op_may_import_what_it_builds():
    text = "def build(self):\n    import torch\n    from nifbuild.nn import X"
    assert breaches({"spec/ops/conv.py": text}) == []


@pytest.mark.parametrize(
    "command",
    [
        ["--help"],
        ["--version"],
        ["validate", "specs/resnet18_nif.yaml"],
        ["schema"],
        ["resolve", "specs/resnet18.yaml"],
        ["resolve", "specs/resnet18.yaml", "--explain", "conv1.stride"],
        ["bench", "--help"],
        ["ablate", "run", "--help"],
        ["validate", "specs/ablations/digits.yaml"],
    ],
)
def test_light_commands_load_nothing_heavy(command):
    code = f"""
        import sys
        sys.argv = ["nifbuild", *{command!r}]
        from nifbuild.cli.app import main
        try:
            main()
        except SystemExit as stop:
            assert not stop.code, stop.code
        print(sorted({HEAVY!r} & set(sys.modules)), file=sys.stderr)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip() == "[]"


def test_inspect_loads_torch_and_nothing_of_training():
    code = """
        import sys
        sys.argv = ["nifbuild", "inspect", "specs/resnet18_nif.yaml", "--json"]
        from nifbuild.cli.app import main
        try:
            main()
        except SystemExit as stop:
            assert not stop.code, stop.code
        heavy = {"torch", "accelerate", "datasets", "kornia", "torchmetrics", "sklearn"}
        print(sorted(heavy & set(sys.modules)), file=sys.stderr)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip() == "['torch']"
