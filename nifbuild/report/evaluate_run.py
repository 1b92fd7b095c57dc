"""The figures of a run's model, and the confusion matrix as files."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nifbuild.errors import SpecError, keeping
from nifbuild.machine.loading import loading
from nifbuild.machine.options import (
    AnyPath,
    CheckpointOption,
    OverwriteOption,
    RunArgument,
    RunDeviceOption,
    checked,
)
from nifbuild.machine.processes import is_first
from nifbuild.spec.image_size import Pixels

if TYPE_CHECKING:
    from nifbuild.evaluate.result import Evaluations
    from nifbuild.machine.progress import Reporter

SplitOption = Annotated[
    str | None,
    typer.Option(
        help="train, validation, test or all.", show_default="that of the run's final figures"
    ),
]
DataOption = Annotated[
    AnyPath | None,
    typer.Option(
        help="Images in place of the run's: a file with a `data` section, or a folder of images, "
        "which are read as those of training were; classes are matched by name."
    ),
]
SizeOption = Annotated[
    Pixels | list[Pixels] | None,
    typer.Option(
        metavar="PIXELS",
        help="Sizes to bring the images to, such as 32,48,64 or 32x48 (height x width).",
        show_default="as --data wants, or as in the run",
    ),
]
ConfusionOption = Annotated[
    Sequence[AnyPath],
    typer.Option(
        "--confusion",
        metavar="FILE",
        show_default=False,
        help="Write the confusion matrix: .csv, or a picture as .png, .svg or .pdf. Repeatable.",
    ),
]
CsvOption = Annotated[
    AnyPath | None,
    typer.Option(
        "--csv",
        metavar="FILE",
        help="Write a table of all images: class, prediction, probability, loss.",
    ),
]
MistakesOption = Annotated[
    AnyPath | None,
    typer.Option(
        "--mistakes",
        metavar="FILE",
        help="Draw the worst mistakes to this .png, .svg or .pdf.",
    ),
]
BatchSizeOption = Annotated[
    int | None,
    typer.Option(min=1, help="Images at once, over all processes.", show_default="as in the run"),
]


@checked
def evaluate_run(
    run: RunArgument,
    *,
    split: SplitOption = None,
    checkpoint: CheckpointOption = "selected",
    data: DataOption = None,
    size: SizeOption = None,
    confusion: ConfusionOption = (),
    csv: CsvOption = None,
    mistakes: MistakesOption = None,
    overwrite: OverwriteOption = False,
    device: RunDeviceOption = None,
    batch_size: BatchSizeOption = None,
    report: "Reporter | None" = None,
) -> "Evaluations":
    """Evaluate a trained run: its final figures again, or those on other images.

    On the device that the run was trained on, its figures are the same to the
    last digit; on a processor with other instructions (AVX2, AVX-512) a few
    predictions may differ. --split all is for images that training has not seen.
    With --size, the table has a row for each size, and --json gives a list.

    Returns:
        The figures at each size. In a process of a launcher, this is one of several that evaluate
        together.

    Raises:
        SpecError: If an option is wrong, `run` is no run, the model cannot take the size, or the
            data has classes that the run did not learn, or no such split.
        RunError: If a file is missing or damaged, or one cannot be written.
    """
    with loading():
        from nifbuild.evaluate.of_run import evaluate_at_sizes
        from nifbuild.evaluate.per_image import PerImage
        from nifbuild.evaluate.result import Evaluations
        from nifbuild.evaluate.sizes import parse_sizes
        from nifbuild.report.confusion import save_confusion
        from nifbuild.report.image_figures import save_image_figures

    if is_first():
        require_writable(confusion=confusion, csv=csv, mistakes=mistakes, overwrite=overwrite)
    sizes = None if size is None else parse_sizes(size)
    for flag, given in (("--confusion", confusion), ("--csv", csv), ("--mistakes", mistakes)):
        if given and sizes is not None and len(sizes) > 1:
            raise SpecError(f"{flag} is for one size", fix="name one alone: --size 64")
    per_image = PerImage() if csv or mistakes else None
    results = evaluate_at_sizes(
        run,
        sizes,
        split=split,
        checkpoint=checkpoint,
        data=data,
        device=device,
        batch_size=batch_size,
        per_image=per_image,
        report=report,
    )
    found = Evaluations(tuple(results), sizes_given=sizes is not None)
    if is_first():
        with keeping(found):
            for file in confusion:
                save_confusion(found.only, Path(file), overwrite=overwrite)
            if per_image is not None:
                save_image_figures(per_image, _path(csv), _path(mistakes), overwrite=overwrite)
    return found


def require_writable(
    *,
    confusion: Sequence[AnyPath] = (),
    csv: AnyPath | None = None,
    mistakes: AnyPath | None = None,
    overwrite: bool = False,
    **others: object,
) -> None:
    """Raises SpecError for files that `evaluate_run` could not write, before it loads anything."""
    with loading():
        from nifbuild.report import confusion as matrix
        from nifbuild.report import image_figures

    matrix.require_writable([Path(file) for file in confusion], overwrite=overwrite)
    image_figures.require_writable(_path(csv), _path(mistakes), overwrite=overwrite)


def _path(given: AnyPath | None) -> Path | None:
    return None if given is None else Path(given)
