"""What a model costs, in figures that two specs can be compared by."""

import torch

from nifbuild.compile import build_model
from nifbuild.spec.resolve import Resolved


def budgets(resolved: Resolved) -> dict[str, int]:
    """Figures by name; `params`: the number of trained weights. Nothing is allocated."""
    with torch.device("meta"):
        model = build_model(resolved)
    return {"params": sum(p.numel() for p in model.parameters())}
