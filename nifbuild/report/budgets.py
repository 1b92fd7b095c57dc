"""What a model costs, in figures that two specs can be compared by."""

from nifbuild.report.inspect.memory import meta_model
from nifbuild.spec.resolve import Resolved


def budgets(resolved: Resolved) -> dict[str, int]:
    """Figures by name; `params`: the number of trained weights. Nothing is allocated."""
    return {"params": sum(p.numel() for p in meta_model(resolved).parameters())}
