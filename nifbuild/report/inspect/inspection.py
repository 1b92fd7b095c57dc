"""What a model costs, module by module and in total."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from nifbuild.compile import build_skeleton
from nifbuild.errors import Mark
from nifbuild.report.inspect.prediction import Prediction, Saved, predict
from nifbuild.report.inspect.targets import BOUND, BOUND_BYTES, Machine, Target
from nifbuild.spec.graph import Node
from nifbuild.spec.ops import Cost
from nifbuild.spec.optimizers import Optimizer
from nifbuild.spec.resolve import Resolved


@dataclass(frozen=True, slots=True)
class Row:
    """One module.

    Attributes:
        path: Its name.
        op: Its op.
        kind: Of a convolution.
        output_shape: For one image.
        params: Parameters.
        dense_params: With a free weight for each tap of filters that are as large as the image.
        cost: Multiply-adds; None where there is no rule.
        saved: What it keeps for the backward pass, for the first batch size.
        mark: Where it was written.
        head: The auxiliary head that it is a part of; None: it is a part of the model.
    """

    path: str
    op: str
    kind: str | None
    output_shape: tuple[int, ...]
    params: int
    dense_params: int
    cost: Cost | None
    saved: Saved
    mark: Mark | None
    head: str | None = None

    @property
    def macs(self) -> int | None:
        """Multiply-adds for one image, its filters included."""
        return None if self.cost is None else self.cost.macs()

    def document(self) -> dict[str, Any]:
        """As plain data."""
        cost = self.cost or Cost()
        return {
            "path": self.path,
            "op": self.op,
            "kind": self.kind,
            "output_shape": list(self.output_shape),
            "params": self.params,
            "equivalent_dense_params": self.dense_params,
            "macs": self.macs,
            "macs_by_part": {**cost.per_image, **cost.per_pass},
            "saved_bytes": self.saved.total,
            "saved_fixed_bytes": self.saved.fixed,
            "file": self.mark.file if self.mark else None,
            "line": self.mark.line if self.mark and self.mark.line else None,
        }


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a model costs.

    Attributes:
        resolved: Its spec.
        target: The device and precision that memory was predicted for.
        machine: Of a CPU, that which memory was predicted for.
        optimizer: The optimizer that it was predicted with.
        rows: The modules.
        predictions: Memory, one for each batch size.
    """

    resolved: Resolved
    target: Target
    machine: Machine | None
    optimizer: Optimizer
    rows: tuple[Row, ...]
    predictions: tuple[Prediction, ...]

    def __repr__(self) -> str:
        """One line: there is a row for each module."""
        return f"<inspection of {self.resolved.name}: {self.params:,} parameters>"

    @property
    def params(self) -> int:
        """All parameters; all are trained."""
        return sum(row.params for row in self.rows)

    @property
    def head_params(self) -> int:
        """Those of auxiliary heads, which only training runs."""
        return sum(row.params for row in self.rows if row.head is not None)

    @property
    def dense_params(self) -> int:
        """Parameters with a free weight for each tap of every filter."""
        return sum(row.dense_params for row in self.rows)

    @property
    def macs(self) -> int:
        """Multiply-adds for one image, but for those of `uncounted` ops and of auxiliary heads."""
        return sum(row.macs or 0 for row in self.rows if row.head is None)

    @property
    def macs_by_part(self) -> dict[str, int]:
        """The same by what they are for."""
        parts: dict[str, int] = {}
        for row in self.rows:
            cost = Cost() if row.cost is None or row.head is not None else row.cost
            for name, count in (*cost.per_image.items(), *cost.per_pass.items()):
                parts[name] = parts.get(name, 0) + count
        return parts

    @property
    def uncounted(self) -> list[str]:
        """Ops that no rule counts the multiply-adds of."""
        return sorted({row.op for row in self.rows if row.cost is None})

    @property
    def counted_as_zero(self) -> list[str]:
        """Ops that only go over their values, which flop counters count as 0."""
        return sorted({row.op for row in self.rows if row.cost == Cost()})

    @property
    def train_peak_bytes(self) -> int:
        """That of the most demanding batch size."""
        return max(p.memory.train_peak_bytes for p in self.predictions)

    def document(self) -> dict[str, Any]:
        """As plain data."""
        first = self.predictions[0]
        return {
            "name": self.resolved.name,
            "params": self.params,
            "trainable_params": self.params,
            "auxiliary_params": self.head_params,
            "equivalent_dense_params": self.dense_params,
            "macs": self.macs,
            "macs_by_part": self.macs_by_part,
            "counted_as_zero": self.counted_as_zero,
            "uncounted": self.uncounted,
            "device": self.target.device,
            "machine": None if self.machine is None else asdict(self.machine),
            "memory_bound": BOUND,
            "memory_bound_bytes": BOUND_BYTES,
            "precision": self.target.precision,
            "optimizer": self.optimizer.name,
            "batch_size": first.batch_size,
            "memory": first.memory.document(),
            "batches": [
                {"batch_size": p.batch_size, "memory": p.memory.document()}
                for p in self.predictions
            ],
            "layers": [row.document() for row in self.rows],
        }


def inspect_spec(
    resolved: Resolved,
    *,
    target: Target,
    batch_sizes: Sequence[int] = (),
    optimizer: Optimizer | None = None,
) -> Inspection:
    """What the model of a spec costs; the model is not allocated.

    For a CPU, single convolutions are: see `predict`.

    Args:
        resolved: The spec.
        target: The device and precision to predict memory for.
        batch_sizes: Images at once on one device. None given: as the spec trains.
        optimizer: None: the spec's.

    Raises:
        SpecError: A batch size is too small to be trained with.
    """
    train = resolved.spec.train
    sizes = batch_sizes or (train.images_at_once,)
    optimizer = optimizer or train.optimizer
    predictions = tuple(predict(resolved, size, target, optimizer) for size in sizes)
    model = build_skeleton(resolved)
    rows = tuple(
        _row(resolved, node, model, predictions[0].saved[node.path])
        for node in resolved.graph.nodes
    )
    return Inspection(resolved, target, target.machine, optimizer, rows, predictions)


def _row(resolved: Resolved, node: Node, model: nn.Module, saved: Saved) -> Row:
    holder, _, name = node.path.rpartition(".")
    built = getattr(model.get_submodule(holder), name)
    params = sum(p.numel() for p in built.parameters()) if isinstance(built, nn.Module) else None
    if params is None:
        params = built.numel()
    shape = node.output_shape
    head = resolved.graph.head_of(node.path)
    return Row(
        path=node.path,
        op=node.op.op,
        kind=getattr(node.op, "kind", None),
        output_shape=(shape.channels, *shape.size),
        params=params,
        dense_params=node.op.dense_params(*node.input_shapes) or params,
        cost=node.op.cost(*node.input_shapes),
        saved=saved,
        mark=resolved.mark(*node.where),
        head=None if head is None else head.name,
    )
