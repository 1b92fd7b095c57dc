"""CNNs from YAML specs, in which any convolution can learn its filter in the frequency domain.

`load_spec` reads a spec, `build_model` makes its torch module, and `load` brings a trained one
back. `replace_convs` exchanges convolutions of any torch model; the layer itself is
`nifbuild.nn.ImplicitFrequencyConv2d`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nifbuild.compile import build_model
    from nifbuild.replace import Replaced, Replacement, replace_convs
    from nifbuild.runs.loaded import LoadedModel, load
    from nifbuild.spec.resolve import Resolved, load_spec

__all__ = [
    "LoadedModel",
    "Replaced",
    "Replacement",
    "Resolved",
    "__version__",
    "build_model",
    "load",
    "load_spec",
    "replace_convs",
]

__version__ = "0.1.0"

_HOMES = {
    "build_model": "nifbuild.compile",
    "LoadedModel": "nifbuild.runs.loaded",
    "load": "nifbuild.runs.loaded",
    "Resolved": "nifbuild.spec.resolve",
    "load_spec": "nifbuild.spec.resolve",
    "Replaced": "nifbuild.replace",
    "Replacement": "nifbuild.replace",
    "replace_convs": "nifbuild.replace",
}


def __getattr__(name: str) -> Any:
    """Imports the public names on first use: `nifbuild --help` needs none of them."""
    if name not in _HOMES:
        raise AttributeError(f"module 'nifbuild' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)
