"""Pictures of networks: what is shown, and that one can read it."""

import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import ClassVar, Literal

import matplotlib.image
import pytest
from typer.testing import CliRunner

from nifbuild import load_spec
from nifbuild.cli.app import app
from nifbuild.report.drawing.boxes import MAX_BOXES, blocks
from nifbuild.report.drawing.picture import picture
from nifbuild.report.drawing.render import mermaid, svg
from nifbuild.spec.graph import INPUT, Graph, Node
from nifbuild.spec.ops import Layer, Shape
from nifbuild.spec.ops.base import Family

ROOT = Path(__file__).parents[2]
SPECS = sorted((ROOT / "specs/architectures").glob("*.yaml"))
SPECS += [ROOT / "specs/resnet18_nif.yaml", ROOT / "specs/paper/convnext_tiny_split.yaml"]
PAGE = re.findall(
    r"```yaml\n(# (\w+)\.yaml: .*?)```", (ROOT / "examples/language.md").read_text(), re.S
)


@pytest.fixture(
    scope="module", params=[*SPECS, *(name for _, name in PAGE)], ids=lambda p: Path(p).stem
)
def resolved(request, tmp_path_factory):
    if isinstance(request.param, Path):
        return load_spec(request.param)
    path = tmp_path_factory.mktemp("page") / f"{request.param}.yaml"
    path.write_text(next(text for text, name in PAGE if name == request.param))
    return load_spec(path)


def leaves(block):
    return [leaf for part in block.parts for leaf in leaves(part)] if block.parts else [block]


def boxes(drawn):
    """The rectangles of ops and of closed blocks: those with a centred line at the top."""
    heads = {(t.x, t.y - 15) for t in drawn.texts if t.anchor == "middle"}
    return [
        r
        for r in drawn.rects
        if any(abs(r.x + r.width / 2 - x) < 0.01 and abs(r.y - y) < 0.01 for x, y in heads)
    ]


def overlap(a, b):
    return (
        min(a.x + a.width, b.x + b.width) - max(a.x, b.x) > 0.01
        and min(a.y + a.height, b.y + b.height) - max(a.y, b.y) > 0.01
    )


def crosses(start, end, box):
    """Whether a segment, parallel to an axis, passes through the inside of a box."""
    (x0, x1), (y0, y1) = sorted((start[0], end[0])), sorted((start[1], end[1]))
    inside_x = x1 > box.x + 0.1 and x0 < box.x + box.width - 0.1
    inside_y = y1 > box.y + 0.1 and y0 < box.y + box.height - 0.1
    return inside_x and inside_y


@pytest.mark.parametrize("depth", [None, 0, 1, 2, 9])
def test_pictures_are_legible(resolved, depth):
    """Boxes do not touch, edges run beside them and along the axes, all of it is on the page."""
    model = blocks(resolved.graph, depth)
    drawn = picture(model, resolved.graph, resolved.name)
    found = boxes(drawn)
    assert len(found) == model.num_boxes
    for index, box in enumerate(found):
        assert not any(overlap(box, other) for other in found[:index])
        assert 0 <= box.x <= box.x + box.width <= drawn.width
        assert 0 <= box.y <= box.y + box.height <= drawn.height
    for path in drawn.paths:
        for start, end in zip(path.points, path.points[1:], strict=False):
            assert min(abs(start[0] - end[0]), abs(start[1] - end[1])) < 0.01
            assert not any(crosses(start, end, box) for box in found)
            assert max(start[0], end[0]) <= drawn.width and max(start[1], end[1]) <= drawn.height


@pytest.mark.parametrize("depth", [None, 0, 9])
def test_every_edge_of_the_graph_is_drawn_and_no_other(resolved, depth):
    """The Mermaid text against the nodes of the graph: which boxes feed which."""
    graph, model = resolved.graph, blocks(resolved.graph, depth)
    text = mermaid(model, graph)
    owner = {index: f"n{leaf.nodes[0]}" for leaf in leaves(model) for index in leaf.nodes}
    drawn = set(re.findall(r"^ +(\w+) -->\|[^|]+\| (\w+)$", text, re.M))
    passed = {i: n.inputs[0] for i, n in enumerate(graph.nodes) if n.op.op == "identity"}

    def maker(index):
        while index in passed:
            index = passed[index]
        return "input" if index < 0 else owner.get(index, "another of the fold")

    expected = {
        (maker(source), owner[index])
        for index, node in enumerate(graph.nodes)
        for source in node.inputs
        if index in owner and maker(source) != owner[index]
    }
    within = {pair for pair in expected if pair[0] != "another of the fold"}
    assert within <= drawn
    after_folds = {target for source, target in expected if source == "another of the fold"}
    assert {target for _, target in drawn - within} <= after_folds | {"output"}
    assert text.count("subgraph") == len(re.findall(r"^ +end$", text, re.M))
    assert set(re.findall(r":::(\w+)", text)) <= set(re.findall(r"classDef (\w+)", text))


def test_without_a_depth_the_picture_stays_legible(resolved):
    model = blocks(resolved.graph)
    assert model.num_boxes <= MAX_BOXES
    numbers = [blocks(resolved.graph, depth).num_boxes for depth in range(6)]
    assert numbers == sorted(numbers)
    assert model.num_boxes == max(n for n in numbers if n <= MAX_BOXES)


def plain(text):
    return text.replace("\u00d7", "x").replace("\u2013", "-")


def texts(name, depth=None):
    resolved = load_spec(ROOT / "specs" / name)
    drawn = picture(blocks(resolved.graph, depth), resolved.graph, resolved.name)
    return [plain(text.text) for text in drawn.texts], drawn


def test_equal_blocks_are_drawn_once_with_their_number():
    shown, _ = texts("architectures/resnet50.yaml")
    assert [t for t in shown if t.startswith("x")] == ["x2", "x3", "x5", "x2"]
    shown, _ = texts("architectures/densenet121.yaml")
    assert [t for t in shown if t.startswith("x")] == ["x6", "x12", "x24", "x16"]
    assert "denseblock1.denselayer1 - denselayer6" in shown
    shown, _ = texts("architectures/convnext_tiny.yaml")
    assert [t for t in shown if t.startswith("x")] == ["x3", "x3", "x9", "x3"]


def test_implicit_filters_stand_out_and_say_their_size():
    shown, drawn = texts("resnet18_nif.yaml")
    assert shown.count("implicit_frequency 8x8, 128") == 3
    assert shown.count("conv 3x3, 128, stride 2") == 1
    colours = [box.fill for box in boxes(drawn)]
    assert colours.count("#f58a1f") == 11  # of 13; the two equal blocks of layer1 are one
    shown, _ = texts("resnet18_nif.yaml", depth=0)
    assert "3 x implicit_frequency 8x8" in shown


def test_shapes_stand_on_the_edges():
    shown, _ = texts("architectures/resnet18.yaml")
    for shape in ("64x112x112", "64x56x56", "128x28x28", "256x14x14", "512x7x7", "512"):
        assert shape in shown
    assert {"input 3x224x224", "output 1000"} <= set(shown)


def test_svg_is_what_was_laid_out():
    resolved = load_spec(ROOT / "specs/resnet18_nif.yaml")
    drawn = picture(blocks(resolved.graph), resolved.graph, resolved.name)
    root = ElementTree.fromstring(svg(drawn))
    space = "{http://www.w3.org/2000/svg}"
    assert [t.text for t in root.iter(f"{space}text")] == [t.text for t in drawn.texts]
    assert len(list(root.iter(f"{space}polyline"))) == len(drawn.paths)
    assert len(list(root.iter(f"{space}rect"))) == len(drawn.rects) + 1  # the page
    assert root.get("viewBox") == f"0 0 {drawn.width:g} {drawn.height:g}"


def call(*arguments):
    return CliRunner().invoke(app, ["graph", *map(str, arguments)])


def test_the_command_writes_each_format(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    spec = ROOT / "specs/resnet18_nif.yaml"
    assert call(spec).exit_code == 0
    assert (tmp_path / "resnet18_nif.svg").read_text().startswith("<svg")
    assert call(spec, "-o", "a.mmd", "--depth", 0).exit_code == 0
    written = plain((tmp_path / "a.mmd").read_text())
    assert '["layer1<br/>4 x implicit_frequency 16x16' in written
    done = call(spec, "-o", "a.png", "--depth", 0, "--set", "input.size=64", "--data", spec)
    assert done.exit_code == 2  # the size is the data's
    architecture = ROOT / "specs/architectures/resnet18.yaml"
    options = ("--set", "vars.width=8", "--data", ROOT / "specs/data/digits.yaml")
    assert call(architecture, "-o", "a.png", "--depth", 0, *options).exit_code == 0
    image = matplotlib.image.imread(tmp_path / "a.png")
    assert min(image.shape[:2]) > 300 and image[..., :3].std() > 0.05


@pytest.mark.parametrize(
    ("out", "code", "word"),
    [("a.pdf", 2, "end it in .svg, .png, .mmd"), ("missing/a.svg", 2, "there is no folder")],
)
def test_the_command_says_what_is_wrong(tmp_path, out, code, word):
    command = [sys.executable, "-m", "nifbuild", "graph", str(ROOT / "specs/resnet18_nif.yaml")]
    done = subprocess.run(
        [*command, "-o", str(tmp_path / out)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == code
    assert word in done.stderr and "Traceback" not in done.stderr


def test_drawing_loads_no_torch(tmp_path):
    code = "import sys; from nifbuild.report.drawing.render import save; "
    code += "from nifbuild import load_spec; from pathlib import Path; "
    code += f"save(load_spec('specs/resnet18.yaml'), Path({str(tmp_path / 'a.svg')!r})); "
    code += "sys.exit(bool({'torch', 'matplotlib'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_a_model_of_identities(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("version: 1\ninput: {channels: 3, size: 8}\nmodel: [identity, identity]\n")
    resolved = load_spec(path)
    model = blocks(resolved.graph)
    assert boxes(picture(model, resolved.graph, "a"))
    assert "-->" in mermaid(model, resolved.graph)


class Made(Layer):
    """An op that drawing has never heard of."""

    op: Literal["made"] = "made"
    kernel_size: tuple[int, int] = (5, 7)
    family: ClassVar = Family("made", "#123456", stands_out=True)

    def filter_size(self, x):
        return self.kernel_size


def test_an_op_says_itself_how_it_looks():
    shape = Shape(3, (8, 8))
    graph = Graph(shape, (Node("stem", Made(), (INPUT,), (shape,), shape, ()),), 0, {})
    model = blocks(graph)
    drawn = picture(model, graph, "net")
    (box,) = boxes(drawn)
    assert (box.fill, box.stroke_width) == ("#123456", 1.8)
    assert {"made", "made 5x7"} <= {plain(text.text) for text in drawn.texts}  # legend and box
    assert "classDef made fill:#123456" in mermaid(model, graph)
