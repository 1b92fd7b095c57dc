"""A model becomes a run: training, evaluation, the run directory.

Reading order: `run` (what happens), `loop` (the training loop), `evaluate`, `checkpoint`,
`directory` (what lies where), `trained` (back from a directory to a model), `evaluation` (of a
run); the others are about one thing each.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nifbuild.train.directory import RunDirectory
    from nifbuild.train.evaluation import evaluate_at_sizes, evaluate_run
    from nifbuild.train.init import fresh_model
    from nifbuild.train.predict import Prediction, predict_images
    from nifbuild.train.run import train_run
    from nifbuild.train.trained import TrainedModel, load_run

__all__ = [
    "Prediction",
    "RunDirectory",
    "TrainedModel",
    "evaluate_at_sizes",
    "evaluate_run",
    "fresh_model",
    "load_run",
    "predict_images",
    "train_run",
]

_HOME = {
    "Prediction": "predict",
    "RunDirectory": "directory",
    "TrainedModel": "trained",
    "evaluate_at_sizes": "evaluation",
    "evaluate_run": "evaluation",
    "fresh_model": "init",
    "load_run": "trained",
    "predict_images": "predict",
    "train_run": "run",
}


def __getattr__(name: str) -> Any:
    # On demand: the launcher of several processes stands in this package and needs no torch.
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
