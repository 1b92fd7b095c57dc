"""A plan, results and gates as tables, for terminals and for Markdown."""

from collections.abc import Sequence

from rich.text import Text

from nifbuild.ablate.cells import Cell
from nifbuild.ablate.forms import State
from nifbuild.ablate.gate import GateResult, GateVerdict, tally
from nifbuild.ablate.plan import Plan, Row
from nifbuild.ablate.power import powers
from nifbuild.ablate.results import DIFFERENCES, Results, VariantResults, failed_name
from nifbuild.ablate.statistics import interval, summarize
from nifbuild.machine.terminal import Console
from nifbuild.report.show.tables import NARROW, Grid, print_grids, terminal_width
from nifbuild.report.show.units import bytes_text, count_text, duration_text

NOTHING = "-"


def plan_grid(plan: Plan) -> Grid:
    """The variants: what each costs, and how far it is."""
    axes = plan.study.axes
    rows = [(*row.variant.labels.values(), *_plan_cells(plan, row)) for row in plan.rows]
    headings = (*axes, "params", "MACs", "train peak", "MACs to train", "done")
    title = f"{plan.study.name}: {plan.cells} cells"
    return Grid(title, headings, len(axes), tuple(rows), len(axes))


def _plan_cells(plan: Plan, row: Row) -> tuple[str, ...]:
    seeds = plan.study.spec.seeds
    states = [plan.collected.state(Cell(row.variant, seed)) for seed in seeds]
    counts = [f"{states.count('done')}/{len(seeds)}"]
    told: tuple[State, ...] = ("running", "begun", "failed", "damaged", "stale")
    counts += [f"{states.count(state)} {state}" for state in told if state in states]
    return (
        count_text(row.costs.params),
        count_text(row.costs.macs),
        bytes_text(row.costs.train_peak_bytes),
        "?" if row.train_macs is None else count_text(row.train_macs),
        ", ".join(counts),
    )


def plan_notes(plan: Plan, workers: int = 1) -> list[str]:
    """What the table does not say: duplicates, what does not count, what seeds can show, work."""
    notes = [
        f"{row.variant.name} is the same spec as {row.same_as.name}: it is run once"
        for row in plan.rows
        if row.same_as is not None
    ]
    notes += plan.warnings()
    for gate in plan.study.spec.gates:
        if without := plan.study.without_sizes(gate):
            names = ", ".join(variant.name for variant in without)
            notes.append(f"{gate}: not for {names}, without filters as large as the image")
    notes += [power.text() for power in powers(plan)]
    left = len(plan.remaining)
    if not left:
        return [*notes, "All cells are done."]
    text = f"{left} of {plan.cells} cells to run"
    if plan.remaining_macs is not None:
        text += f": {count_text(plan.remaining_macs)} multiply-adds in forward passes"
        text += " (MACs of an image x images x epochs; a backward pass takes about twice as many)"
    seconds = plan.remaining_seconds
    if seconds is not None:
        text += (
            f"; about {duration_text(seconds / workers)} at the speed of the cells that are done"
        )
    return [*notes, text + "."]


def results_grid(results: Results, width: int = 120) -> Grid:
    """The variants: accuracy, its difference to the baseline, costs, filter size.

    Args:
        results: Of the study.
        width: Columns that there are; where they are few, less is shown.
    """
    columns = {
        "top-1 % (n)": accuracy_text,
        "to baseline, pp": lambda variant: difference_text(results, variant),
        "params": lambda variant: count_text(variant.costs["params"]),
        "train peak": lambda variant: bytes_text(variant.costs["train_peak_bytes"]),
        "filter px": filter_size_text,
    }
    axes = results.axes
    if width < NARROW:
        del columns["train peak"]
        axes = tuple(axis.rpartition(".")[2] for axis in axes)
    rows = [
        (*variant.labels.values(), *(cell(variant) for cell in columns.values()))
        for variant in results.variants
    ]
    return Grid("", (*axes, *columns), len(axes), tuple(rows), len(axes))


def accuracy_text(variant: VariantResults) -> str:
    """`97.21 ± 0.31 (3)`, in percent; seeds that failed are told."""
    found = summarize(list(variant.values("top1").values()))
    failed = f", {len(variant.failed)} failed" if variant.failed else ""
    if found is None:
        return f"{NOTHING} (0{failed})"
    spread = "" if found.std is None else f" ± {found.std * 100:.2f}"
    return f"{found.mean * 100:.2f}{spread} ({found.n}{failed})"


def difference_text(results: Results, variant: VariantResults) -> str:
    """`-0.31 [-1.2, +0.6]`: mean and 95 % interval, in percentage points, paired by seed."""
    if variant.baseline is None:
        return NOTHING
    values = results.difference(variant, "top1")
    found = summarize(values)
    if found is None:
        return NOTHING
    bounds = interval(values, within=DIFFERENCES)
    text = f"{found.mean * 100:+.2f}"
    return text if bounds is None else text + f" [{bounds[0] * 100:+.1f}, {bounds[1] * 100:+.1f}]"


def filter_size_text(variant: VariantResults) -> str:
    """`5.67`, the mean over seeds."""
    found = summarize(list(variant.values("effective_size").values()))
    return NOTHING if found is None else f"{found.mean:.3g}"


def gates_grid(gates: Sequence[GateResult]) -> Grid:
    """Each gate for each variant."""
    rows = [(gate.verdict, str(gate.gate), gate.variant, gate.reason) for gate in gates]
    return Grid("", ("verdict", "gate", "variant", "found"), 4, tuple(rows), 0)


_LEGEND = "Mean ± standard deviation (seeds); difference by seed [95 % interval]."


def print_report(results: Results, gates: Sequence[GateResult]) -> None:
    """The results, what failed, and the gates, on stdout."""
    print_grids([results_grid(results, terminal_width())], [_LEGEND])
    console = Console(soft_wrap=True)
    for variant in results.variants:
        for failed in variant.failed:
            text = Text("failed: ", style="red")
            text.append(
                f"{failed_name(variant, failed)}: {failed.reason} ({failed.log})", "default"
            )
            console.print(text)
    print_warnings(results)
    if gates:
        print_gates(gates)


def print_warnings(results: Results) -> None:
    """What was found and does not count, on stdout."""
    console = Console(soft_wrap=True)
    for warning in results.warnings:
        console.print(Text(warning, style="yellow"))


_STYLES: dict[GateVerdict, str] = {
    "pass": "green",
    "fail": "bold red",
    "not comparable": "bold red",
    "inconclusive": "yellow",
}


def print_gates(gates: Sequence[GateResult]) -> None:
    """Each gate for each variant in two lines, and how many hold; on stdout."""
    console = Console(soft_wrap=True)
    for gate in gates:
        line = Text(f"{gate.verdict:<12} ", style=_STYLES[gate.verdict])
        line.append(f"{gate.gate}: {gate.variant}", style="default")
        console.print(line)
        console.print(Text(f"{'':13}{gate.reason}", style="dim"))
    console.print(tally(gates))
