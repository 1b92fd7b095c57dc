"""The examples run as they stand."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nifbuild import build_model, load_spec
from nifbuild.errors import SpecError

FOLDER = Path(__file__).parents[1] / "examples"
PRINTS = {
    "layer_in_your_model.py": r"test accuracy: 9\d\.\d%",
    "unet_reach.py": r"3x3 .* IoU 3\d\.\d%(.|\n)*implicit .* IoU (9\d\.\d|100\.0)%",
    "convs_of_any_model.py": r"replaced 1 convolutions(.|\n)*same shape: True\nas it was: True",
}
# Takes minutes: what it does is run at small size in test_ground_truth.
SLOW = {"distant_pair.py"}
PAGE = (FOLDER / "language.md").read_text()
BLOCKS = re.findall(r"```yaml\n(.*?)```(?:\n```text\n(.*?)```)?", PAGE, re.DOTALL)


def test_every_example_is_run():
    assert {path.name for path in FOLDER.glob("*.py")} == set(PRINTS) | SLOW


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow) if n == "unet_reach.py" else n for n in PRINTS],
)
def test_example_runs(name):
    done = subprocess.run(
        [sys.executable, "-W", "error", str(FOLDER / name)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(PRINTS[name], done.stdout), done.stdout


@pytest.mark.parametrize(("text", "errors"), BLOCKS, ids=lambda text: text.split("\n")[0])
def test_specs_of_the_language_page(text, errors, tmp_path):
    """Each compiles, learns in every weight, and has the shapes that its first line states."""
    head = re.match(r"# (\w+\.yaml)(?:: ([\dx]+) -> ([\dx]+))?\n", text)
    assert head is not None
    path = tmp_path / head[1]
    path.write_text(text)
    if errors:
        with pytest.raises(SpecError) as caught:
            load_spec(path)
        assert str(caught.value).replace(f"{tmp_path}/", "") == errors.rstrip("\n")
        return
    model = build_model(load_spec(path))
    given, expected = ([int(n) for n in head[i].split("x")] for i in (2, 3))
    found = model(torch.randn(2, *given))
    outputs = found if isinstance(found, tuple) else (found,)  # of auxiliary heads, too
    assert all(list(output.shape) == [2, *expected] for output in outputs)
    sum(output.square().mean() for output in outputs).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_the_page_has_the_networks_that_it_promises():
    assert len(BLOCKS) == PAGE.count("```yaml") == 11
    assert sum(1 for _, errors in BLOCKS if errors) == PAGE.count("```text") == 1


def test_resnet20_has_its_published_size(tmp_path):
    path = tmp_path / "resnet20.yaml"
    path.write_text(next(text for text, _ in BLOCKS if "resnet20" in text.split("\n")[0]))
    for depth, count in ((3, 272_474), (9, 855_770)):
        model = build_model(load_spec(path, overrides=[f"vars.depth={depth}"]))
        assert sum(p.numel() for p in model.parameters()) == count
