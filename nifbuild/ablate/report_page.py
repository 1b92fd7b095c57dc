"""The report of a study as one page."""

from collections.abc import Mapping, Sequence

from nifbuild.ablate.accuracy_plots import QUESTIONS
from nifbuild.ablate.comment import notes, status_text, verdict_text
from nifbuild.ablate.gate import GateResult
from nifbuild.ablate.results import Results, failed_name
from nifbuild.ablate.study_tables import gates_grid, results_grid
from nifbuild.errors import shown
from nifbuild.report.show.tables import Grid
from nifbuild.report.show.web_page import (
    escaped,
    headed,
    listed,
    page,
    preformatted,
    section,
    table,
)

COMMENT, PAGE = "report.md", "report.html"
"""The files for people, of every report."""

_CAPTION = (
    "Mean and standard deviation over seeds; a variant that the question does not apply to is a "
    "line across."
)


def report_html(
    results: Results, gates: Sequence[GateResult], pictures: Mapping[str, bytes]
) -> str:
    """The page.

    Args:
        results: Of the study.
        gates: Of it.
        pictures: Its plots, PNG files by name.
    """
    parts = [listed(results.warnings), grid_table(results_grid(results))]
    if gates:
        parts.append(headed("Gates", grid_table(gates_grid(gates))))
    parts += [
        section(question.title, [pictures[question.file]], _CAPTION, broad=True)
        for question in QUESTIONS
        if question.file in pictures
    ]
    failed = [(variant, one) for variant in results.variants for one in variant.failed]
    if failed:
        told = [
            f"<h3>{escaped(failed_name(variant, one))}</h3>\n{reason_block(one.reason)}\n"
            + log_block(one.log, one.log_tail)
            for variant, one in failed
        ]
        parts.append(headed("Failed cells", "\n".join(told)))
    parts.append(headed("How this was measured", listed(notes(results, shown))))
    title = f"Ablation {results.name}: {verdict_text(results, gates)}"
    return page(title, status_text(results, gates), "\n".join(filter(None, parts)))


def grid_table(grid: Grid) -> str:
    """A table of the terminal, for a page; marks of code go."""
    rows = [[text.replace("`", "") for text in row] for row in grid.rows]
    return table(grid.headings, rows, grid.title)


def reason_block(reason: str) -> str:
    """Why something failed; each remedy is a line of its own."""
    return "\n".join(f"<p>{escaped(line)}</p>" for line in reason.splitlines())


def log_block(path: str, tail: str) -> str:
    """The end of a log."""
    return f'<p class="faint">{escaped(path)}</p>\n{preformatted(tail)}'
