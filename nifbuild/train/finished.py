"""A run that is complete, for what tells people of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nifbuild.data import ImageData
from nifbuild.evaluate.per_image import PerImage
from nifbuild.machine.progress import Reporter
from nifbuild.runs.directory import RunDirectory

if TYPE_CHECKING:
    from nifbuild.spec.resolve import Resolved


@dataclass(frozen=True)
class Finished:
    """The run, and what it still has in its hands.

    Attributes:
        directory: The run on disk, complete; no other process writes to it.
        resolved: Its spec.
        data: Its images.
        per_image: What the final evaluation has found of each image; None where each pixel has a
            class.
        report: Hears of what people have to know.
    """

    directory: RunDirectory
    resolved: "Resolved"
    data: ImageData
    per_image: PerImage | None
    report: Reporter


Telling = Callable[[Finished], None]
"""What is called in the first process once a run is complete."""


def tell(finished: Finished, telling: Telling) -> None:
    """Lets `telling` do its work; what goes wrong in it is a warning, as the run has not."""
    try:
        telling(finished)
    except Exception as error:
        path = finished.directory.path
        finished.report.warning(f"{path} is complete, but could not be described: {error}")
