"""The report as a comment on a pull request: verdict first, one table, the rest folded."""

from collections.abc import Callable, Sequence

from nifbuild.ablate.gate import GateResult, GateVerdict, overall, tally
from nifbuild.ablate.results import Results, failed_name
from nifbuild.ablate.study_tables import gates_grid, results_grid
from nifbuild.errors import shown
from nifbuild.report.show.markdown import code_block, folded_section, markdown, markdown_text

_SHOWN_GATES = 10
_WORDS: dict[GateVerdict, str] = {
    "pass": "passes",
    "fail": "fails",
    "not comparable": "not comparable",
    "inconclusive": "inconclusive",
}


def report_markdown(results: Results, gates: Sequence[GateResult]) -> str:
    """All of a report as GitHub's Markdown."""
    parts = [f"## Ablation {markdown_text(results.name)}: {verdict_text(results, gates)}"]
    parts.append(status_text(results, gates))
    if results.warnings:
        parts.append("\n".join(f"- {markdown_text(warning)}" for warning in results.warnings))
    unsettled = [gate for gate in gates if gate.verdict != "pass"]
    if unsettled:
        lines = [_gate_line(gate) for gate in unsettled[:_SHOWN_GATES]]
        if len(unsettled) > _SHOWN_GATES:
            lines.append(f"- and {len(unsettled) - _SHOWN_GATES} more, below")
        parts.append("\n".join(lines))
    parts.append(markdown([results_grid(results)]))
    if gates:
        parts.append(folded_section(f"Gates ({len(gates)})", markdown([gates_grid(gates)])))
    failed = [(variant, one) for variant in results.variants for one in variant.failed]
    if failed:
        blocks = [
            f"**{markdown_text(failed_name(variant, one))}**: {markdown_text(one.reason)}\n\n"
            f"Log: `{shown(one.log)}`\n\n{code_block(one.log_tail)}"
            for variant, one in failed
        ]
        parts.append(folded_section(f"Failed cells ({len(failed)})", "\n\n".join(blocks)))
    parts.append(
        folded_section("How this was measured", "\n".join(f"- {n}" for n in notes(results)))
    )
    return "\n\n".join(parts) + "\n"


def verdict_text(results: Results, gates: Sequence[GateResult]) -> str:
    """`passes`, `fails` or `inconclusive`; of a study without gates, whether it is complete."""
    if gates:
        return _WORDS[overall(gates)]
    return "complete" if results.done == results.total else "incomplete"


def status_text(results: Results, gates: Sequence[GateResult]) -> str:
    """How many gates hold, and how many cells are done."""
    failed = sum(len(variant.failed) for variant in results.variants)
    text = f"{tally(gates)}; " if gates else ""
    text += f"{results.done} of {results.total} cells done"
    return text + (f", {failed} failed." if failed else ".")


def notes(results: Results, name: Callable[[str], str] = markdown_text) -> list[str]:
    """What the figures mean, and what they were computed with.

    Args:
        results: Of the study.
        name: Makes harmless what comes from outside.
    """
    found = [
        "top-1: mean over seeds on the split that the specs report, in percent, ± standard "
        "deviation, number of seeds in parentheses.",
        "To baseline: mean of the differences seed by seed, in percentage points, with Student's "
        "two-sided 95 % confidence interval.",
        "Gates: one-sided bounds at each gate's confidence, which is that of one look at a number "
        "of seeds chosen beforehand; no correction for several gates. The standard deviation of an "
        "accuracy is taken to be at least one test image.",
        "The bounds over seeds are for these test images: that others of their kind would give "
        "other figures is not in them. Bounds for that stand beside them, from the number of "
        "images alone, and wider than need be for differences on the same images.",
        "Parameters and peak memory of a training step: predicted, as by `nifbuild inspect`.",
        "Filter size: the smallest odd window with 95 % of a filter's mass, on the grid that its "
        "layer sees; median over filters, then over layers with filters as large as the image; "
        "mean over seeds" + _sizes_before(results, name),
    ]
    environments = [r["environment"] for v in results.variants for r in v.results.values()]
    on = {
        f"nifbuild {e['packages']['nifbuild']}, torch {e['packages']['torch']}, {e['device']} "
        f"({e['device_name']}), {e['threads']} thread{'s' if e['threads'] > 1 else ''}"
        for e in environments
    }
    found += [f"Computed with {name(text)}." for text in sorted(on)]
    if results.left_out:
        found.append(
            f"Left out: {results.left_out} results of other versions, other code or other data."
        )
    if results.unknown_data:
        found.append("Not all data was at hand: whether it has changed since was not looked at.")
    return found


def _sizes_before(results: Results, name: Callable[[str], str]) -> str:
    texts = []
    for variant in results.variants:
        before = list(variant.values("effective_size_at_init").values())
        if before:
            texts.append(f"{name(variant.name)}: {sum(before) / len(before):.3g} px")
    return f". Before training: {'; '.join(texts)}." if texts else "."


def _gate_line(gate: GateResult) -> str:
    head = f"- **{gate.verdict}**: {gate.gate}, {gate.variant}"
    return f"{markdown_text(head)}: {markdown_text(gate.reason)}"
