"""Whether the code is still that which a figure was computed with."""

import hashlib
from functools import cache
from pathlib import Path

_PACKAGE = Path(__file__).parents[1]
_SHOW_ONLY = ("cli", "report", "ablate")
_COMPUTE = ("report/kernels", "ablate/worker.py")
"""Within those, what a cell's figures come from."""


def computes_figures(module: str) -> bool:
    """Whether a cell's figures depend on a file of the package.

    All do but those that start cells, and show what came of them.

    Args:
        module: Its path within the package, such as `nn/fourier.py`.
    """
    return module.startswith(_COMPUTE) or module.split("/")[0] not in _SHOW_ONLY


@cache
def code_fingerprint() -> str:
    """A hash of the source of all that figures depend on, as it lies on disk."""
    digest = hashlib.sha256()
    for path in sorted(_PACKAGE.rglob("*.py")):
        module = path.relative_to(_PACKAGE).as_posix()
        if computes_figures(module):
            # As text: line ends are those of the system that wrote the files.
            digest.update(f"\0{module}\0{path.read_text(encoding='utf-8')}".encode())
    return digest.hexdigest()[:16]
