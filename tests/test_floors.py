"""Imports point one way, without circles: a spec becomes a model, a run, figures, a report."""

import ast
import graphlib
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "nifbuild"
FLOORS = ["errors", "geometry", "spec", "nn", "compile", "replace", "data", "machine", "runs"]
FLOORS += ["evaluate", "train", "report", "ablate", "cli"]
"""Each may import those before it."""
PUBLIC = ["__init__", "__main__"]
"""Names and doors to all of them."""
HEAVY = {"torch", "accelerate", "datasets", "kornia", "torchmetrics", "sklearn", "matplotlib"}
LIGHT_FLOORS = {"errors", "geometry", "spec", "compile", "cli"}


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
    """Modules on no floor, imports that point upwards, and heavy ones where loading is fast."""
    found = []
    for name, text in files.items():
        own = name.split("/")[0].removesuffix(".py")
        if own in PUBLIC:
            continue
        if own not in FLOORS:
            found.append(f"{name} is on no floor")
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


def circle(files: dict[str, str]) -> list[str]:
    """Modules that import each other in a circle, lazily or for types alone too; none: empty."""
    modules = {_module(name): text for name, text in files.items()}
    graph = {
        module: {m for m in _imported(text, modules) if m != module}
        for module, text in modules.items()
        if module not in ("nifbuild", "nifbuild.__main__")
    }
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def _imported(text: str, modules: dict[str, str]) -> set[str]:
    """The modules that a file names: of `from package import module`, the module."""
    found = {name for name, _ in imports(ast.parse(text))} & modules.keys()
    meant = {f"{m}.{alias}" for m, alias in _from_imports(ast.parse(text))} & modules.keys()
    packages = {m for m, alias in _from_imports(ast.parse(text)) if f"{m}.{alias}" not in modules}
    return found - ({name.rpartition(".")[0] for name in meant} - packages)


def _from_imports(tree: ast.Module) -> list[tuple[str, str]]:
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
    return [(node.module or "", alias.name) for node in nodes for alias in node.names]


def _module(name: str) -> str:
    module = "nifbuild." + name.removesuffix(".py").replace("/", ".")
    return module.removesuffix(".__init__")


def package_files() -> dict[str, str]:
    return {p.relative_to(PACKAGE).as_posix(): p.read_text() for p in PACKAGE.rglob("*.py")}


def test_imports_point_one_way():
    files = package_files()
    assert len(files) > 30
    assert breaches(files) == []


def test_no_modules_import_each_other():
    assert circle(package_files()) == []


@pytest.mark.parametrize(
    ("name", "text", "breach"),
    [
        ("spec/source.py", "from nifbuild.train import run", "imports nifbuild.train"),
        ("nn/fourier.py", "def f():\n    import nifbuild.spec.ops", "knows of specs"),
        ("spec/ops/conv.py", "import torch", "loads torch"),
        ("spec/ops/conv.py", "from nifbuild.nn import X", "imports nifbuild.nn"),
        ("cli/train.py", "from torch import nn", "loads torch"),
        ("data/images.py", "from nifbuild.cli import app", "imports nifbuild.cli"),
        ("evaluate/sizes.py", "def f():\n    from nifbuild.train import run", "nifbuild.train"),
        ("runs/lock.py", "if TYPE_CHECKING:\n    from nifbuild.report import x", "report"),
        ("utils.py", "", "is on no floor"),
        ("helpers/x.py", "", "is on no floor"),
    ],
)
def test_this_test_can_fail(name, text, breach):
    assert any(breach in found for found in breaches({name: text}))


@pytest.mark.parametrize(
    "line",
    [
        "from nifbuild.train.b import f",
        "def g():\n    import nifbuild.train.b",
        "if TYPE_CHECKING:\n    from nifbuild.train import b",
    ],
)
def test_circles_are_seen(line):
    files = {"train/a.py": line, "train/b.py": "import nifbuild.train.c"}
    assert circle(files) == []
    back = {"train/c.py": "from nifbuild.train.a import x"}
    assert set(circle(files | back)) == {f"nifbuild.train.{name}" for name in "abc"}


def test_an_op_may_import_what_it_builds():
    text = "def build(self):\n    import torch\n    from nifbuild.nn import X"
    assert breaches({"spec/ops/conv.py": text}) == []


@pytest.mark.parametrize(
    "command",
    [
        ["--help"],
        ["--version"],
        ["validate", "specs/resnet18_nif.yaml"],
        ["validate", "specs/resnet18_nif.yaml", "--data", "specs"],  # as folders of classes
        ["schema"],
        ["resolve", "specs/resnet18.yaml"],
        ["resolve", "specs/resnet18.yaml", "--explain", "conv1.stride"],
        ["explain"],
        ["explain", "conv"],
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
