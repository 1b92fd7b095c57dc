"""What YAML may say of the optimizer.

What each keeps and takes beside the weights stands with it, for the prediction of memory. `base`
has what they share, `of_torch` and `of_library` (the package pytorch-optimizer) each of them.
"""

from typing import Annotated

from pydantic import Tag

from nifbuild.spec.base import by_name
from nifbuild.spec.optimizers.base import (
    Alike,
    FilterSettings,
    Optimizer,
    OwnSettings,
    ParameterGroup,
)
from nifbuild.spec.optimizers.of_library import Lamb, Lars, Muon
from nifbuild.spec.optimizers.of_torch import Adagrad, Adam, AdamW, NAdam, RAdam, RmsProp, Sgd

__all__ = [
    "OPTIMIZERS",
    "Adagrad",
    "Adam",
    "AdamW",
    "Alike",
    "FilterSettings",
    "Lamb",
    "Lars",
    "Muon",
    "NAdam",
    "Optimizer",
    "OptimizerSpec",
    "OwnSettings",
    "ParameterGroup",
    "RAdam",
    "RmsProp",
    "Sgd",
]

OPTIMIZERS: dict[str, type[Optimizer]] = {
    "adamw": AdamW,
    "adam": Adam,
    "nadam": NAdam,
    "radam": RAdam,
    "rmsprop": RmsProp,
    "adagrad": Adagrad,
    "lars": Lars,
    "lamb": Lamb,
    "muon": Muon,
    "sgd": Sgd,
}

OptimizerSpec = Annotated[
    Annotated[AdamW, Tag("adamw")]
    | Annotated[Adam, Tag("adam")]
    | Annotated[NAdam, Tag("nadam")]
    | Annotated[RAdam, Tag("radam")]
    | Annotated[RmsProp, Tag("rmsprop")]
    | Annotated[Adagrad, Tag("adagrad")]
    | Annotated[Lars, Tag("lars")]
    | Annotated[Lamb, Tag("lamb")]
    | Annotated[Muon, Tag("muon")]
    | Annotated[Sgd, Tag("sgd")],
    by_name(*OPTIMIZERS),
]
