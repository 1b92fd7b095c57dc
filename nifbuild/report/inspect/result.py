"""All that one `nifbuild inspect` found, as data, as tables, as Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nifbuild.errors import Problem
from nifbuild.report.inspect.budget import (
    budget_document,
    budget_of,
    check_budget,
    largest_batch,
)
from nifbuild.report.inspect.compare import comparison_document, difference_grid
from nifbuild.report.inspect.grids import (
    layer_grid,
    memory_comparison,
    memory_grid,
    notes,
    total_grid,
)
from nifbuild.report.inspect.inspection import Inspection, inspect_spec
from nifbuild.report.inspect.prediction import Memory
from nifbuild.report.inspect.targets import Target
from nifbuild.report.inspect.verify import Verified, verify
from nifbuild.report.show.markdown import markdown
from nifbuild.report.show.tables import Grid, print_grids, terminal_width
from nifbuild.report.show.units import bytes_text, change_text
from nifbuild.spec.budget import BudgetSpec
from nifbuild.spec.optimizers import Optimizer
from nifbuild.spec.resolve import Resolved


@dataclass(frozen=True, slots=True)
class Result:
    """What was found.

    Attributes:
        inspection: Of the spec.
        other: Of the spec that it is set beside.
        budget: The limits.
        exceeded: What costs more.
        device_memory: Bytes that the largest batch was to be found for.
        largest: That batch, and its memory.
        verified: Predictions beside measured peaks.
        overrides: What was set in the spec, and not in the other.
    """

    inspection: Inspection
    other: Inspection | None
    budget: BudgetSpec
    exceeded: Sequence[Problem]
    device_memory: int | None
    largest: tuple[int, Memory] | None
    verified: Sequence[Verified]
    overrides: Sequence[str]

    def document(self) -> dict[str, Any]:
        """As plain data."""
        document = self.inspection.document()
        document["budget"] = budget_document(self.inspection, self.budget)
        if self.largest is not None:
            size, memory = self.largest
            document["largest_batch"] = {
                "device_memory_bytes": self.device_memory,
                "batch_size": size,
                "train_peak_bytes": memory.train_peak_bytes,
            }
        if self.verified:
            document["verified"] = [found.document() for found in self.verified]
        if self.other is not None:
            document["against"] = comparison_document(self.inspection, self.other)
        return document

    def print(self) -> None:
        """Draws the tables on stdout, to suit the width of the terminal."""
        print_grids(self._grids(terminal_width()), self._notes())

    def markdown(self) -> str:
        """The tables as Markdown."""
        return markdown(self._grids(), self._notes())

    def _grids(self, width: int = 120) -> list[Grid]:
        if self.other is not None:
            pair = (self.inspection, self.other)
            grids = [difference_grid(*pair), total_grid(pair), memory_comparison(*pair)]
        else:
            grids = [
                layer_grid(self.inspection, width),
                total_grid([self.inspection]),
                memory_grid(self.inspection),
            ]
        if self.verified:
            grids.append(_verified_grid(self.verified))
        return grids

    def _notes(self) -> list[str]:
        found = notes(self.inspection)
        if self.other is not None and self.overrides:
            flags = " ".join(f"--set {setting}" for setting in self.overrides)
            found.insert(0, f"{flags}: for the first, {self.inspection.resolved.name}, alone.")
        if self.largest is not None and self.device_memory is not None:
            size, memory = self.largest
            peak, room = bytes_text(memory.train_peak_bytes), bytes_text(self.device_memory)
            found.append(f"Largest batch in {room}: {size} images, with a training peak of {peak}.")
        return found


def inspect_for(
    target: Target,
    resolved: Resolved,
    *,
    other: Resolved | None,
    optimizer: Optimizer | None,
    batch_sizes: Sequence[int],
    device_memory: int | None,
    limits: BudgetSpec,
    verifies: bool,
    overrides: Sequence[str],
) -> Result:
    """Inspects one spec.

    Args:
        target: The device and precision to predict memory for.
        resolved: The spec.
        other: Another one to set beside it.
        optimizer: None: the spec's.
        batch_sizes: Images at once; empty: as the spec trains.
        device_memory: Bytes that the largest batch is to be found for.
        limits: The budget that takes the place of the spec's.
        verifies: Whether to run a real step.
        overrides: What was set in the spec, and not in the other.

    Raises:
        SpecError: No batch fits the device, or one is too small to be trained with.
    """
    inspection = inspect_spec(resolved, batch_sizes=batch_sizes, target=target, optimizer=optimizer)
    beside = None
    if other is not None:
        sizes = [p.batch_size for p in inspection.predictions]
        beside = inspect_spec(
            other, batch_sizes=sizes, target=target, optimizer=inspection.optimizer
        )
    budget = budget_of(inspection, limits)
    largest = None if device_memory is None else largest_batch(inspection, device_memory)
    return Result(
        inspection=inspection,
        other=beside,
        budget=budget,
        exceeded=check_budget(inspection, budget),
        device_memory=device_memory,
        largest=largest,
        verified=verify(inspection) if verifies else (),
        overrides=overrides,
    )


def _verified_grid(verified: Sequence[Verified]) -> Grid:
    rows = [
        (
            str(found.batch_size),
            bytes_text(found.predicted_peak_bytes),
            bytes_text(found.measured_peak_bytes),
            change_text(found.error),
            bytes_text(found.predicted_inference_bytes),
            bytes_text(found.measured_inference_bytes),
            change_text(found.inference_error),
        )
        for found in verified
    ]
    headings = ("batch size", "training", "measured", "error", "inference", "measured", "error")
    return Grid(f"predicted peaks on {verified[0].device}", headings, 1, tuple(rows))
