"""What a study will cost, before anything runs."""

from dataclasses import dataclass
from typing import Any

from nifbuild.ablate.cells import Cell, Store, cells_of
from nifbuild.ablate.collect import Collected, collect
from nifbuild.ablate.forms import Document
from nifbuild.ablate.interim_looks import changed_since, read_looks
from nifbuild.errors import Problem
from nifbuild.report.inspect.budget import budget_of, check_budget
from nifbuild.report.inspect.inspection import Inspection, inspect_spec
from nifbuild.report.inspect.targets import Target
from nifbuild.spec.budget import BudgetSpec
from nifbuild.spec.data import HubData
from nifbuild.spec.splits import final_split
from nifbuild.spec.study import Study, Variant


@dataclass(frozen=True)
class Costs:
    """What a variant costs, as `nifbuild inspect` predicts it."""

    params: int
    macs: int
    train_peak_bytes: int
    inference_peak_bytes: int

    def document(self) -> Document:
        """As plain data."""
        return dict(vars(self))


def costs_of(inspection: Inspection) -> Costs:
    """The figures of an inspection; memory for the batch that the spec trains with."""
    memory = inspection.predictions[0].memory
    return Costs(
        inspection.params,
        inspection.macs,
        memory.train_peak_bytes,
        memory.inference_peak_bytes,
    )


def inspect_variant(variant: Variant) -> Inspection:
    """On the device that its spec names; on CUDA where it leaves that open."""
    train = variant.resolved.spec.train
    device = Target("cpu" if train.device == "cpu" else "cuda", train.precision)
    return inspect_spec(variant.resolved, target=device)


@dataclass(frozen=True)
class Row:
    """A variant in the plan.

    Attributes:
        variant: Which.
        costs: Of it.
        train_images: For each epoch; None where that is not known yet.
        images: That the figures will be of; None where that is not known yet.
        same_as: The earlier variant that is the same spec.
    """

    variant: Variant
    costs: Costs
    train_images: int | None
    images: int | None
    same_as: Variant | None

    @property
    def train_macs(self) -> int | None:
        """Multiply-adds of the forward passes of one training run."""
        epochs = self.variant.resolved.spec.train.epochs
        return None if self.train_images is None else self.costs.macs * self.train_images * epochs


@dataclass(frozen=True)
class Plan:
    """All that is known before a study runs.

    Attributes:
        study: Which.
        rows: Its variants.
        collected: What of it was run before.
        exceeded: Budgets of specs that are exceeded.
        changed_seeds: That gates cannot pass with these seeds, and the way out; empty: they can.
    """

    study: Study
    rows: tuple[Row, ...]
    collected: Collected
    exceeded: tuple[Problem, ...]
    changed_seeds: str

    @property
    def cells(self) -> int:
        """Training runs, each spec and seed counted once."""
        return len({cell.spec_hash for cell in cells_of(self.study)})

    @property
    def remaining(self) -> list[tuple[Row, Cell]]:
        """The cells that are not done."""
        rows = {row.variant.name: row for row in self.rows if row.same_as is None}
        return [
            (rows[cell.variant.name], cell)
            for cell in cells_of(self.study)
            if cell.variant.name in rows and self.collected.result(cell) is None
        ]

    @property
    def remaining_macs(self) -> int | None:
        """Multiply-adds of the forward passes that are still to be done; None where unknown."""
        counts = [row.train_macs for row, _ in self.remaining]
        known = [count for count in counts if count is not None]
        return sum(known) if len(known) == len(counts) else None

    @property
    def remaining_seconds(self) -> float | None:
        """Of one worker, at the speed of what is done; None where nothing is."""
        macs, seconds = 0, 0.0
        for row in self.rows:
            for seed in self.study.spec.seeds:
                result = self.collected.result(Cell(row.variant, seed))
                if result is not None:
                    macs += row.costs.macs * result["train_images"] * result["epoch"]
                    seconds += result["seconds"]
        left = self.remaining_macs
        return None if left is None or not macs else seconds / macs * left

    def warnings(self) -> list[str]:
        """What was found and does not count, and seeds that will not, in words."""
        changed = [self.changed_seeds] if self.changed_seeds else []
        return self.collected.warnings() + changed

    def document(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "study": self.study.name,
            "seeds": list(self.study.spec.seeds),
            "cells": self.cells,
            "remaining": len(self.remaining),
            "remaining_macs": self.remaining_macs,
            "remaining_seconds": self.remaining_seconds,
            "variants": [
                {
                    "labels": dict(row.variant.labels),
                    "baseline": self.study.is_baseline(row.variant),
                    "costs": row.costs.document(),
                    "train_images": row.train_images,
                    "train_macs": row.train_macs,
                    "same_as": None if row.same_as is None else dict(row.same_as.labels),
                    "seeds": {
                        str(seed): self.collected.state(Cell(row.variant, seed))
                        for seed in self.study.spec.seeds
                    },
                }
                for row in self.rows
            ],
            "exceeded": [str(problem) for problem in self.exceeded],
            "warnings": self.warnings(),
        }


def make_plan(study: Study, store: Store) -> Plan:
    """Inspects every variant, and looks up what is done.

    Raises:
        SpecError: A batch is too small to be trained with, or the data does not suit.
        RunError: A file there is damaged, or may not be read.
    """
    collected = collect(study, store)
    images = _Images(collected)
    first: dict[str, Variant] = {}
    rows, exceeded = [], []
    for variant in study.variants:
        spec_hash = Cell(variant, 0).spec_hash
        inspection = inspect_variant(variant)
        exceeded += check_budget(inspection, budget_of(inspection, BudgetSpec()))
        counts = images.of(variant)
        rows.append(Row(variant, costs_of(inspection), *counts, first.get(spec_hash)))
        first.setdefault(spec_hash, variant)
    changed = _changed_seeds(collected, store)
    return Plan(study, tuple(rows), collected, tuple(dict.fromkeys(exceeded)), changed)


def _changed_seeds(collected: Collected, store: Store) -> str:
    """What gates will say of the seeds: before they are trained."""
    study = collected.study
    gates = [gate for gate in study.spec.gates if gate.measured]
    if not gates:
        return ""
    cells = collected.keys_done([v for gate in gates for v in study.variants_of(gate)])
    text = changed_since(read_looks(store), study.spec.seeds, cells)
    return f"gates will not pass: {text}" if text else ""


class _Images:
    """Images for each epoch, and for figures. Data of the hub is not downloaded to count them."""

    def __init__(self, collected: Collected) -> None:
        self._collected = collected
        self._known: dict[str, tuple[int | None, int | None]] = {}

    def of(self, variant: Variant) -> tuple[int | None, int | None]:
        data = variant.resolved.spec.data
        if data is None:
            return None, None
        name = data.model_dump_json()
        if name not in self._known:
            self._known[name] = self._count(variant)
        return self._known[name]

    def _count(self, variant: Variant) -> tuple[int | None, int | None]:
        seeds = self._collected.study.spec.seeds
        for seed in seeds:
            result = self._collected.result(Cell(variant, seed))
            if result is not None:
                return int(result["train_images"]), int(result["num_samples"])
        data = variant.resolved.spec.data
        if data is None or isinstance(data, HubData):
            return (None, None) if data is None else (data.limit.train, data.limit.test)
        from nifbuild.data import open_data

        with variant.resolved.placing():
            sizes = open_data(data).sizes
        return sizes["train"], sizes[final_split(sizes)]
