"""What a model may cost, and the largest batch that a device has room for."""

from collections.abc import Iterator
from typing import Any

from nifbuild.errors import Problem, SpecError
from nifbuild.report.inspect.inspection import Inspection
from nifbuild.report.inspect.prediction import Memory, predict
from nifbuild.report.show.units import bytes_text, count_text
from nifbuild.spec.budget import BudgetSpec

_SMALLEST = 2  # batch normalisation of 1x1 images cannot be trained with a single one
_LARGEST = 2**24
_MAX_GUESSES = 12


def budget_of(inspection: Inspection, flags: BudgetSpec) -> BudgetSpec:
    """The spec's budget, with what flags say in its place."""
    written = inspection.resolved.spec.budget or BudgetSpec()
    given = {name: value for name, value in flags.model_dump().items() if value is not None}
    return written.model_copy(update=given)


def check_budget(inspection: Inspection, budget: BudgetSpec) -> list[Problem]:
    """What costs more than the budget has, with the figures and where the limit was written."""
    problems = []
    for name, limit, value in _limits(inspection, budget):
        if value > limit:
            text = bytes_text if name == "max_train_memory" else count_text
            what = f"{text(value)} {_WHAT[name]} exceed the budget of {text(limit)} "
            what += f"by {text(value - limit)} ({value:,} > {limit:,})"
            resolved = inspection.resolved
            written = resolved.spec.budget is not None and (
                getattr(resolved.spec.budget, name) == limit
            )
            mark = resolved.mark("budget", name) if written else None
            problems.append(Problem(what, mark, f"budget.{name}", code="budget"))
    return problems


def budget_document(inspection: Inspection, budget: BudgetSpec) -> dict[str, Any]:
    """The limits that there are, and what the model takes of them."""
    return {
        name: {"limit": limit, "value": value, "ok": value <= limit}
        for name, limit, value in _limits(inspection, budget)
    }


_WHAT = {
    "max_params": "parameters",
    "max_macs": "multiply-adds",
    "max_train_memory": "of training memory",
}


def _limits(inspection: Inspection, budget: BudgetSpec) -> Iterator[tuple[str, int, int]]:
    values = (inspection.params, inspection.macs, inspection.train_peak_bytes)
    for name, value in zip(_WHAT, values, strict=True):
        limit = getattr(budget, name)
        if limit is not None:
            yield name, limit, value


def largest_batch(inspection: Inspection, device_bytes: int) -> tuple[int, Memory]:
    """The largest batch whose training step fits in so much memory, and its memory.

    Memory is nearly a straight line over batch sizes, so that a few predictions find it.

    Raises:
        SpecError: Not even the smallest batch fits.
    """

    def memory(batch_size: int) -> Memory:
        return predict(
            inspection.resolved, batch_size, inspection.target, inspection.optimizer
        ).memory

    known = {p.batch_size: p.memory for p in inspection.predictions}
    while True:
        fitting = {n for n, found in known.items() if found.train_peak_bytes <= device_bytes}
        fits = max(fitting, default=_SMALLEST - 1)
        fails = min(known.keys() - fitting, default=_LARGEST + 1)
        if fails - fits <= 1:
            break
        guess = _guess(known, device_bytes) if len(known) < _MAX_GUESSES else (fits + fails) // 2
        guess = min(max(guess, fits + 1), fails - 1)
        known[guess] = memory(guess)
    if fits not in known:
        smallest = min(known)
        needed = bytes_text(known[smallest].train_peak_bytes)
        what = f"a training step of {smallest} images takes {needed}, and the device has "
        what += bytes_text(device_bytes)
        raise SpecError(Problem(what, path="--device-memory", code="memory"))
    return fits, known[fits]


def _guess(known: dict[int, Memory], device_bytes: int) -> int:
    """Where the line through the two sizes closest to the limit meets it."""
    closest = sorted(known, key=lambda size: abs(known[size].train_peak_bytes - device_bytes))
    if len(closest) == 1:
        return 2 * closest[0]
    first, second = sorted(closest[:2])
    at_first, at_second = known[first].train_peak_bytes, known[second].train_peak_bytes
    slope = (at_second - at_first) / (second - first)
    if slope <= 0:
        return 4 * second
    return int(second + (device_bytes - at_second) / slope)
