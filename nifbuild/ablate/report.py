"""Writes all forms of a report into one folder."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nifbuild.ablate.cells import Store, write_file
from nifbuild.ablate.collect import collect
from nifbuild.ablate.gate import GateResult, check_gates, overall
from nifbuild.ablate.junit import junit_xml
from nifbuild.ablate.looks import note_look, read_looks
from nifbuild.ablate.markdown import report_markdown
from nifbuild.ablate.plots import write_plots
from nifbuild.ablate.results import REPORT_JSON, Results, load_results, study_results
from nifbuild.errors import RunError
from nifbuild.spec.study import Study


@dataclass(frozen=True)
class Report:
    """What a study has shown so far."""

    results: Results
    gates: Sequence[GateResult]

    def document(self) -> dict[str, Any]:
        """As plain data."""
        verdict = overall(self.gates) if self.gates else None
        gates = [gate.document() for gate in self.gates]
        return {"verdict": verdict, **self.results.document(), "gates": gates}

    def markdown(self) -> str:
        """As a comment on a pull request."""
        return report_markdown(self.results, self.gates)


def make_report(study: Study, store: Store, main: Path | None = None) -> Report:
    """Reads what is done of a study, and judges it; notes beside the cells that it was shown.

    Args:
        study: Which.
        store: Where its cells lie.
        main: The report of another branch, for gates `versus: main`.

    Raises:
        SpecError: There is no report at `main`, or a spec does not suit its data.
        RunError: The report at `main` is damaged, or a file may not be read.
    """
    other = None if main is None else load_results(main)
    results = study_results(study, collect(study, store))
    gates = check_gates(study, results, other, read_looks(store))
    note_look(store, results.seeds, results.cells)
    return Report(results, gates)


def write_report(report: Report, folder: Path) -> list[Path]:
    """Writes report.md, report.json, junit.xml and the plots; their paths.

    Raises:
        RunError: A file cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot write to {folder}: {error.strerror}") from error
    texts = {
        "report.md": report.markdown(),
        REPORT_JSON: json.dumps(report.document(), indent=1) + "\n",
        "junit.xml": junit_xml(report.results, report.gates),
    }
    for name, text in texts.items():
        write_file(folder / name, text)
    return [*(folder / name for name in texts), *write_plots(report.results, folder)]
