"""Ops of other installed packages: found by their entry points, trained, kept in runs."""

import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from nifbuild.spec.ops import installed, kinds_of
from nifbuild.spec.resolve import load_spec

PAGE = (Path(__file__).parents[1] / "examples" / "language.md").read_text()
(POINTS,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
(MODULE,) = re.findall(r"```python\n# my_ops.py\n(.*?)```", PAGE, re.DOTALL)
MODULES = """
import torch


class MaxoutModule(torch.nn.Module):
    def __init__(self, pieces, channels):
        super().__init__()
        self.pieces = pieces
        self.factor = torch.nn.Parameter(torch.ones(channels))

    def forward(self, x):
        parts = x.unflatten(1, (-1, self.pieces)).amax(dim=2)
        return parts * self.factor.view(-1, *(1 for _ in x.shape[2:]))
"""
OTHERS = '''
from typing import Literal

from my_ops import Layer, Maxout


class Started(Maxout):
    op: Literal["started"]

    start: tuple[float, ...] = (1.0,)
    """What the factors start at, in turn."""


class NoLayer:
    pass


class Wrong(Maxout):
    op: Literal["rong"]


class Linear(Maxout):
    op: Literal["called_as_another"]


class Hollow(Layer):
    op: Literal["hollow"]


class Broken(Maxout):
    op: Literal["broken"]

    def output_shape(self, x):
        return x.chanels


class NoShape(Maxout):
    op: Literal["no_shape"]

    def output_shape(self, x):
        return (3, 4)


class Unbuilt(Maxout):
    op: Literal["unbuilt"]

    def build(self, x):
        return self.nothing
'''
OTHER_POINTS = """
conv = other_ops:Maxout
started = other_ops:Started
no_layer = other_ops:NoLayer
wrong = other_ops:Wrong
called_as_another = other_ops:Linear
hollow = other_ops:Hollow
broken = other_ops:Broken
no_shape = other_ops:NoShape
unbuilt = other_ops:Unbuilt
absent = other_ops:Absent
unimportable = not_there:Op
twice = my_ops:Maxout
"""
SPEC = """
version: 1
name: own
data: {source: digits, size: [8, 8], limit: {train: 640}}
input: {channels: 1}
vars: {num_classes: 10}
defaults: {maxout: {pieces: 2}}
model:
  - {id: stem, op: conv, out_channels: 16}
  - {id: act, op: maxout}
  - id: unit
    op: residual
    body: [{id: conv, op: conv, out_channels: 16}, {id: act, op: maxout}]
  - global_avg_pool
  - flatten
  - {id: head, op: linear, out_features: $num_classes}
train: {epochs: 5, batch_size: 32, optimizer: {lr: 0.02}, device: cpu, trackers: []}
"""


def install(folder: Path, name: str, points: str, **modules: str) -> None:
    info = folder / f"{name.replace('-', '_')}-0.3.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.3\n")
    (info / "entry_points.txt").write_text(points)
    for module, text in modules.items():
        (folder / f"{module}.py").write_text(text)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder of installed packages."""
    folder = tmp_path_factory.mktemp("site")
    points = POINTS.replace('[project.entry-points."nifbuild.ops"]', "[nifbuild.ops]")
    points = points.replace('"', "") + OTHER_POINTS
    install(folder, "my-ops", points, my_ops=MODULE, my_modules=MODULES, other_ops=OTHERS)
    install(folder, "same-ops", "[nifbuild.ops]\ntwice = my_ops:Maxout\n")
    return folder


def python(code: str, folder: Path, *paths: Path) -> str:
    """What a program prints in a process that has these packages."""
    paths = (*paths, Path(__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths)), "COLUMNS": "100"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


CLI = """
import sys
sys.argv = ["nifbuild", *{arguments!r}]
from nifbuild.cli.app import main
try:
    main()
except SystemExit as stop:
    print("exit code", stop.code or 0)
print("torch" in sys.modules, "my_ops" in sys.modules)
"""


def nifbuild(*arguments: str, folder: Path, site: Path | None) -> str:
    code = "import sys\nsys.stderr = sys.stdout\n" + CLI.format(arguments=list(arguments))
    return python(code, folder, *([site] if site else []))


def test_it_trains_and_is_kept_in_the_run(site, tmp_path):
    (tmp_path / "own.yaml").write_text(SPEC)
    code = """
        import json
        from pathlib import Path
        import torch
        import nifbuild
        from nifbuild.ablate.origins import code_fingerprint, versions

        spec = nifbuild.load_spec("own.yaml")
        torch.manual_seed(0)
        model = nifbuild.build_model(spec)
        x = torch.randn(2, 1, 8, 8)
        stem = model.stem(x)
        parts = torch.stack((stem[:, ::2], stem[:, 1::2])).amax(0)
        torch.testing.assert_close(model.act(stem), parts)
        print(json.dumps(list(model.state_dict())))
        nifbuild.train_spec("own.yaml", out="run")
        weights = nifbuild.load("run").state_dict()
        (factor,) = [w for name, w in weights.items() if "unit.act.factor" in name]
        assert "maxout" in Path("run/spec.yaml").read_text()
        evaluated = nifbuild.evaluate_run("run").document()
        environment = json.loads(next(Path("run").glob("environment*.json")).read_text())
        inspected = nifbuild.inspect("own.yaml").document()
        print(json.dumps({
            "moved": bool((factor != 1).any()),
            "top1": evaluated["top1"],
            "same": evaluated["top1"] == nifbuild.evaluate_run("run").document()["top1"],
            "package": json.dumps(environment).count('"my-ops": "0.3"'),
            "macs": [row["macs"] for row in inspected["layers"] if row["op"] == "maxout"],
            "studies": versions()["code"] != code_fingerprint(),
        }))
    """
    *_, keys, figures = python(code, tmp_path, site).strip().splitlines()
    assert json.loads(keys)[:4] == ["stem.weight", "stem.bias", "act.factor", "unit.conv.weight"]
    found = json.loads(figures)
    assert found["moved"] and found["same"] and found["package"] and found["studies"]
    assert found["top1"] > 0.2  # by chance: a tenth
    assert found["macs"] == [8 * 64, 8 * 64]
    # Without the package the run says what it lacks.
    told = nifbuild("evaluate", "run", folder=tmp_path, site=None)
    assert "unknown op 'maxout'" in told and "exit code 2" in told


def test_validate_imports_only_what_a_spec_needs(site, tmp_path):
    (tmp_path / "own.yaml").write_text(SPEC)
    (tmp_path / "plain.yaml").write_text("version: 1\nblocks: {b: {body: relu}}\nmodel: [b, relu]")
    told = nifbuild("validate", "own.yaml", folder=tmp_path, site=site)
    assert "own.yaml: ok" in told and told.endswith("False True\n")
    told = nifbuild("validate", "plain.yaml", folder=tmp_path, site=site)
    assert "plain.yaml: ok" in told and told.endswith("False False\n")


WRONG = """
from nifbuild.errors import SpecError
from nifbuild.spec.resolve import load_spec
from nifbuild.compile import build_model
for text in {texts!r}:
    with open("wrong.yaml", "w") as file:
        file.write("version: 1\\ninput: {{channels: 6, size: 8}}\\n" + text)
    try:
        spec = load_spec("wrong.yaml")
        build_model(spec)
        print("ok")
    except SpecError as error:
        print(str(error))
    print("--")
"""


@pytest.fixture(scope="module")
def told(site, tmp_path_factory):
    """What is said of each of these specs, in one process."""
    folder = tmp_path_factory.mktemp("wrong")
    printed = python(WRONG.format(texts=list(MESSAGES)), folder, site)
    return dict(zip(MESSAGES, printed.split("--\n"), strict=False))


HAS = "the installed package my-ops 0.3 has it, and it cannot be loaded: "
MESSAGES = {
    "model: [{op: maxout, pieces: 4}]":
        "wrong.yaml:3:30: maxout: 4 pieces do not divide 6 channels\n  choose pieces that divide",
    "model: [{op: maxout, pices: 4}]":
        "model[0].pices: unknown field 'pices'\n  did you mean 'pieces'?\n"
        "  fields of maxout: id, from, pieces",
    "model: [{op: maxout, pieces: 0}]": "model[0].pieces: expected at least 1, got 0\n"
        "  pieces: Channels that one of the output is the largest of (default 2)",
    "model: [{op: residual, body: [{op: started, start: [a]}]}]":
        'model[0].body[0].start[0]: expected a number, got "a"\n  start: What the factors start at',
    "model: [{op: maxout, kind: x}]": "unknown field 'kind'\n  maxout has no kinds: leave it out",
    "model: [maxuot]": "unknown op 'maxuot'\n  did you mean 'maxout'?\n  ops: conv,",
    "model: [{op: started, start: [1, 0.5]}]": "ok",
    "model: [relu]\npatch: [{match: relu, set: {op: maxout, pieces: 3}}]": "ok",
    "model: [relu]\npatch: [{match: relu, set: {op: residual, body: [{op: maxout, pieces: 1}]}}]":
        "ok",
    "model: [relu]\npatch: [{where: {op: maxout}, set: {pieces: 3}}]": "finds 0",
    "model: [{op: conv, out_channels: 6}]": "ok",
    "model: [maxout]\nblocks: {maxout: {body: {op: conv, kernel_size: 99, padding: 0}}}":
        "the 99x99 kernel is larger",
    "defaults: {maxout: {pieces: 3}}\nmodel: [maxout]": "ok",
    "defaults: {maxout: {pices: 3}}\nmodel: [maxout]":
        "unknown field 'pices'\n  did you mean 'pieces'?",
    "model: [no_layer]":
        f"unknown op 'no_layer'\n  {HAS}NoLayer is no subclass of nifbuild.spec.ops.Layer",
    "model: [wrong]": f"{HAS}Wrong has no field `op: Literal['wrong']`",
    "model: [hollow]": f"{HAS}Hollow has no method output_shape and no build",
    "model: [called_as_another]": f"{HAS}an op of nifbuild has a class Linear, too",
    "model: [absent]": f"{HAS}AttributeError: module 'other_ops' has no attribute 'Absent'",
    "model: [unimportable]": f"{HAS}ModuleNotFoundError: No module named 'not_there'",
    "model: [twice]":
        "several installed packages have an op 'twice': my-ops 0.3, same-ops 0.3; keep one",
    "model: [broken]":
        "wrong.yaml:3:9: broken: broken of the installed package my-ops 0.3 cannot tell the shape "
        "of its output: AttributeError: 'Shape' object has no attribute 'chanels'",
    "model: [no_shape]":
        "no_shape of the installed package my-ops 0.3 tells a shape that is none: (3, 4)",
    "model: [unbuilt]":
        "wrong.yaml:3:9: unbuilt: unbuilt of the installed package my-ops 0.3 cannot be built: "
        "AttributeError(",
}  # fmt: skip


@pytest.mark.parametrize("text", MESSAGES)
def test_what_is_said(told, text):
    assert MESSAGES[text] in told[text]


def test_explain_and_schema_know_them(site, tmp_path):
    shown = nifbuild("explain", "maxout", folder=tmp_path, site=site)
    assert shown.startswith("maxout (op of my-ops 0.3)\n  The largest of several channels")
    assert "pieces: whole number >= 1; default 2" in shown and "False True" in shown
    listed = " ".join(nifbuild("explain", folder=tmp_path, site=site).split())
    assert "ops of installed packages" in listed and "From my-ops 0.3." in listed
    assert "ModuleNotFoundError" in listed
    failing = nifbuild("explain", "absent", folder=tmp_path, site=site)
    assert f"{HAS}AttributeError" in failing and "exit code 2" in failing
    code = """
        import json, jsonschema
        from nifbuild.spec.schema import json_schema
        from nifbuild.spec.reference.markdown_page import reference_page
        check = jsonschema.Draft202012Validator(json_schema())
        print([check.is_valid({"model": [op]}) for op in (
            {"op": "maxout", "pieces": 3}, {"op": "maxout", "pieces": "$n"}, "maxout",
            {"op": "maxout", "pieces": 0}, {"op": "maxout", "pices": 3})])
        print("maxout" in reference_page())
    """
    assert python(code, tmp_path, site) == "[True, True, True, False, False]\nFalse\n"


def test_packages_are_not_looked_at_for_a_spec_without_mistakes(monkeypatch):
    """To look takes longer than to check a small spec."""

    def look():
        raise AssertionError("looked")

    monkeypatch.setattr(installed, "offered", look)
    for name in ("architectures/resnet18", "resnet18_nif", "architectures/convnext_tiny"):
        assert load_spec(f"nifbuild:{name}").graph.nodes
    with pytest.raises(AssertionError, match="looked"):
        kinds_of("cnov")
