"""What a model costs, in figures that two specs can be compared by."""

from nifbuild.report.inspect.inspection import inspect_spec
from nifbuild.report.inspect.targets import Target
from nifbuild.spec.resolve import Resolved


def budgets(resolved: Resolved) -> dict[str, int]:
    """Figures by name, as `nifbuild inspect` predicts them for the spec's own training.

    `params` and `equivalent_dense_params` are weights; `macs` are multiply-adds for one image; what
    ends in `_bytes` is memory for a batch of `batch_size` images. Nothing is allocated.
    """
    found = inspect_spec(resolved, target=Target.of(resolved))
    (prediction,) = found.predictions
    memory = prediction.memory
    return {
        "params": found.params,
        "equivalent_dense_params": found.dense_params,
        "macs": found.macs,
        "batch_size": prediction.batch_size,
        "weights_bytes": memory.weights_bytes,
        "optimizer_bytes": memory.optimizer_bytes,
        "activations_bytes": memory.activations_bytes,
        "train_peak_bytes": memory.train_peak_bytes,
        "inference_peak_bytes": memory.inference_peak_bytes,
    }
