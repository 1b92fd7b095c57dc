"""The report of a search: the best trial, a table of all, and plots."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.text import Text

from nifbuild.ablate.cells import Store
from nifbuild.ablate.forms import REPORT_JSON, Document
from nifbuild.ablate.report_page import COMMENT, PAGE, grid_table, log_block, reason_block
from nifbuild.ablate.search_plots import ended_trials, plot_parameters, plot_trials
from nifbuild.ablate.trials import (
    TrialResult,
    metric_name,
    metric_text,
    read_trials,
    search_of,
    trial_results,
)
from nifbuild.errors import counted
from nifbuild.machine import MAKER
from nifbuild.machine.sealed_text import sealed
from nifbuild.machine.terminal import Console
from nifbuild.report.show.markdown import code_block, folded_section, markdown, markdown_text
from nifbuild.report.show.plots import SCREEN
from nifbuild.report.show.tables import NARROW, Grid, print_grids, terminal_width
from nifbuild.report.show.units import percent_text
from nifbuild.report.show.web_page import escaped, headed, listed, page, section
from nifbuild.runs.documents import as_json
from nifbuild.spec.study import Study, label_of
from nifbuild.spec.training import gain

SEARCH_PLOTS = {
    "trials.png": (
        "Figures of the trials",
        "Each trial that has ended, in the order in which they were drawn: on the validation "
        "split, at the checkpoint that was selected; a trial that was pruned where it was then.",
    ),
    "parameters.png": (
        "Figures against what was drawn",
        "The same figures against each value. Other values differ, too, from one mark to the next: "
        "what is seen here is no effect of one value alone.",
    ),
}
"""Heading and caption of each picture, by its file."""

_NOTES = (
    "The figure is that of the validation split, which the search has chosen by, so that the best "
    "one flatters itself, the more the more trials there are. The test figure beside it has chosen "
    "nothing; whether it is better than another's, a study over several seeds has to show.",
    "A trial that was pruned has the figure of its last epoch. One that failed counted as worse "
    "than all others when later ones were drawn.",
)


@dataclass(frozen=True)
class SearchReport:
    """What a search has shown so far.

    Attributes:
        study: Which.
        trials: All that have been drawn, in order, of as many as the study asks for.
        warnings: What was found and does not count, in words.
    """

    study: Study
    trials: tuple[TrialResult, ...]
    warnings: tuple[str, ...]

    @property
    def metric(self) -> str:
        """What trials are judged by."""
        return search_of(self.study).metric

    @property
    def best(self) -> TrialResult | None:
        """Of those that were trained to the end, the best one; of equals, the first."""
        best: TrialResult | None = None
        for trial in self.trials:
            if trial.state == "done" and trial.ended is not None:
                other = None if best is None else best.ended
                if other is None or gain(self.metric, trial.ended.value, other.value) > 0:
                    best = trial
        return best

    def count(self, state: str) -> int:
        """How many trials are in this state."""
        return sum(trial.state == state for trial in self.trials)

    @property
    def status(self) -> str:
        """`12 of 20 trials ended: 8 to the end, 3 pruned, 1 failed; 1 begun, to be continued`."""
        counts = [self.count(state) for state in ("done", "pruned", "failed")]
        words = (f"{counts[0]} to the end", f"{counts[1]} pruned", f"{counts[2]} failed")
        total = search_of(self.study).trials
        told = [word for word, count in zip(words, counts, strict=True) if count]
        text = f"{sum(counts)} of {total} trials ended" + (f": {', '.join(told)}" if told else "")
        begun = self.count("begun")
        return text + (f"; {begun} begun, to be continued" if begun else "")

    def document(self) -> Document:
        """As plain data."""
        best = self.best
        return {
            "generator": MAKER,
            "study": self.study.name,
            "search": search_of(self.study).model_dump(mode="json"),
            "total": search_of(self.study).trials,
            "done": self.count("done"),
            "pruned": self.count("pruned"),
            "failed": self.count("failed"),
            "best": None if best is None else best.document(),
            "warnings": list(self.warnings),
            "trials": [trial.document() for trial in self.trials],
        }

    def markdown(self) -> str:
        """As a comment on a pull request."""
        return sealed(search_markdown(self)).decode()

    def show(self) -> None:
        """On stdout, for people."""
        print_search_report(self)

    def files(self) -> dict[str, bytes]:
        """All forms of it, by name: report.md, report.html, report.json and the plots."""
        pictures = _pictures(self)
        return {
            COMMENT: self.markdown().encode(),
            PAGE: sealed(search_html(self, pictures)),
            REPORT_JSON: as_json(self.document()),
            **pictures,
        }

    def best_lines(self) -> list[str]:
        """The best trial, and how to train it again; of none, that there is none."""
        best = self.best
        if best is None or best.ended is None or best.result is None or best.directory is None:
            return ["No trial has been trained to its end yet."]
        values = ", ".join(f"{path}={label_of(value)}" for path, value in best.values.items())
        test = best.result
        return [
            f"Best: trial {best.number}, {best.ended.text(self.metric)} "
            f"(epoch {best.ended.epoch}); {test['split']} top-1 {percent_text(test['top1'])}",
            f"With {values}",
            f"Its spec: {shlex.quote(str(best.directory.spec))}",
        ]


def make_search_report(study: Study, store: Store) -> SearchReport:
    """Reads what is done of a search.

    Raises:
        SpecError: A spec does not suit its data, or what was drawn is of another search.
        RunError: A file is damaged, or may not be read.
    """
    drawn, asked = read_trials(study, store), search_of(study).trials
    results, collected = trial_results(study, store, drawn)
    warnings = collected.warnings()
    if (more := len(drawn) - asked) > 0:
        text = f"{counted(more, 'trial')} beyond the {asked} that the study asks for"
        warnings.append(f"{text} {'was' if more == 1 else 'were'} drawn before: not counted")
    return SearchReport(study, tuple(results[:asked]), tuple(warnings))


def trials_grid(report: SearchReport, width: int = 120) -> Grid:
    """All trials.

    Args:
        report: Of the search.
        width: Columns that there are; where they are few, paths are told by their last word.
    """
    paths = tuple(search_of(report.study).space)
    rows = []
    for trial in report.trials:
        ended, result = trial.ended, trial.result
        mark = " (best)" if trial is report.best else ""
        rows.append(
            (
                str(trial.number),
                *(label_of(trial.values[path]) for path in paths),
                f"{trial.state}{mark}",
                "-" if ended is None else str(ended.epoch),
                "-" if ended is None else metric_text(report.metric, ended.value),
                "-" if result is None else percent_text(result["top1"]),
            )
        )
    figure = f"validation {metric_name(report.metric)}"
    named = paths if width >= NARROW else tuple(path.rpartition(".")[2] for path in paths)
    headings = ("trial", *named, "state", "epoch", figure, "test top-1")
    return Grid("", headings, 2 + len(paths), tuple(rows), 1 + len(paths))


def _failed(report: SearchReport) -> list[TrialResult]:
    return [trial for trial in report.trials if trial.state == "failed"]


def _failure(trial: TrialResult) -> tuple[str, str]:
    """Name and reason."""
    values = ", ".join(f"{path}={label_of(value)}" for path, value in trial.values.items())
    return f"trial {trial.number}, {values}", trial.reason


def print_search_report(report: SearchReport) -> None:
    """The trials, the best one, what failed, on stdout."""
    print_grids([trials_grid(report, terminal_width())] if report.trials else [])
    console = Console(soft_wrap=True)
    for line in [f"{report.status}.", *report.best_lines()]:
        console.print(Text(line))
    for trial in _failed(report):
        name, reason = _failure(trial)
        log = "" if trial.directory is None else f" ({trial.directory.log})"
        console.print(Text("failed: ", style="red").append(f"{name}: {reason}{log}", "default"))
    for warning in report.warnings:
        console.print(Text(warning, style="yellow"))


def search_markdown(report: SearchReport) -> str:
    """All of a report as GitHub's Markdown."""
    parts = [f"## Search {markdown_text(report.study.name)}", f"{report.status}."]
    parts.append("\n".join(f"- {markdown_text(line)}" for line in report.best_lines()))
    if report.warnings:
        parts.append("\n".join(f"- {markdown_text(warning)}" for warning in report.warnings))
    if report.trials:
        parts.append(markdown([trials_grid(report)]))
    if failed := _failed(report):
        blocks = []
        for trial in failed:
            name, reason = _failure(trial)
            blocks.append(f"**{markdown_text(name)}**: {markdown_text(reason)}")
            if trial.directory is not None:
                blocks.append(code_block(trial.directory.log_tail()))
        parts.append(folded_section(f"Failed trials ({len(failed)})", "\n\n".join(blocks)))
    notes = "\n".join(f"- {note}" for note in _notes(report))
    parts.append(folded_section("How this was measured", notes))
    return "\n\n".join(parts) + "\n"


def _notes(report: SearchReport) -> list[str]:
    search = search_of(report.study)
    space = [f"{path}: {parameter}" for path, parameter in search.space.items()]
    drawn = f"Drawn by {search.sampler} with seed {search.seed}; pruner: {search.pruner.name}."
    return [drawn, *map(markdown_text, space), *_NOTES]


def search_html(report: SearchReport, pictures: Mapping[str, bytes]) -> str:
    """The page.

    Args:
        report: What to tell.
        pictures: PNG files by name.
    """
    parts = [listed(report.best_lines()), listed(report.warnings)]
    parts += [
        section(heading, [pictures[name]], caption, broad=True)
        for name, (heading, caption) in SEARCH_PLOTS.items()
        if name in pictures
    ]
    if report.trials:
        parts.append(headed("All trials", grid_table(trials_grid(report))))
    told = []
    for trial in _failed(report):
        name, reason = _failure(trial)
        told.append(f"<h3>{escaped(name)}</h3>\n{reason_block(reason)}")
        if trial.directory is not None:
            told.append(log_block(str(trial.directory.log), trial.directory.log_tail()))
    if told:
        parts.append(headed("Failed trials", "\n".join(told)))
    parts.append(headed("How this was measured", listed(_notes(report))))
    return page(f"Search {report.study.name}", report.status, "\n".join(filter(None, parts)))


def _pictures(report: SearchReport) -> dict[str, bytes]:
    """The plots as PNG files by name; none where no trial has ended."""
    if not ended_trials(report.trials):
        return {}
    search, found = search_of(report.study), {}
    plots: tuple[Any, ...] = (plot_trials, plot_parameters)
    for name, plot in zip(SEARCH_PLOTS, plots, strict=True):
        found[name] = SCREEN.png(plot(search, report.trials))
    return found
