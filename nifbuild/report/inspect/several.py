"""What was found of one spec, or the totals of several, one below the other."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from nifbuild.errors import Problem
from nifbuild.report.inspect.result import Result
from nifbuild.report.show.markdown import markdown
from nifbuild.report.show.tables import Grid, print_grids
from nifbuild.report.show.units import bytes_text, change_text, count_text


@dataclass(frozen=True, slots=True)
class Several:
    """What was found of one spec or several.

    Attributes:
        results: By the file that the spec was read from.
    """

    results: dict[str, Result]

    @property
    def only(self) -> Result:
        """That of the only spec.

        Raises:
            ValueError: There are several.
        """
        if len(self.results) != 1:
            raise ValueError(f"there are {len(self.results)} results: take one of `results`")
        (result,) = self.results.values()
        return result

    @property
    def exceeded(self) -> Sequence[Problem]:
        """What costs more than a budget allows."""
        if len(self.results) == 1:
            return self.only.exceeded
        return [
            replace(problem, what=f"{file}: {problem.what}")
            for file, result in self.results.items()
            for problem in result.exceeded
        ]

    def document(self) -> dict[str, Any]:
        """As plain data: of several what is said of one, beside its file."""
        if len(self.results) == 1:
            return self.only.document()
        return {"specs": [{"file": f, **r.document()} for f, r in self.results.items()]}

    def print(self) -> None:
        """Draws the tables on stdout, to suit the width of the terminal."""
        if len(self.results) == 1:
            self.only.print()
            return
        print_grids([self._grid()])

    def markdown(self) -> str:
        """The tables as Markdown."""
        if len(self.results) == 1:
            return self.only.markdown()
        return markdown([self._grid()])

    def _grid(self) -> Grid:
        first = next(iter(self.results.values())).inspection
        rows = [row for file, result in self.results.items() for row in _rows(file, result)]
        headings = ["spec", "params", "MACs", "batch", "training peak", "inference peak"]
        if any(result.verified for result in self.results.values()):
            headings[4:] = ["predicted peak", "measured", "error"]
            headings += ["inference peak", "measured", "error"]
        title = f"{first.target.device}, {first.target.precision}, {first.optimizer.name}"
        return Grid(title, tuple(headings), 1, tuple(rows))


def _rows(file: str, result: Result) -> list[tuple[str, ...]]:
    """One for each batch size; what does not depend on it stands in the first."""
    inspection = result.inspection
    totals = (file, count_text(inspection.params), count_text(inspection.macs))
    rows = []
    for index, prediction in enumerate(inspection.predictions):
        memory = prediction.memory
        cells = [str(prediction.batch_size), bytes_text(memory.train_peak_bytes)]
        if result.verified:
            verified = result.verified[index]
            cells += [bytes_text(verified.measured_peak_bytes), change_text(verified.error)]
        cells.append(bytes_text(memory.inference_peak_bytes))
        if result.verified:
            inference = verified.measured_inference_bytes
            cells += [bytes_text(inference), change_text(verified.inference_error)]
        rows.append((*(totals if index == 0 else ("", "", "")), *cells))
    return rows
