"""Writes all forms of a report into one folder."""

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nifbuild.ablate.accuracy_plots import QUESTIONS, drawn
from nifbuild.ablate.cells import Store
from nifbuild.ablate.collect import collect
from nifbuild.ablate.comment import report_markdown
from nifbuild.ablate.forms import REPORT_JSON, with_seal
from nifbuild.ablate.gate import GateResult, check_gates, overall
from nifbuild.ablate.interim_looks import note_look, read_looks
from nifbuild.ablate.junit import junit_xml
from nifbuild.ablate.report_page import COMMENT, PAGE, report_html
from nifbuild.ablate.results import Results, load_results, study_results
from nifbuild.ablate.search_report import SEARCH_PLOTS, SearchReport
from nifbuild.ablate.study_tables import print_report
from nifbuild.machine import MAKER
from nifbuild.machine.sealed_text import is_sealed, sealed
from nifbuild.report.output_file import is_made_here, require_folder, written_folder
from nifbuild.runs.documents import as_json
from nifbuild.spec.study import Study

_OPTION = "--out"
_PLOTS = (*(question.file for question in QUESTIONS), *SEARCH_PLOTS)
_JUNIT = "junit.xml"
_TEXTS = (COMMENT, PAGE, _JUNIT)
_FILES = (*_TEXTS, REPORT_JSON, *_PLOTS)


@dataclass(frozen=True)
class Report:
    """What a study has shown so far."""

    results: Results
    gates: Sequence[GateResult]

    def document(self) -> dict[str, Any]:
        """As plain data."""
        verdict = overall(self.gates) if self.gates else None
        gates = [gate.document() for gate in self.gates]
        document = {"verdict": verdict, **self.results.document(), "gates": gates}
        return with_seal({"generator": MAKER, **document})

    def markdown(self) -> str:
        """As a comment on a pull request."""
        return sealed(report_markdown(self.results, self.gates)).decode()

    def show(self) -> None:
        """On stdout, for people."""
        print_report(self.results, self.gates)

    def files(self) -> dict[str, bytes]:
        """All forms of it, by name."""
        pictures = drawn(self.results)
        return {
            COMMENT: self.markdown().encode(),
            REPORT_JSON: as_json(self.document()),
            _JUNIT: sealed(junit_xml(self.results, self.gates)),
            PAGE: sealed(report_html(self.results, self.gates, pictures)),
            **pictures,
        }


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


def require_writable(folder: Path, *, overwrite: bool) -> None:
    """Raises SpecError unless a report can be written, over nothing but an earlier one."""
    require_folder(_OPTION, folder, _pattern(_FILES), overwrite=overwrite)


def changed_texts(folder: Path) -> list[Path]:
    """The texts of an earlier report that people have changed since."""
    texts = (folder / name for name in _TEXTS)
    return [path for path in texts if is_made_here(path) and not is_sealed(path)]


def write_report(
    report: Report | SearchReport,
    folder: Path,
    *,
    overwrite: bool = False,
    kept: Collection[Path] = (),
) -> list[Path]:
    """Writes report.md, report.html, report.json, junit.xml and the plots, or nothing; their paths.

    Args:
        report: What to tell; of a search there is no junit.xml.
        folder: A directory; made if need be.
        overwrite: In place of the report that was there before.
        kept: Files of that one that stay as they are.

    Raises:
        RunError: A file cannot be written.
    """
    free = [name for name in _FILES if folder / name not in kept]
    with written_folder(_OPTION, folder, _pattern(free), overwrite=overwrite) as aside:
        files = {name: content for name, content in report.files().items() if name in free}
        for name, content in files.items():
            (aside / name).write_bytes(content)
    return [folder / name for name in files]


def _pattern(names: Iterable[str]) -> str:
    return "|".join(map(re.escape, names))
