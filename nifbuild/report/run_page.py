"""What a run leaves for people at its end: a model card, and a page with curves and images."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from nifbuild.errors import counted
from nifbuild.machine.sealed_text import kept
from nifbuild.report.augmented_images import augmented_images, plot_augmented
from nifbuild.report.image_figures import plot_mistakes
from nifbuild.report.model_card import write_run_card
from nifbuild.report.show.plots import SCREEN
from nifbuild.report.show.web_page import folded, headed, page, preformatted, section, table
from nifbuild.report.side_by_side.comparison_page import curves_section
from nifbuild.report.side_by_side.curves import plot_curves
from nifbuild.report.side_by_side.recorded import Recorded, recorded
from nifbuild.report.summary import class_grid, figure_rows, speed_rows
from nifbuild.runs.ownership import PAGE

if TYPE_CHECKING:
    from nifbuild.runs.documents import Document
    from nifbuild.train.finished import Finished

_AUGMENTED = (
    "Images from all over the training split, as evaluation would see them, and as the first steps "
    "would, had they been their batch."
)
_MISTAKES = "Of the final evaluation. More, and all images as a table: nifbuild evaluate."


def describe_run(finished: "Finished") -> None:
    """Writes card and page of a run that is complete; those that people have changed stay.

    Raises:
        RunError: An image cannot be read any more, or the page cannot be written.
    """
    write_run_card(finished.directory, finished.report)
    if not finished.directory.write_page(PAGE, run_html(finished)):
        finished.report.warning(kept(finished.directory.path / PAGE))


def run_html(finished: "Finished") -> str:
    """The page."""
    run = finished.directory
    found, result = recorded(run.path), run.result()
    assert result is not None  # as it is complete
    name = finished.resolved.name
    facts = f"{run.path}: {counted(result['epochs'], 'epoch')}, final figures on {result['split']}"
    return page(name, facts, "\n".join(_sections(finished, found, result)), "See README.md, too.")


def _sections(finished: "Finished", found: Recorded, result: "Document") -> Iterator[str]:
    rows = [*figure_rows(result), *speed_rows(result)]
    if (params := result.get("params")) is not None:
        rows.append(("parameters", f"{params:,}"))
    yield table(["figure", "value"], rows)
    yield curves_section(SCREEN.png(plot_curves([found], [found.name])))
    if finished.per_image is not None and any(not i.is_right for i in finished.per_image.figures):
        mistakes = SCREEN.png(plot_mistakes(finished.per_image))
        yield section("Worst mistakes", [mistakes], _MISTAKES, broad=True)
    sheet = plot_augmented(augmented_images(finished.resolved, finished.data))
    yield section("Training images", [SCREEN.png(sheet)], _AUGMENTED, broad=True)
    classes = class_grid(result)
    yield headed(classes.title.capitalize() or "Classes", table(classes.headings, classes.rows))
    yield headed("Spec", folded("spec.yaml", preformatted(finished.resolved.text)))
