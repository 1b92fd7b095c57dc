"""What a newcomer does in an empty folder with the installed package alone, as the README shows it.

Photographs are drawn, a spec is begun, trained twice, compared, evaluated, analysed and exported.
What comes out is held against the photographs, against files that another step wrote, and against
onnxruntime.

Usage, in an empty folder: python -P first_steps.py README.md
"""

import csv
import json
import random
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image, ImageDraw
from safetensors import safe_open

import nifbuild

CLASSES = ["discs", "stripes"]
PHOTOGRAPHS = 40
RUN, SECOND = Path("runs/flowers"), Path("runs/again")


def main(readme: Path) -> None:
    """Goes all the way; an AssertionError says where something is not as promised."""
    assert not list(Path.cwd().iterdir()), f"{Path.cwd()} is not empty"
    package = Path(nifbuild.__file__).parent
    assert package.parent.name == "site-packages", f"{package} is not an installed package"
    steps = Steps(readme)
    draw_photographs(Path("photos"))
    begin(steps, package / "specs")
    train(steps)
    compare(steps)
    evaluate(steps)
    analyze(steps)
    export(steps)
    written = ["flowers.onnx", "flowers.onnx.md", "flowers.yaml", "images.csv", "page.html"]
    written += ["photos", "runs"]
    assert sorted(path.name for path in Path.cwd().iterdir()) == written


class Steps:
    """Runs command lines of the README."""

    def __init__(self, readme: Path):
        self.shown = " ".join(readme.read_text(encoding="utf-8").split())

    def run(self, line: str, *names: str | Path, more: str = "") -> str:
        """What a line of the README prints, with names in the place of its words in capitals."""
        assert line in self.shown, f"the README does not show `{line}`"
        given = iter(names)
        words = [str(next(given)) if word.isupper() else word for word in line.split()]
        done = subprocess.run([*words, *more.split()], capture_output=True, text=True)
        told = f"{' '.join(words)} {more}\n{done.stdout}{done.stderr}"
        assert done.returncode == 0 and "Traceback" not in told, told
        return done.stdout


class Page(HTMLParser):
    """An HTML page: its text, how many pictures it has, and what it would have to load."""

    def __init__(self, path: Path):
        super().__init__()
        self.text, self.pictures, self.loads = "", 0, list[str]()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_data(self, data: str) -> None:
        """Collects the text."""
        self.text += data

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Counts pictures, and notes what lies elsewhere."""
        self.pictures += tag in ("img", "svg")
        for name, value in attrs:
            if name in ("src", "srcset") or (tag == "link" and name == "href"):
                self.loads += [] if str(value).startswith("data:") else [str(value)]


def document(path: Path) -> Any:
    """What a JSON file holds."""
    return json.loads(path.read_text(encoding="utf-8"))


def draw_photographs(folder: Path) -> None:
    """Discs and stripes of any place, size and colours, in a folder for each class."""
    chance = random.Random(0)
    for name in CLASSES:
        (folder / name).mkdir(parents=True)
        for number in range(PHOTOGRAPHS):
            image = Image.new("RGB", (48, 40), tuple(chance.choices(range(100), k=3)))
            draw = ImageDraw.Draw(image)
            colour = tuple(chance.choices(range(150, 256), k=3))
            left, top, side = chance.randrange(16), chance.randrange(10), chance.randrange(14, 30)
            if name == "discs":
                draw.ellipse((left, top, left + side, top + side), fill=colour)
            else:
                for height in range(top, 40, 8):
                    draw.line((0, height, 48, height), fill=colour, width=3)
            image.save(folder / name / f"{number}.jpg")


def begin(steps: Steps, specs: Path) -> None:
    """The list of specs has all of the package's files; what a new one proposes can be taken."""
    listed = json.loads(steps.run("nifbuild specs", more="--json"))["specs"]
    names = [path.relative_to(specs).with_suffix("").as_posix() for path in specs.rglob("*.yaml")]
    assert len(names) > 40
    assert sorted(one["name"] for one in listed) == sorted(f"nifbuild:{name}" for name in names)

    steps.run("nifbuild new NAME --from resnet18_nif", "flowers")
    spec = Path("flowers.yaml")
    text = spec.read_text(encoding="utf-8")
    for proposed, taken in {
        "# vars:": "vars:",
        "#   width: 64": "  width: 8",
        "# input: {size: [224, 224]}": "input: {size: [32, 32]}",
        "# train:": "train:",
        "#   epochs: 12": "  epochs: 6",
        "#   batch_size: 64": "  batch_size: 16",
    }.items():
        assert text.count(f"\n{proposed}\n") == 1, f"no line `{proposed}` in\n{text}"
        text = text.replace(f"\n{proposed}\n", f"\n{taken}\n")
    spec.write_text(text, encoding="utf-8")


def train(steps: Steps) -> None:
    """Two runs tell the classes apart, which have the names of the folders."""
    assert "(`--data photos/`)" in steps.shown
    for run, more in ((RUN, ""), (SECOND, f"--seed 1 --out {SECOND}")):
        told = steps.run("nifbuild train SPEC --data", "flowers.yaml", more=f"photos/ {more}")
        assert f"nifbuild evaluate {run}" in told
        data, figures = document(run / "data.json"), document(run / "metrics.json")
        assert data["class_names"] == CLASSES
        assert sum(data["splits"].values()) == len(CLASSES) * PHOTOGRAPHS
        assert figures["num_samples"] == data["splits"]["test"] and figures["epoch"] <= 6
        assert figures["top1"] > 0.85, told
        weights = run / "checkpoints" / figures["checkpoint"] / "model.safetensors"
        with safe_open(weights, framework="numpy") as file:
            assert file.get_tensor("fc.weight").shape == (len(CLASSES), 8 * 8)
            assert file.get_tensor("conv1.weight").shape == (8, 3, 3, 3)


def compare(steps: Steps) -> None:
    """Tables and a page that needs nothing else say what the runs' own files say."""
    table = steps.run("nifbuild runs")
    told = steps.run("nifbuild compare RUN RUN -o page.html", RUN, SECOND)
    page = Page(Path("page.html"))
    assert page.loads == [] and page.pictures >= 1
    for run in (RUN, SECOND):
        loss = f"{document(run / 'metrics.json')['loss']:.4f}"
        for text in (table, told, page.text):
            assert run.name in text and loss in text, (run, loss, text)
    assert "train.seed" in told and "train.seed" in page.text


def evaluate(steps: Steps) -> None:
    """The figures again, to the last digit; and image by image they come to the same."""
    told = steps.run("nifbuild evaluate RUN", RUN, more="--csv images.csv --json")
    again, recorded = json.loads(told), document(RUN / "metrics.json")
    for figure in ("top1", "loss", "num_samples"):
        assert again[figure] == recorded[figure], (figure, again, recorded)
    with Path("images.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == recorded["num_samples"]
    hits = sum(row["class"] == row["predicted"] for row in rows)
    assert hits / len(rows) == recorded["top1"]
    assert all(Path(row["image"]).parent.name == row["class"] for row in rows), rows[0]


def analyze(steps: Steps) -> None:
    """Each of the 13 filters as large as the image has its mass in windows up to its grid."""
    told = steps.run("nifbuild analyze RUN --against RUN2", RUN, SECOND)
    page = Page(RUN / "analysis" / "report.html")
    assert page.loads == [] and page.pictures >= 3 and "analysis/report.html" in told
    layers = document(RUN / "analysis" / "analysis.json")["layers"]
    assert [layer["trained"]["grid"][0] for layer in layers] == [32] * 4 + [16] * 3 + [8] * 3 + [
        4
    ] * 3
    for layer in layers:
        assert layer["path"] in told and layer["path"] in page.text
        for model in ("trained", "initial", "against"):
            shares = layer[model]["mass"]["mean"]
            assert shares == sorted(shares) and 0 < shares[0] < shares[-1] == 1


def export(steps: Steps) -> None:
    """By onnxruntime, one finds in photographs what the run finds, and what they show."""
    told = steps.run("nifbuild export RUN --format onnx", RUN)
    assert told.startswith("flowers.onnx")
    model, session = nifbuild.load(RUN), onnxruntime.InferenceSession("flowers.onnx")
    (taken,) = session.get_inputs()
    assert taken.shape == ["batch", 3, 32, 32]
    hits = 0
    for true, name in enumerate(CLASSES):
        for photograph in sorted(Path("photos", name).iterdir()):
            image = model.preprocess(photograph)
            (logits,) = session.run(None, {taken.name: image.numpy()})
            assert np.abs(logits - model(image).detach().numpy()).max() < 1e-3
            hits += int(logits.argmax()) == true
    assert hits > 0.85 * len(CLASSES) * PHOTOGRAPHS


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
