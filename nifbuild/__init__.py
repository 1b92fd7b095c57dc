"""CNNs from YAML specs, in which any convolution can learn its filter in the frequency domain.

`load_spec` reads a spec, `build_model` makes its torch module, and `load` brings a trained one
back. `replace_convs` exchanges convolutions of any torch model; the layer itself is
`nifbuild.nn.ImplicitFrequencyConv2d`. The commands are functions, too: `inspect`, `predict`,
`analyze`, `shrink`, `export`, `bench`; and, as `nifbuild.train` is a package, `train_spec`,
`evaluate_run`, `list_runs`, `compare_runs`. What their options do, the command line says:
`nifbuild shrink --help`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from nifbuild.machine import VERSION

if TYPE_CHECKING:
    from nifbuild import nn
    from nifbuild.compile import build_model
    from nifbuild.evaluate.predict import Prediction, Predictions
    from nifbuild.evaluate.result import Evaluation, Evaluations
    from nifbuild.replace import Replaced, Replacement, replace_convs
    from nifbuild.report.analysis import analyze
    from nifbuild.report.analysis.analysis import Analysis
    from nifbuild.report.bench import bench
    from nifbuild.report.evaluate_run import evaluate_run
    from nifbuild.report.export import export
    from nifbuild.report.export.exported import Exported
    from nifbuild.report.inspect import inspect
    from nifbuild.report.inspect.several import Several
    from nifbuild.report.predict import predict
    from nifbuild.report.shrink import shrink
    from nifbuild.report.shrink.result import ShrinkResult
    from nifbuild.report.side_by_side import compare_runs, list_runs
    from nifbuild.report.side_by_side.recorded import SideBySide
    from nifbuild.report.train_spec import train_spec
    from nifbuild.runs.loaded import LoadedModel, load
    from nifbuild.spec.resolve import Resolved, load_spec
    from nifbuild.train.run import Trained

__version__ = VERSION

_HOMES = {
    "Analysis": "nifbuild.report.analysis.analysis",
    "Evaluation": "nifbuild.evaluate.result",
    "Evaluations": "nifbuild.evaluate.result",
    "Exported": "nifbuild.report.export.exported",
    "LoadedModel": "nifbuild.runs.loaded",
    "Prediction": "nifbuild.evaluate.predict",
    "Predictions": "nifbuild.evaluate.predict",
    "Replaced": "nifbuild.replace",
    "Replacement": "nifbuild.replace",
    "Resolved": "nifbuild.spec.resolve",
    "Several": "nifbuild.report.inspect.several",
    "ShrinkResult": "nifbuild.report.shrink.result",
    "SideBySide": "nifbuild.report.side_by_side.recorded",
    "Trained": "nifbuild.train.run",
    "analyze": "nifbuild.report.analysis",
    "bench": "nifbuild.report.bench",
    "build_model": "nifbuild.compile",
    "compare_runs": "nifbuild.report.side_by_side",
    "evaluate_run": "nifbuild.report.evaluate_run",
    "export": "nifbuild.report.export",
    "inspect": "nifbuild.report.inspect",
    "list_runs": "nifbuild.report.side_by_side",
    "load": "nifbuild.runs.loaded",
    "load_spec": "nifbuild.spec.resolve",
    "predict": "nifbuild.report.predict",
    "replace_convs": "nifbuild.replace",
    "shrink": "nifbuild.report.shrink",
    "train_spec": "nifbuild.report.train_spec",
}

__all__ = [
    "Analysis",
    "Evaluation",
    "Evaluations",
    "Exported",
    "LoadedModel",
    "Prediction",
    "Predictions",
    "Replaced",
    "Replacement",
    "Resolved",
    "Several",
    "ShrinkResult",
    "SideBySide",
    "Trained",
    "__version__",
    "analyze",
    "bench",
    "build_model",
    "compare_runs",
    "evaluate_run",
    "export",
    "inspect",
    "list_runs",
    "load",
    "load_spec",
    "nn",
    "predict",
    "replace_convs",
    "shrink",
    "train_spec",
]


def __getattr__(name: str) -> Any:
    """Imports the public names on first use: `nifbuild --help` needs none of them."""
    if name == "nn":
        return import_module("nifbuild.nn")
    if name not in _HOMES:
        raise AttributeError(f"module 'nifbuild' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """The public names, which an editor's completion then finds."""
    return __all__
