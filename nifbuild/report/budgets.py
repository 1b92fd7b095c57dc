"""What a model costs, in figures that two specs can be compared by."""

from nifbuild.compile import build_skeleton
from nifbuild.spec.resolve import Resolved


def budgets(resolved: Resolved) -> dict[str, int]:
    """Figures by name; `params`: the number of trained weights. Nothing is allocated."""
    return {"params": sum(p.numel() for p in build_skeleton(resolved).parameters())}
