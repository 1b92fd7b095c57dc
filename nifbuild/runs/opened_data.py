"""The data of a run: opened, decoded, described."""

from typing import TYPE_CHECKING, Any

from accelerate import Accelerator

from nifbuild.data import Catalog, ImageData, open_data
from nifbuild.data.decode import colours
from nifbuild.errors import Problem, SpecError, shown
from nifbuild.machine.processes import own_cores
from nifbuild.machine.progress import Reporter

if TYPE_CHECKING:
    from nifbuild.spec.resolve import Resolved

_NAMED_IMAGES = 3


def open_for(resolved: "Resolved", report: Reporter | None = None) -> tuple[Catalog, "Resolved"]:
    """The spec's data, and the spec with its number of classes; `report` hears of copies made.

    Raises:
        SpecError: If there is no data, or it does not suit the model.
    """
    if resolved.spec.data is None:
        raise SpecError(
            Problem(
                f"{resolved.name} has no data",
                path="data",
                fix="write a `data:` section, or name a file that has one: --data FILE",
                code="no-data",
            )
        )
    colours(resolved.spec.input.channels)
    catalog = open_data(resolved.spec.data, (report or Reporter()).note)
    return catalog, resolved.adopt(catalog.num_classes)


def load_images(
    catalog: Catalog,
    resolved: "Resolved",
    accelerator: Accelerator,
    report: Reporter,
    size: tuple[int, int] | None = None,
) -> ImageData:
    """Decodes the data, to the size of the model's input unless another one is given.

    The first process goes ahead, so that the others find a filled cache.
    """
    with accelerator.main_process_first():
        shape = resolved.spec.input
        channels = colours(shape.channels)
        return catalog.load(channels, size or shape.size, report.loading, own_cores())


def warn_left_out(data: ImageData, report: Reporter, listed: str = "") -> None:
    """Says what is not used, and which images cannot be read; `listed`: where to find all."""
    for note in data.notes:
        report.warning(note)
    count = len(data.unreadable)
    if not count:
        return
    names = [shown(f"{image}: {reason}") for _, image, reason in data.unreadable[:_NAMED_IMAGES]]
    if count > len(names):
        names.append(f"and {count - len(names):,} more{listed}")
    one = "1 image is left out, as it cannot be read:"
    many = f"{count:,} images are left out, as they cannot be read:"
    report.warning("\n  ".join([one if count == 1 else many, *names]))


def describe_data(data: ImageData) -> dict[str, Any]:
    """What a run records of its data: names, normalisation, sizes, and what was left out."""
    return {
        "class_names": list(data.class_names),
        "mean": data.mean.tolist(),
        "std": data.std.tolist(),
        "fingerprint": data.fingerprint,
        "splits": {split: len(images) for split, images in data.splits.items()},
        "unreadable": [
            {"split": split, "image": image, "reason": reason}
            for split, image, reason in data.unreadable
        ],
        "notes": list(data.notes),
    }
