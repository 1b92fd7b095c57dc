"""CNNs from YAML specs, in which any convolution can learn its filter in the frequency domain.

`load_spec` reads a spec, `build_model` makes its torch module. The layer itself is
`nifbuild.nn.ImplicitFrequencyConv2d`.
"""

from nifbuild.compile import build_model
from nifbuild.spec.resolve import Resolved, load_spec

__all__ = ["Resolved", "__version__", "build_model", "load_spec"]

__version__ = "0.1.0"
