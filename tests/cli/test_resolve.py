import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SPEC = "specs/resnet18_nif.yaml"


def resolve(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "nifbuild", "resolve", SPEC, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


def test_explain_says_where_a_value_was_written():
    done = resolve("--explain", "layer2.1.conv1.kind")
    assert (done.returncode, done.stderr) == (0, "")
    head, place = done.stdout.splitlines()
    assert head == "layer2.1.conv1.kind: implicit_frequency"
    _, line, _, text = place.split(":", 3)
    assert place.startswith(f"  {SPEC}:")
    assert (ROOT / SPEC).read_text().splitlines()[int(line) - 1].strip() == text.strip()


def test_explain_of_what_is_not_there():
    done = resolve("--explain", "layer2.1.conv1.knd")
    assert (done.returncode, done.stdout) == (2, "")
    assert "did you mean 'kind'?" in done.stderr
